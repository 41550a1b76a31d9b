"""Word vectors as the text format of the word2vec program, which gensim, spaCy and others read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from flambeau import files
from flambeau.errors import UsageError
from flambeau.model import Model


def export(model: Model, out: Path) -> dict[str, Any]:
    """Writes the vectors: a line with how many there are and their dimension, then a line for each word, UTF-8.

    The most frequent word comes first. Numbers are written so that reading them as float32 gives the same bits.

    Returns:
        ``out``, ``words`` and ``dimension``.

    Raises:
        UsageError: The model is not one of word vectors.
        RunError: The file cannot be written.
    """
    words = model.facts.get("words")
    inner = getattr(getattr(model.network, "network", None), "inner", None)
    if not isinstance(words, list) or not isinstance(inner, nn.Embedding):
        raise UsageError(
            "The format word2vec is for word vectors.",
            where=model.task.name,
            remedy="Train some with `flambeau train TEXT --task word-vectors`.",
        )
    vectors = inner.weight.detach().cpu().float().numpy()
    lines = [f"{len(words)} {vectors.shape[1]}"]
    # Nine significant digits tell any two float32 numbers apart.
    lines += [
        f"{word} {' '.join(f'{value:.9g}' for value in row)}" for word, row in zip(words, vectors.tolist(), strict=True)
    ]
    files.write(out, ("\n".join(lines) + "\n").encode())
    return {"out": str(out), "words": len(words), "dimension": vectors.shape[1]}
