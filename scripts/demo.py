"""The main job, end to end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from metarl.config import DEFAULTS
from metarl.console import main, stdout

OBJECTIVE = {"reach": "demonstration", "seek": "reward"}


@dataclass(frozen=True)
class Args:
    """Train, evaluate beside all baselines, export, verify, and film one robot before and after it adapts.

    Act "reach": a Panda whose camera is mounted askew adapts from five guided motions. Act "seek": a Panda that
    sees no target adapts from a measured distance. Interrupted, it goes on where it stopped.
    """

    act: Literal["reach", "seek"] = "reach"
    """Which of the two."""
    out: Path = Path("runs/demo")
    """Folder for the run and everything made from it."""
    tasks: int = 100
    """Held-out worlds to evaluate on."""
    workers: int = 2
    """Simulating processes."""
    seed: int = 0
    """Seed of training."""


def run(args: Args) -> None:
    # Not at the top: every simulating process imports this file, and needs none of it.
    from metarl.checkpoint import Run
    from metarl.evaluation import evaluate
    from metarl.files import write_atomic, write_json
    from metarl.pack import pack
    from metarl.report import markdown, plot, table
    from metarl.trainer import train
    from metarl.video import film

    console = stdout()
    config = replace(DEFAULTS[OBJECTIVE[args.act]], seed=args.seed)
    out = args.out
    resume = (out / "config.json").exists()
    if resume and Run(out).config != config:
        raise ValueError(f"{out} holds a run with other settings than the demo's; choose another --out or remove it")
    trained = train(config, out, args.workers, resume, console)
    console.print("adapting with ONNX Runtime on worlds that nobody trained in")
    results = evaluate(trained, "heldout", args.tasks, workers=args.workers, console=console)
    tuned = results["finetune_step_sizes"]
    beyond = evaluate(trained, "extrapolation", args.tasks, workers=args.workers, console=console, step_sizes=tuned)
    for name, found in (("results", results), ("extrapolation", beyond)):
        write_json(out / f"{name}.json", found)
        write_atomic(out / f"{name}.md", markdown(found).encode())
    plot(results, out / "adaptation.png")
    report = pack(trained, out / "bundle.zip", [results, beyond])
    film(out / "bundle.zip", config.env, out / "before_after.gif", seed=args.seed)
    console.print(table(results), table(beyond))
    console.print(
        f"torch and ONNX Runtime agree on theta' - theta to {report.first:.0e} after 1 step and {report.chained:.0e} "
        f"after {report.steps}.\nIn {out}: results.json, extrapolation.json, bundle.zip, adaptation.png, "
        "before_after.gif\n"
        f"Next: python scripts/adapt.py {out}/bundle.zip --option seed 7",
        highlight=False,
    )


if __name__ == "__main__":
    main(Args, run)
