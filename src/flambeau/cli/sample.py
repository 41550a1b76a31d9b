"""``flambeau sample``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flambeau.cli.output import Debug, Device, Json, Network, Quiet, RunOrModel, TrustCode, output, own_network


def sample(
    model: RunOrModel,
    n: Annotated[int, typer.Option("--n", help="How many.", min=1)] = 1,
    prompt: Annotated[str, typer.Option(help="The text to go on from.")] = "",
    length: Annotated[int, typer.Option(help="The most tokens of a text.", min=1)] = 500,
    temperature: Annotated[
        float, typer.Option(help="Above 1 more surprising, below 1 less; 0 always takes the most probable.")
    ] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Draw among so many most probable tokens only.")] = None,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    png: Annotated[Path | None, typer.Option(help="Where pictures go. Default: samples.png.", metavar="FILE")] = None,
    device: Device = None,
    network: Network = None,
    trust_code: TrustCode = False,
    json: Json = False,
    debug: Debug = False,
    quiet: Quiet = False,
) -> None:
    """Make new examples with a model that can: texts, or a grid of pictures."""
    with output(json, debug, quiet) as to:
        from flambeau.workflow.sampling import sample as draw

        made = draw(
            model,
            n=n,
            prompt=prompt,
            length=length,
            temperature=temperature,
            top_k=top_k,
            seed=seed,
            device=device or "auto",
            network=own_network(network),
            trust_code=trust_code,
        )
        texts = [item for item in made if isinstance(item, str)]
        pictures = [item for item in made if not isinstance(item, str)]
        if texts:
            to.text("\n\n---\n\n".join(texts))
        for item in pictures:
            path = png or Path(item.name)
            to.picture(item, path)
            to.text(str(path))
        to.result({"samples": texts, "pictures": [str(png or item.name) for item in pictures]})
