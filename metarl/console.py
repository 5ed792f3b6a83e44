"""How every script starts, shows progress, and fails."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from inspect import cleandoc
from typing import Any, Protocol, TypeVar

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from metarl.config import tuples
from metarl.sampling.ledger import SamplingError

A = TypeVar("A")
PLAIN_SECONDS = 15.0  # between lines where there is no terminal


class Interrupted(KeyboardInterrupt):
    """A signal ended something that can go on later; the message says how. number: the signal's."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


def stdout() -> Console:
    """The user's terminal; in a file, wide enough for a table."""
    console = Console()
    return console if console.is_terminal else Console(width=130)


class Show(Protocol):
    """Tell how much is done, and a few figures."""

    def __call__(self, done: int, figures: str = "") -> None: ...


@contextmanager
def progress(console: Console, what: str, total: int) -> Iterator[Show]:
    """A bar with the time left; in a log file, a line now and then."""
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn())
        ends = (TextColumn("{task.fields[figures]}"), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, *ends, console=console) as bar:
            task = bar.add_task(what, total=total, figures="")
            yield lambda done, figures="": bar.update(task, completed=done, figures=figures)
        return
    started = told = time.monotonic()
    first: int | None = None

    def line(done: int, figures: str = "") -> None:
        nonlocal told, first
        first = done if first is None else first
        now = time.monotonic()
        if now - told >= PLAIN_SECONDS or done == total:
            told = now
            left = (now - started) / max(done - first, 1) * (total - done)
            console.print(f"{what} {done}/{total} {figures}, {now - started:.0f} s, {left:.0f} s left", highlight=False)

    yield line


def options_of(text: str) -> dict[str, Any]:
    """Fields of a job from a command line. Raises ValueError unless it is a JSON object."""
    return tuples(object_of("options are", text, '{"horizon": 500}'))


def object_of(what: str, text: str, such_as: str) -> dict[str, Any]:
    """A JSON object from a command line. Raises ValueError for anything else, saying `what` it was to be."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{what} {text!r}, expected JSON such as '{such_as}' ({error})") from error
    if not isinstance(values, dict):
        raise ValueError(f"{what} {text!r}, expected a JSON object such as '{such_as}'")
    return values


def main(arguments: type[A], run: Callable[[A], None]) -> None:
    """Parse the command line into `arguments` and run. Errors that a user can mend exit with 2 and one line."""
    args = tyro.cli(arguments, description=cleandoc(arguments.__doc__ or ""))
    try:
        run(args)
    except (ValueError, FloatingPointError, OSError, SamplingError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    except BrokenProcessPool:
        print("error: a simulating process died, for want of memory perhaps; go on with --resume", file=sys.stderr)
        sys.exit(2)
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(128 + stopped.number)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
