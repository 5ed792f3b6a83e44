"""The whole job: train, evaluate beside all baselines, export, verify, and film one robot before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from export.verify import Report
from metarl.checkpoint import Run
from metarl.config import Config
from metarl.evaluation import evaluate
from metarl.files import write_atomic, write_json
from metarl.pack import pack
from metarl.report import markdown, plot
from metarl.trainer import train
from metarl.video import film

BUNDLE, FILM = "bundle.zip", "before_after.gif"


class Done(NamedTuple):
    """What a whole job found, on held-out worlds and beyond the training ranges; the rest lies in its folder."""

    heldout: dict[str, Any]
    beyond: dict[str, Any]
    report: Report


def whole(config: Config, out: Path, tasks: int, workers: int, console: Console) -> Done:
    """Do it in folder `out`, or go on where it stopped. Raises ValueError for a folder with another run."""
    resume = (out / "config.json").exists()
    if resume and Run(out).config != config:
        raise ValueError(f"{out} holds a run with other settings; choose another folder, or remove it")
    run = train(config, out, workers, resume, console)
    console.print("adapting with ONNX Runtime on worlds that nobody trained in")
    heldout = evaluate(run, "heldout", tasks, workers=workers, console=console)
    tuned = heldout["finetune_step_sizes"]
    beyond = evaluate(run, "extrapolation", tasks, workers=workers, console=console, step_sizes=tuned)
    for name, found in (("results", heldout), ("extrapolation", beyond)):
        write_json(out / f"{name}.json", found)
        write_atomic(out / f"{name}.md", markdown(found).encode())
    plot(heldout, out / "adaptation.png")
    report = pack(run, out / BUNDLE, [heldout, beyond])
    film(out / BUNDLE, config.env, out / FILM, seed=config.seed)
    return Done(heldout, beyond, report)
