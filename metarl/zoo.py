"""How the bundles that come with the package are made, each by one command, with a card that says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from export.device.zoo import FOLDER
from metarl.benchmarks.machine import machine
from metarl.checkpoint import Run
from metarl.config import DEFAULTS
from metarl.evidence import deployment, places
from metarl.evidence.cell import spent, timed
from metarl.files import write_atomic
from metarl.pack import pack
from metarl.pipeline import BUNDLE, FILM, whole
from metarl.report import markdown

TASKS = 100  # held-out worlds for the tables of who adapts between attempts
FILMED = "nominal, then zeros"  # row of the suite
ROOT = FOLDER.parents[1]
EVIDENCE, FILMS = ROOT / "docs" / "evidence", ROOT / "docs" / "zoo"


class Made(NamedTuple):
    run: Run
    bundle: Path
    film: Path
    tables: str


@dataclass(frozen=True)
class Model:
    """says: what it does, and what it is for. make: in a folder for runs, with so many processes."""

    says: str
    make: Callable[[Path, int, Console], Made]


def _reach(runs: Path, workers: int, console: Console) -> Made:
    out = runs / "panda-reach"
    with timed(out):
        heldout, beyond, _ = whole(DEFAULTS["demonstration"], out, TASKS, workers, console)
    return Made(Run(out), out / BUNDLE, out / FILM, f"{markdown(heldout)}\n{markdown(beyond)}")


def _walk(runs: Path, workers: int, console: Console) -> Made:
    cells = places.cells()
    (cell,) = (cell for cell in cells if cell.name == "deployment/a1/belief/0")
    out = runs / cell.name
    if cell.read(EVIDENCE) is None:
        cell.run(runs, EVIDENCE, workers, console)
    with timed(out):
        cell.train(out, workers, console)
    run = Run(out)
    pack(run, out / BUNDLE)
    deployment.film("a1", FILMED, runs, out / FILM, ("belief, 0 steps", "belief"))
    tables = [deployment.section("a1", draw, cells, EVIDENCE) for draw in deployment.WHERE]
    return Made(run, out / BUNDLE, out / FILM, "\n".join(tables))


MODELS: Mapping[str, Model] = {
    "a1-walk": Model(
        "A1 walks as fast as it is told. While it walks it infers every half second, from the errors of its forecasts, "
        "what its body and its senses are like: joint zeros, payload, friction, IMU mount, delay. Mind the tables: "
        "what it gains over domain randomization, most where joint zeros are off, is about a third of what an oracle "
        "would; with a payload it loses a little, and in MuJoCo on slippery ground and with a delay, too.",
        _walk,
    ),
    "panda-reach": Model(
        "A Panda reaches for targets that it sees through a camera of unknown position. Led by hand to five of them, "
        "it takes three gradient steps on what it felt and saw.",
        _reach,
    ),
}


def make(name: str, runs: Path, workers: int, console: Console) -> None:
    """Train or go on in `runs`, judge, export and film; bundle and card land in the zoo. KeyError for another name."""
    made = MODELS[name].make(runs, workers, console)
    write_atomic(FOLDER / f"{name}.zip", made.bundle.read_bytes())
    write_atomic(FILMS / f"{name}.gif", made.film.read_bytes())
    write_atomic(FOLDER / f"{name}.md", card(name, made).encode())


def card(name: str, made: Made) -> str:
    config = made.run.config
    size, minutes = made.bundle.stat().st_size, spent(made.run.path) / 60
    return f"""# zoo:{name}

{MODELS[name].says}

![before and after it adapts](../../docs/zoo/{name}.gif)

```
python scripts/adapt.py zoo:{name}                                # in simulation
python -m export.device zoo:{name} --driver MODULE:CLASS          # on a robot, with the base install
python scripts/zoo.py {name}                                      # trains, judges and exports it anew
```

Learner `{config.learner}` on `{config.env}`, seed {config.seed}: {config.iterations} iterations of
{config.episodes_per_iteration} attempts or motions, {minutes:.0f} minutes of training on {machine()["processor"]}. The
bundle has {size:,} bytes. It has met simulated robots alone.

{made.tables}"""
