"""Runs what the README tells people to type: its shell blocks and its Python blocks, in order, in one folder.

A comment before a block says when it is not run: `<!-- readme: skip, because ... -->`, or `<!-- readme: data -->` for a
block that needs the full data sets (it runs where FLAMBEAU_DATA is set). Lines that install or build (`make`, `git`,
`cd`, `pip`) are left out: whoever runs this has done that.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[1]
LANGUAGES = ("sh", "bash", "console", "python", "")
BLOCK = re.compile(
    r"(?:^<!-- readme: (?P<note>[^>]*?) -->\n+)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
DONE_BEFORE = re.compile(r"(make|git|cd|pip|python3? -m (venv|pip)|source)\b")


class Block(NamedTuple):
    """One fenced block: its language, its text, what the comment before it says, and its line in the file."""

    language: str
    text: str
    note: str
    line: int


def main() -> int:
    blocks = blocks_of((REPOSITORY / "README.md").read_text(encoding="utf-8"))
    if not any(script_of(block).strip() for block in blocks):
        print("error: README.md: there is no block to run.", file=sys.stderr)
        return 2
    for path in sorted(REPOSITORY.glob("README.*.md")):
        if meaning(blocks) != meaning(blocks_of(path.read_text(encoding="utf-8"))):
            print(f"error: {path.name}: its commands and its Python are not those of README.md.", file=sys.stderr)
            return 2
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        failed = sum(not run(block, Path(folder)) for block in blocks)
    print(f"{len(blocks)} blocks, {failed} failed")
    return 1 if failed else 0


def prepare(folder: Path) -> None:
    """Lays out the pictures that the README's commands name: three classes of 60."""
    from PIL import Image

    import flambeau

    data = flambeau.datasets.load("fashion-mnist-mini")
    train = data.splits["train"]
    images, labels = train.tensor("image"), train.tensor("label").tolist()
    for label, name in enumerate(data.info["classes"][:3]):
        (folder / "photos" / name.replace("/", "-")).mkdir(parents=True)
        rows = [row for row, its in enumerate(labels) if its == label][:60]
        for row in rows:
            Image.fromarray(images[row].squeeze().numpy()).save(
                folder / "photos" / name.replace("/", "-") / f"{row:04}.png"
            )
    (folder / "somewhere").mkdir()
    Image.fromarray(images[1].squeeze().numpy()).save(folder / "somewhere" / "IMG_0001.jpg")


def meaning(blocks: list[Block]) -> list[str]:
    """What blocks do, without the comments in them."""
    texts = [
        ast.unparse(ast.parse(block.text)) if block.language == "python" else re.sub(r"\s+#.*", "", block.text).strip()
        for block in blocks
    ]
    return [text for text in texts if text]


def blocks_of(text: str) -> list[Block]:
    """The blocks of a Markdown text that can be run.

    Example:
        >>> blocks_of("Text\\n\\n```sh\\nls\\n```\\n")
        [Block(language='sh', text='ls\\n', note='', line=3)]
    """
    found = []
    for match in BLOCK.finditer(text):
        if match["language"] in LANGUAGES:
            line = text.count("\n", 0, match.start("language")) + 1
            found.append(Block(match["language"], match["text"], match["note"] or "", line))
    return found


def script_of(block: Block) -> str:
    """What is run of a block; in a console block that is the lines after a prompt."""
    if block.language == "python":
        return block.text
    lines = block.text.splitlines()
    if block.language in ("console", ""):
        prompt = "$ " if block.language else "flambeau "
        lines = [line.removeprefix("$ ") for line in lines if line.startswith(prompt)]
    return "\n".join(line for line in lines if not DONE_BEFORE.match(line))


def run(block: Block, folder: Path, programs: Path | None = None) -> bool:
    """Runs one block, with the ``flambeau`` and ``python`` of a folder or this interpreter's, and says how it went."""
    title = f"README.md:{block.line}"
    if block.note.startswith("skip") or (block.note == "data" and not os.environ.get("FLAMBEAU_DATA")):
        print(f"== {title}: not run ({block.note})", flush=True)
        return True
    script = script_of(block)
    if not script.strip():
        return True
    print(f"== {title}\n{script.rstrip()}", flush=True)
    path = f"{programs or sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
    python = programs / "python" if programs else sys.executable
    command = [python, "-c"] if block.language == "python" else ["bash", "-euo", "pipefail", "-c"]
    start = time.monotonic()
    done = subprocess.run([*command, script], cwd=folder, env={**os.environ, "PATH": path}, check=False)
    print(f"== {title}: exit code {done.returncode}, {time.monotonic() - start:.0f} s", flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
