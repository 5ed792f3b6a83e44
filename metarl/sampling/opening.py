"""Which sampler serves an environment: rows of arrays for the papers' worlds, workers with graphs for robots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metarl.graphs import act_graph, adapt_graph
from metarl.informed import Plain
from metarl.learners.learner import Learner, Online
from metarl.memory import Memory
from metarl.problem import Problem
from metarl.sampling.batch import BatchSampler
from metarl.sampling.processes import make_sampler
from metarl.sampling.ray_cluster import Cluster, RaySampler
from metarl.sampling.serial import Sampler
from metarl.sampling.worker import Actor

Workers = int | Cluster  # processes of this machine, or a cluster's actors


def workers_of(processes: int | None, ray: str | None) -> Workers:
    """As command lines give them: two processes unless told otherwise, or a cluster."""
    if ray is not None:
        return Cluster(ray, processes)
    return 2 if processes is None else processes


def actor_of(learner: Learner) -> Plain | Memory | Actor:
    """How a learner acts while it is trained, for `open_sampler`."""
    if isinstance(learner, Online):
        return Actor(act_graph(learner.network), adapt=adapt_graph(learner, whole=True), plan=learner.plan)
    return learner.network


def open_sampler(
    problem: Problem, networks: Mapping[str, Plain | Memory | Actor], workers: Workers, privileged: Sequence[str] = ()
) -> Sampler:
    """networks: by the name that trials give their actor; those in `privileged` also see the encoded task. What is an
    Actor already stays as it is.

    workers: processes, or a cluster; 0 simulates in this one, and so does anything in the papers' worlds, which are
    rows of arrays.
    """
    if problem.classic:
        plain = {name: network for name, network in networks.items() if not isinstance(network, Actor)}
        assert len(plain) == len(networks), "exported policies act on robots"
        return BatchSampler(problem.classic, plain, privileged)
    actors = {
        name: network if isinstance(network, Actor) else Actor(act_graph(network), name in privileged)
        for name, network in networks.items()
    }
    if isinstance(workers, Cluster):
        return RaySampler(problem.env, actors, workers, problem.options)
    return make_sampler(problem.env, actors, workers, problem.options)
