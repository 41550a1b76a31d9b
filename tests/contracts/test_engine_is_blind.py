"""A reader of ``engine/`` cannot tell which tasks exist: it names nothing that only some of them have."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from flambeau import catalog

ENGINE = Path(__file__).parents[2] / "src" / "flambeau" / "engine"

KINDS = set(
    """
    text texts token tokens tokeniser tokenizer word words sentence sentences corpus document documents character
    characters language translation translate source vocabulary embedding prompt beam bleu perplexity
    picture pictures image images pixel pixels photo channel channels
    graph graphs node nodes edge edges neighbour neighbours
    gan generator discriminator adversary noise sample samples fake
    sound sounds audio recording recordings wave wav spectrogram
    label labels classes logits accuracy confusion
    """.split()  # noqa: SIM905 - one a line would be five screens
)
"""What data is of, and what networks are for."""

MEANT = {
    ("checkpoint.py", "generator"): "random generators, whose states are stored",
    ("checkpoint.py", "generators"): "the same",
    ("checkpoint.py", "document"): "the JSON document of a checkpoint",
    ("checkpoint.py", "words"): "the state of Python's random generator is made of words",
    ("codec.py", "text"): "a str, among what can be stored",
    ("device.py", "words"): "a description in words",
    ("evaluate.py", "generator"): "typing.Generator",
    ("loop.py", "generator"): "typing.Generator",
    ("observers.py", "image"): "Pillow's and TensorBoard's names for a PNG that somebody gives them",
    ("observers.py", "picture"): "a PNG to be shown in TensorBoard, whatever is on it",
    ("observers.py", "pictures"): "the same",
    ("observers.py", "text"): "Rich's TextColumn, the text of a progress bar",
    ("update.py", "class"): "a remedy that speaks of class weights",
}
"""Words that stand in a file for something else, and what for."""


def words_of(text: str) -> Iterator[str]:
    """The words of identifiers, strings and comments: ``train_only`` and ``TextColumn`` are two each."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in (tokenize.OP, tokenize.NUMBER):
            yield from (word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", token.string))


def test_the_words_are_found_wherever_they_stand() -> None:
    code = 'def pad_tokens(batch):\n    """Of a Picture."""\n    return GraphNode, "a {noise}"  # sounds\n'
    assert {"tokens", "picture", "graph", "node", "noise", "sounds"} <= set(words_of(code))


@pytest.mark.parametrize("path", sorted(ENGINE.glob("*.py")), ids=lambda path: path.name)
def test_the_engine_names_no_kind_of_data(path: Path) -> None:
    found = {word for word in words_of(path.read_text(encoding="utf-8")) if word in KINDS}
    assert not sorted(word for word in found if (path.name, word) not in MEANT)


def test_no_exception_is_stale() -> None:
    written = {path.name: set(words_of(path.read_text(encoding="utf-8"))) for path in ENGINE.glob("*.py")}
    assert not [(name, word) for name, word in MEANT if word not in written.get(name, ())]


def test_the_engine_names_no_task_and_no_network() -> None:
    networks = {network for family in catalog.MODELS.values() for network in family} - {"compact", "sequential"}
    for path in ENGINE.glob("*.py"):
        text = path.read_text(encoding="utf-8").casefold()
        for name in {*catalog.task_names(), *catalog.families(), *networks}:
            pattern = rf"\b{re.escape(name).replace('-', '[-_ ]')}\b"
            # The family of pictures has the name of what TensorBoard shows; MEANT has the reason.
            assert not re.search(pattern, text) or (path.name, name) in MEANT, (path.name, name)
