"""Telling rewards from what is remembered: who knows the task can, who does not cannot, and padding is not asked."""

from math import sqrt

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.recall import Recall

ARMS, TRIALS, TIME = 3, 200, 12


def lived() -> tuple[Tensor, dict[str, Tensor]]:
    """What each arm pays [trial, arm], and trials in which arms were pulled at random; the last steps are padding.

    The observation says by how much more everything pays in this step.
    """
    generator = torch.Generator().manual_seed(0)
    pays = torch.randn(TRIALS, ARMS, generator=generator)
    pulled = torch.randint(ARMS, (TRIALS, TIME), generator=generator)
    more = torch.randn(TRIALS, TIME, generator=generator)
    mask = (torch.arange(TIME) < torch.randint(1, TIME + 1, (TRIALS, 1), generator=generator)).float()
    data = {
        "observation": more[..., None],
        "action": torch.nn.functional.one_hot(pulled, ARMS).float(),
        "standardised": torch.where(mask > 0, pays.gather(1, pulled) + more, torch.nan) / sqrt(2),
        "mask": mask,
    }
    return pays, data


def learned(recalled: Tensor, data: dict[str, Tensor]) -> float:
    """The error after training."""
    recall, rng = Recall(recalled.shape[-1], 1, ARMS), np.random.default_rng(0)
    theta = recall.initial(0).requires_grad_()
    adam = torch.optim.Adam([theta], 1e-2)
    for _ in range(150):
        error = recall.error(theta, recalled, data, rng)
        adam.zero_grad()
        error.backward()
        adam.step()
    return error.item()


def test_who_knows_the_task_tells_its_rewards_and_who_does_not_cannot():
    pays, data = lived()
    assert learned(pays[:, None].expand(-1, TIME, -1), data) < 0.1
    assert learned(torch.ones(TRIALS, TIME, ARMS), data) == pytest.approx(0.5, abs=0.1)  # by observation alone


def test_past_and_future_are_asked_about_alike():
    """Who answers 1 to every question is wrong by 2 in a second half where -1 is paid, wherever he stands."""
    half = torch.arange(TIME) < TIME // 2
    data = {
        "observation": torch.ones(TRIALS, TIME, 1),
        "action": torch.ones(TRIALS, TIME, ARMS),
        "standardised": torch.where(half, 1.0, -1.0).expand(TRIALS, -1),
        "mask": torch.ones(TRIALS, TIME),
    }
    recall, rng = Recall(1, 1, ARMS), np.random.default_rng(0)
    theta = recall.initial(0)
    theta[:] = 0
    theta[-1] = 1.0  # the bias of the answer: "1" to every question
    assert recall.error(theta, torch.zeros(TRIALS, TIME, 1), data, rng).item() == pytest.approx(2, abs=0.1)


def test_its_slope_reaches_the_memory_only_at_moments_that_were_lived():
    pays, data = lived()
    recall = Recall(ARMS, 1, ARMS)
    recalled = pays[:, None].repeat(1, TIME, 1).requires_grad_()
    recall.error(recall.initial(0), recalled, data, np.random.default_rng(0)).backward()
    assert recalled.grad is not None
    reached = (recalled.grad != 0).any(-1)
    assert reached.sum() > 0.5 * data["mask"].sum()
    assert not reached[data["mask"] == 0].any()
