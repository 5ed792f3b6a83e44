"""Motions seen in several passes: nothing new is simulated, nothing is lost, and each task keeps what is its own."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from envs.tasks import Task
from metarl.config import default
from metarl.episodes import Episodes
from metarl.replay import replayed


class Source:
    """Motions that say of which task, and which of its motions, they are; and how often any were gathered."""

    def __init__(self, config):
        self.config, self.gathered = config, []

    def __call__(self, iteration: int):
        config = self.config
        self.gathered.append(iteration)
        tasks = [iteration * config.tasks + index for index in range(config.tasks)]
        which = np.arange(config.episodes + config.query)
        said = (1000.0 * np.array(tasks)[:, None] + which)[..., None]
        whole = Episodes(said[..., None], said[..., None], said, said, said).map(np.float32)
        support = whole.map(lambda field: field[:, : config.episodes])
        query = whole.map(lambda field: field[:, config.episodes :])
        return [Task({"number": (float(task),)}) for task in tasks], [support] * config.inner_steps + [query]


@given(fresh=st.integers(1, 4), passes=st.integers(2, 4), tasks=st.integers(1, 4), seed=st.integers(0, 9))
def test_each_pass_sees_all_motions_of_all_tasks_once_and_gathers_none_again(fresh, passes, tasks, seed):
    config = replace(
        default("metasgd"), iterations=fresh * passes, passes=passes, tasks=tasks, episodes=2, query=3, seed=seed
    )
    source = Source(config)
    again = replayed(source, config)
    for turn in range(passes):
        seen = []
        for iteration in range(fresh * turn, fresh * (turn + 1)):
            those, batches = again(iteration)
            assert len(batches) == config.inner_steps + 1
            assert all(one is batches[0] for one in batches[:-1])
            assert batches[0].mask.shape == (tasks, 2, 1)
            assert batches[-1].mask.shape == (tasks, 3, 1)
            found = np.concatenate([batches[0].mask, batches[-1].mask], 1)[..., 0]
            for task, own in zip(those, found, strict=True):
                number = task["number"][0]
                assert sorted(own) == [1000 * number + which for which in range(5)]
                seen.append(number)
        assert sorted(seen) == list(range(fresh * tasks))
    assert source.gathered == list(range(fresh))
    assert config.fresh == fresh


def test_a_later_pass_adapts_to_other_motions_and_is_the_same_for_who_goes_on():
    config = replace(default("metasgd"), iterations=40, passes=4, tasks=5)
    one, other = replayed(Source(config), config), replayed(Source(config), config)
    through = [one(iteration) for iteration in range(40)]
    tasks, batches = other(35)
    assert tasks == through[35][0]
    assert np.array_equal(batches[0].mask, through[35][1][0].mask)
    supports = [{value for _, batches in through[at : at + 10] for value in batches[0].mask.ravel()} for at in (0, 30)]
    assert supports[0] != supports[1]
