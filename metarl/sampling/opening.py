"""Which sampler serves an environment: rows of arrays for the papers' worlds, workers with graphs for robots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metarl.graphs import act_graph
from metarl.memory import Memory
from metarl.networks import MLP
from metarl.problem import Problem
from metarl.sampling.batch import BatchSampler
from metarl.sampling.processes import make_sampler
from metarl.sampling.serial import Sampler
from metarl.sampling.worker import Actor


def open_sampler(
    problem: Problem, networks: Mapping[str, MLP | Memory], workers: int, privileged: Sequence[str] = ()
) -> Sampler:
    """networks: by the name that trials give their actor; those in `privileged` also see the encoded task.

    workers: processes; 0 simulates in this one, and so does any number in the papers' worlds, which are rows of arrays.
    """
    if problem.classic:
        return BatchSampler(problem.classic, networks, privileged)
    actors = {name: Actor(act_graph(network), name in privileged) for name, network in networks.items()}
    return make_sampler(problem.env, actors, workers, problem.options)
