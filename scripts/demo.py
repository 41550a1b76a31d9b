"""The demonstration behind `make demo`: trains on the pictures in the package, predicts one, says what to do next.

It runs the same commands that anybody would type, and shows them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

SOURCE = "fashion-mnist-mini"
COMMAND = Path(sysconfig.get_path("scripts")) / ("flambeau.exe" if os.name == "nt" else "flambeau")


def main() -> int:
    trained = flambeau("train", SOURCE, "--json", shown=f"train {SOURCE}")
    run = Path(trained["run"])
    picture, truth = first_test_picture(run)
    predicted = flambeau("predict", str(run), str(picture), "--json", shown=f"predict {run} {picture}")
    classes = predicted["predictions"][0]["classes"]
    print("\n".join(summary(trained, classes, truth)))
    return 0


def flambeau(*arguments: str, shown: str) -> dict[str, Any]:
    """Runs a command, lets its text through to the terminal, and returns the JSON object that it prints."""
    print(f"$ flambeau {shown}", flush=True)
    done = subprocess.run([COMMAND, *arguments], stdout=subprocess.PIPE, encoding="utf-8", check=False)
    if done.returncode:
        # The command has said on standard error what is wrong.
        sys.exit(done.returncode)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def first_test_picture(folder: Path) -> tuple[Path, str]:
    """The first test picture as a file, and its true class."""
    from PIL import Image

    import flambeau

    data = flambeau.datasets.load(SOURCE)
    test = data.splits["test"]
    path = folder / "first-test-picture.png"
    Image.fromarray(test.tensor("image")[0].squeeze().numpy()).save(path)
    return path, data.info["classes"][int(test.tensor("label")[0])]


def summary(trained: dict[str, Any], classes: list[dict[str, Any]], truth: str) -> list[str]:
    scores, seconds = trained["scores"], trained["seconds"]
    best = classes[0]
    return [
        "",
        f"  accuracy    {scores['test/accuracy']:.1%} on the 1,000 test pictures (loss {scores['test/loss']:.3f})",
        f"  time        {seconds['train']:.0f} s of training, {seconds['total']:.0f} s in all",
        f"  prediction  the first test picture: {best['class']} ({best['probability']:.1%}); it is: {truth}",
        f"  model       {trained['model']}",
        f"  report      {trained['report']} (open it in a browser)",
        "",
        "All 70,000 pictures (30 MB are downloaded unless they are on this machine):",
        f"  {COMMAND.parent.relative_to(Path.cwd()) / COMMAND.name} train fashion-mnist"
        if COMMAND.is_relative_to(Path.cwd())
        else "  flambeau train fashion-mnist",
    ]


if __name__ == "__main__":
    sys.exit(main())
