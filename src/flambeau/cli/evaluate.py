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
        from flambeau.metrics.tables import by_class
        from flambeau.userfile import load_object
        from flambeau.workflow.scoring import evaluate as score

        scored = score(
            model,
            source,
            split=split,
            device=device or "cpu",
            network=load_object(network) if network else None,
            trust_code=trust_code,
        )
        rows = by_class(scored.evaluation.sums["confusion"], scored.classes)
        to.text(f"{scored.examples:,} examples, split {scored.split}")
        for name, value in scored.scores.items():
            to.text(f"{name:<22} {value:.6f}")
        if not quiet:
            to.text(f"\n{'class':<24} {'precision':>9} {'recall':>9} {'f1':>9} {'support':>8}")
            for row in rows:
                cells = " ".join(f"{_number(row[key]):>9}" for key in ("precision", "recall", "f1"))
                to.text(f"{row['class']:<24} {cells} {row['support']:>8}")
        to.result({"split": scored.split, "examples": scored.examples, "scores": scored.scores, "classes": rows})


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
