"""Markdown of verdicts: one line per learner, means over seeds and the spread between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from metarl.statistics import interquartile


def table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The seeds' mean, and the lowest and highest of them."""
    if not values:
        return "not run"
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def pooled(lines: Sequence[str], digits: int = 2, scale: float = 1.0) -> str:
    """Interquartile mean over tasks and seeds, with its 95 % bootstrap interval, of each seed's line of values."""
    if not lines:
        return "not run"
    found = interquartile(np.array([line.split() for line in lines], np.float64) * scale)
    return f"{found['mean']:.{digits}f} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"


def minutes(verdicts: Sequence[dict[str, Any]]) -> str:
    """Mean wall time of training."""
    return f"{np.mean([v['training_seconds'] for v in verdicts]) / 60:.1f}" if verdicts else ""
