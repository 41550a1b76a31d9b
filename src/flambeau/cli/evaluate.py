"""``flambeau evaluate``."""

from __future__ import annotations

from typing import Annotated

import typer

from flambeau.cli.output import Debug, Device, Json, Network, Quiet, RunOrModel, TrustCode, output, own_network


def evaluate(
    model: RunOrModel,
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
        from flambeau.workflow.scoring import evaluate as score

        scored = score(
            model,
            source,
            split=split,
            device=device or "auto",
            network=own_network(network),
            trust_code=trust_code,
        )
        to.text(f"{scored.examples:,} {scored.noun} ({'all of them' if scored.split == 'all' else scored.split})")
        found = scored.breakdown
        for name, value in scored.scores.items():
            low, high = found.intervals.get(name, (None, None))
            interval = "" if low is None else f"  (95 % interval {low:.4f} to {high:.4f})"
            to.text(f"{name:<20}  {value:.6f}{interval}")
        if found.table and not quiet:
            to.text()
            to.table([list(row) for row in found.table], frozenset(range(1, len(found.table[0]))))
        to.result({"split": scored.split, "examples": scored.examples, "scores": scored.scores, **found.json})
