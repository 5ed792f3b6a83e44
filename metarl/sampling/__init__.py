"""Where episodes come from: one interface, the same numbers however many workers."""
