"""``flambeau datasets``, ``flambeau models`` and ``flambeau recipes``."""

from __future__ import annotations

from flambeau.cli.output import Debug, Json, Quiet, output


def datasets(json: Json = False, debug: Debug = False, quiet: Quiet = False) -> None:
    """List the built-in data sets."""
    with output(json, debug, quiet) as to:
        from flambeau.workflow.listing import datasets as listed

        rows = listed()
        for row in rows:
            to.text(row["name"] if quiet else f"{row['name']:<20} {row['about']}")
        if not quiet:
            to.text("\nA folder of pictures (class/... or train|val|test/class/...) needs no name: give its path.")
        to.result({"datasets": rows})


def models(json: Json = False, debug: Debug = False, quiet: Quiet = False) -> None:
    """List the networks and their arguments."""
    with output(json, debug, quiet) as to:
        from flambeau.workflow.listing import models as listed

        rows = listed()
        for row in rows:
            if quiet:
                to.text(row["name"])
                continue
            parameters = "" if row["parameters"] is None else f"  ({row['parameters']:,} parameters at 1x28x28)"
            to.text(f"{row['name']:<20} {row['about']}{parameters}")
            arguments = ", ".join(f"{name} = {value!r}" for name, value in row["arguments"].items())
            to.text(f"{'':<20} {arguments}")
        if not quiet:
            to.text("\nA class of your own: --model FILE.py:CLASS")
        to.result({"models": rows})


def recipes(json: Json = False, debug: Debug = False, quiet: Quiet = False) -> None:
    """List the named recipes."""
    with output(json, debug, quiet) as to:
        from flambeau.workflow.listing import recipes as listed

        rows = listed()
        for row in rows:
            to.text(row["name"] if quiet else f"{row['name']:<28} {row['about']}")
        to.result({"recipes": rows})
