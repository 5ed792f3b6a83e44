"""Rewards: pure functions of small arrays."""

from __future__ import annotations

import numpy as np

from robots.spec import Array


def closeness(tool: Array, target: Array) -> float:
    """Minus the distance between tool and target [m], both [3] in the same frame."""
    return -float(np.linalg.norm(tool - target))
