"""Results for people: a table and an adaptation curve."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

from metarl.files import write_atomic

LABELS = {
    "domain_randomization": "domain randomization",
    "oracle": "oracle, sees the task",
    "finetune": "domain randomization, fine-tuned",
    "finetune_adam100": "domain randomization, Adam",
    "registration": "classical: rigid registration",
    "trilateration": "classical: trilateration",
    "best_visited": "classical: best point visited",
}


def rows(results: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """(label, entry) of every row of a table, the learner's curve first."""
    found = [(f"{results['learner']}, {_steps(entry)}", entry) for entry in results["curve"]]
    for name, entry in results["baselines"].items():
        points = entry.get("curve", [entry])
        found += [(LABELS.get(name, name) + (f", {_steps(p)}" if p["steps"] else ""), p) for p in points]
    return found


def _steps(entry: Mapping[str, Any]) -> str:
    return f"{entry['steps']} step" + ("" if entry["steps"] == 1 else "s")


def _cells(entry: Mapping[str, Any], scale: float) -> list[str]:
    error, success, gap = entry["error"], entry["success"], entry["gap_closed"]
    return [
        f"{entry['episodes']}",
        f"{entry['seconds']:.1f}",
        f"{scale * error['mean']:.1f} [{scale * error['low']:.1f}, {scale * error['high']:.1f}]",
        f"{100 * success['mean']:.0f} [{100 * success['low']:.0f}, {100 * success['high']:.0f}]",
        f"{entry['return']['mean']:.2f}",
        f"{100 * gap['mean']:.0f} [{100 * gap['low']:.0f}, {100 * gap['high']:.0f}]" if gap else "no gap",
    ]


def header(results: Mapping[str, Any]) -> tuple[str, ...]:
    _, unit = in_unit(results["measure"]["unit"])
    error = f"{results['measure']['name']} {unit}".strip()
    return "policy", "episodes", "seconds", error, "success [%]", "return", "gap closed [%]"


def in_unit(unit: str) -> tuple[float, str]:
    """By how much an error is multiplied for people, and its unit in brackets: lengths and speeds in centimetres."""
    if unit.startswith("m"):
        return 100.0, f"[c{unit}]"
    return 1.0, f"[{unit}]" if unit else ""


def title(results: Mapping[str, Any]) -> str:
    seeds = ", ".join(str(seed) for seed in results["training_seeds"])
    where = results["env"] + (", in MuJoCo" if results.get("engine") == "mujoco" else "")
    return (
        f"{where}, objective {results['objective']}, {results['tasks']} {results['split']} tasks, "
        f"training seeds {seeds}, evaluation seed {results['seed']}"
    )


def table(results: Mapping[str, Any]) -> Table:
    """A table for the terminal: means and 95 % intervals."""
    made = Table(*header(results), title=title(results), caption="means [95 % bootstrap intervals over tasks]")
    scale, _ = in_unit(results["measure"]["unit"])
    for label, entry in rows(results):
        made.add_row(label, *_cells(entry, scale))
    return made


def markdown(results: Mapping[str, Any]) -> str:
    """The same table in Markdown."""
    names, (scale, _) = header(results), in_unit(results["measure"]["unit"])
    lines = [" | ".join(names), " | ".join(["---"] * len(names))]
    lines += [" | ".join([label, *_cells(entry, scale)]) for label, entry in rows(results)]
    return f"{title(results)}\n\n" + "\n".join(f"| {line} |" for line in lines) + "\n"


def plot(results: Mapping[str, Any], path: Path) -> None:
    """Write a PNG of error and success over gradient steps, with every baseline."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    measure = results["measure"]
    factor, unit = in_unit(measure["unit"])
    panels = {
        "error": (f"{measure['name']} {unit}", factor),
        "success": (f"% within {factor * measure['tolerance']:g} {unit.strip('[]')}", 100.0),
    }
    for axes, (name, (label_y, scale)) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        curve = results["curve"]
        steps = [entry["steps"] for entry in curve]
        low, high = ([scale * entry[name][end] for entry in curve] for end in ("low", "high"))
        means = [scale * entry[name]["mean"] for entry in curve]
        axes.fill_between(steps, low, high, alpha=0.25, color="tab:blue", linewidth=0)
        axes.plot(steps, means, "o-", color="tab:blue", label=f"{results['learner']} (ours)", linewidth=2)
        colors = ("tab:red", "tab:green", "tab:purple", "tab:brown", "tab:orange")
        for (baseline, entry), color in zip(results["baselines"].items(), colors, strict=False):
            points = entry.get("curve", [entry])
            values = [scale * point[name]["mean"] for point in points]
            label = LABELS.get(baseline, baseline)
            if len(points) == 1:
                axes.axhline(values[0], linestyle="--", color=color, label=label)
            else:
                axes.plot(steps[len(steps) - len(points) :], values, "s:", color=color, label=label)
        axes.set(xlabel="adaptation steps, and seconds of experience behind them", ylabel=label_y)
        axes.set_xticks(steps, [f"{entry['steps']}\n{entry['seconds']:.0f} s" for entry in curve])
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    figure.suptitle(f"{results['env']}: {results['tasks']} {results['split']} tasks", fontsize="medium")
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_atomic(path, buffer.getvalue())
