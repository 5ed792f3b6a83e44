"""How fast the house is: every figure a ratio, or a time, measured side by side in one run."""
