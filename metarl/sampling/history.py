"""What a policy with history sees: its last few observations, and what it did between them. numpy only."""

from __future__ import annotations

from collections import deque

import numpy as np

from metarl.episodes import Float


class History:
    """The last `length` pairs of observation and the action before it, the latest first; zeros before the start."""

    def __init__(self, length: int, observation: int, action: int) -> None:
        self._blank = np.zeros(observation + action, np.float32)
        self._pairs: deque[Float] = deque(maxlen=length)
        self._action = np.zeros(action, np.float32)

    def start(self) -> None:
        """A new episode."""
        self._pairs.extend([self._blank] * (self._pairs.maxlen or 0))
        self._action = np.zeros_like(self._action)

    def see(self, observation: Float) -> Float:
        """What the policy sees [length * (observation + action)]."""
        self._pairs.appendleft(np.concatenate([observation, self._action]))
        return np.concatenate(self._pairs)

    def act(self, action: Float) -> None:
        self._action = np.asarray(action, np.float32)
