"""verify passes what agrees and refuses what does not."""

import math

import numpy as np
import pytest
import torch

from export.device.policy import open_policy
from export.graphs import export_graph
from export.verify import VerificationError, verify


def test_what_agrees_passes_and_is_reported(toy):
    report = verify(toy.theta, toy.act, toy.act_graph, toy.adapt, toy.adapt_graph, seeds=(0, 1))
    assert report.act < 1e-6
    assert report.first < 1e-5
    assert report.chained < 1e-4
    assert (report.steps, report.cases) == (3, 20)


def test_a_policy_without_adaptation_is_verified_too(toy):
    report = verify(toy.theta, toy.act, toy.act_graph)
    assert report.act < 1e-6
    assert math.isnan(report.chained)


@pytest.mark.parametrize("factor", [1.0001, float("nan")])
def test_another_act_is_refused(toy, factor):
    def other(theta, observation):
        mean, log_std = toy.act(theta, observation)
        return mean * factor, log_std

    with pytest.raises(VerificationError, match=r"act differs by \S+ between torch and ONNX Runtime, expected at most"):
        verify(toy.theta, other, toy.act_graph)


def test_another_adapt_is_refused(toy):
    def other(theta, step, *batch):
        following, *rest = toy.adapt(theta, step, *batch)
        return theta + (following - theta) * 1.001, *rest

    with pytest.raises(VerificationError, match=r"relative errors of theta's displacement are 9\.99e-04"):
        verify(toy.theta, toy.act, toy.act_graph, other, toy.adapt_graph)


def test_an_error_that_shows_only_beyond_the_last_step_size_is_found(toy):
    with pytest.raises(VerificationError, match="beyond the last step size"):
        verify(
            toy.theta,
            toy.act,
            toy.act_graph,
            lambda theta, step, *batch: toy.adapt(theta, step if step < 3 else step * 0, *batch),
            toy.adapt_graph,
        )


def test_disagreement_on_what_is_finite_is_refused(toy):
    def other(theta, step, *batch):
        *rest, _ = toy.adapt(theta, step, *batch)
        return *rest, torch.tensor(False)

    with pytest.raises(VerificationError, match="finite for ONNX Runtime alone"):
        verify(toy.theta, toy.act, toy.act_graph, other, toy.adapt_graph)


def test_a_policy_with_memory_is_followed_through_trials(remembering):
    report = verify(remembering.theta, remembering.act, remembering.graph)
    assert report.act < 1e-6
    assert math.isnan(report.chained)


@pytest.mark.parametrize("output", [0, 1, 2])
def test_another_act_with_memory_is_refused(remembering, output):
    def other(*inputs):
        outputs = list(remembering.act(*inputs))
        outputs[output] = outputs[output] * 1.0001
        return outputs

    with pytest.raises(VerificationError, match="act differs by"):
        verify(remembering.theta, other, remembering.graph)


def test_a_difference_that_only_memory_brings_out_is_found(remembering):
    """Equal in every first step, and so by any single call from zero memory."""

    def other(theta, memory, observation, feedback):
        return remembering.act(theta, memory * 1.001, observation, feedback)

    verify(remembering.theta, other, remembering.graph, stream=1)
    with pytest.raises(VerificationError, match="act differs by"):
        verify(remembering.theta, other, remembering.graph, stream=2)


def test_each_side_keeps_its_own_memory(remembering):
    """A difference of 3e-6 in a step would pass if one side's memory were handed to the other."""

    def other(theta, memory, observation, feedback):
        mean, log_std, following = remembering.act(theta, memory, observation, feedback)
        return mean, log_std, following + 3e-6

    verify(remembering.theta, other, remembering.graph, stream=1)
    with pytest.raises(VerificationError, match="act differs by"):
        verify(remembering.theta, other, remembering.graph)


def test_one_hot_actions_have_no_log_std_to_compare():
    def act(theta, memory, observation, feedback):
        return theta[:2] + observation[:2] * memory[:2], theta[:0], torch.tanh(memory + feedback[:3])

    sizes = {"theta": 5, "memory": 3, "observation": 4, "feedback": 4}
    example = {name: torch.zeros(size) for name, size in sizes.items()}
    graph = export_graph(act, example, ("mean", "log_std", "memory_next"))
    assert open_policy(graph).discrete
    assert verify(np.ones(5), act, graph).act < 1e-6
