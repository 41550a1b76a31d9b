"""``flambeau evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flambeau.cli.output import Debug, Device, Json, Network, Quiet, TrustCode, output


def evaluate(
    model: Annotated[Path, typer.Argument(help="A run folder or a model file.", metavar="RUN|MODEL")],
    source: Annotated[str | None, typer.Argument(help="Other data; default: what it was trained on.")] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    device: Device = None,
    network: Network = None,
    trust_code: TrustCode = False,
    json: Json = False,
    debug: Debug = False,
    quiet: Quiet = False,
) -> None:
    """Score a model on a split of its own data, or on other data."""
    with output(json, debug, quiet) as to:
        from flambeau.metrics.tables import accuracy_interval, by_class
        from flambeau.userfile import load_object
        from flambeau.workflow.scoring import evaluate as score

        scored = score(
            model,
            source,
            split=split,
            device=device or "auto",
            network=load_object(network) if network else None,
            trust_code=trust_code,
        )
        rows = by_class(scored.evaluation.sums["confusion"], scored.classes)
        to.text(f"{scored.examples:,} examples ({'all of them' if scored.split == 'all' else scored.split})")
        low, high = accuracy_interval(scored.evaluation.sums["confusion"])
        for name, value in scored.scores.items():
            interval = f"  (95 % interval {low:.4f} to {high:.4f})" if name == "accuracy" else ""
            to.text(f"{name:<20}  {value:.6f}{interval}")
        if not quiet:
            to.text()
            keys = ("precision", "recall", "f1")
            cells = [[row["class"], *(_number(row[key]) for key in keys), f"{row['support']:,}"] for row in rows]
            to.table([["class", *keys, "examples"], *cells], frozenset({1, 2, 3, 4}))
        to.result({"split": scored.split, "examples": scored.examples, "scores": scored.scores, "classes": rows})


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
