"""The benchmark of meta-gradients: what it counts, and that both sides compute the same thing."""

from importlib.util import find_spec

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from metarl.benchmarks import meta
from metarl.networks import MLP


def test_the_products_that_count_are_those_that_a_meta_gradient_does():
    """A pass forward and back through each of the two losses, and the product with the Hessian: nothing twice."""
    ours = meta._policy(meta._unused, 1, 2, 30)[1]
    with FlopCounterMode(display=False) as counter:
        ours()
    counted = sum(2 * samples * inputs * outputs for _, samples, inputs, outputs in meta._shapes(meta.POLICY, 30))
    assert counter.get_total_flops() == 2 * counted


def test_a_linear_policy_needs_nothing_but_its_data_and_errors():
    assert [kind for kind, *_ in meta._shapes(MLP(3, 2, ()), 5)] == ["forward"] * 3 + ["weights"] * 3


@pytest.mark.skipif(find_spec("learn2learn") is None, reason="learn2learn is not installed")
@pytest.mark.parametrize("steps", [1, 3])
def test_learn2learn_finds_the_same_gradient(steps: int):
    maml = meta._learn2learn()
    theirs, ours = (work() for work in meta._policy(maml, steps, 2, 20, torch.float64))
    assert (theirs - ours).norm() <= 1e-12 * theirs.norm()
    theirs, ours = (work() for work in meta._sinusoid(maml, steps))
    assert ours[-1] == 0  # the spread, of which a squared error knows nothing
    assert (theirs - ours[:-1]).norm() <= 1e-5 * theirs.norm()


def test_without_learn2learn_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(meta, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install --no-deps learn2learn"):
        meta._learn2learn()
