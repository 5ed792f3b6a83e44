"""Train and judge what the project claims, cell by cell, and write the pages that show it."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from re import findall

from metarl.console import main, stdout


@dataclass(frozen=True)
class Args:
    """Run the next missing cells: each is a training run and its verdict on tasks that it never saw, kept as JSON.

    Interrupted cells go on where they stopped. Pages are made anew from all verdicts that there are.
    """

    only: str = "*"
    """Cells whose name matches, such as 'papers/sinusoid/*' or '*/0'."""
    cells: int = 0
    """How many to run at most; 0 only makes the pages."""
    list: bool = False
    """List the cells and which of them are missing, and do nothing."""
    film: tuple[str, str] | None = None
    """Instead, film the first held-out world of a deployment's row, such as --film a1 'nominal, then zeros', as those
    meet it whose runs are in --runs."""
    workers: int = 2
    """Simulating processes, for robots; 0 simulates in this one."""
    runs: Path = Path("runs/evidence")
    """Folder for the runs."""
    docs: Path = Path("docs/evidence")
    """Folder for the verdicts; the pages are written beside it."""


def run(args: Args) -> None:
    # Not at the top: every simulating process imports this file, and needs none of it.
    from metarl.evidence import deployment, papers, places, robots, room
    from metarl.files import write_atomic

    if args.cells < 0:
        raise ValueError(f"cells is {args.cells}, expected 0 or more")
    console = stdout()
    if args.film:
        out = args.docs.parent / f"deployment-{'-'.join(findall('[a-z0-9]+', ' '.join(args.film)))}.gif"
        deployment.film(*args.film, args.runs, out)
        console.print(f"wrote {out}", highlight=False)
        return
    cells = [cell for cell in (*papers.cells(), *robots.cells(), *places.cells()) if fnmatch(cell.name, args.only)]
    if not cells:
        raise ValueError(f"no cell matches {args.only!r}; --list shows all of them")
    missing = [cell for cell in cells if cell.read(args.docs) is None]
    if args.list:
        for cell in cells:
            console.print(f"{'missing' if cell in missing else 'there  '} {cell.name}", highlight=False)
        return
    for cell in missing[: args.cells]:
        console.print(f"{cell.name} ({len(missing)} missing)", highlight=False)
        cell.run(args.runs, args.docs, args.workers, console)
    for page in (papers, robots, room, deployment):
        write_atomic(args.docs.parent / page.PAGE, page.markdown(args.docs).encode())
    for name, picture in deployment.pictures(args.docs).items():
        write_atomic(args.docs.parent / name, picture)


if __name__ == "__main__":
    main(Args, run)
