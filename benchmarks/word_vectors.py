"""Word vectors of a text, ours against gensim's Word2Vec: same text, dimension, window, noise words and epochs.

Claim: training takes at most three times gensim's time, in processor seconds, and the vectors are as good, by the same
loss on the same held-out part of the text. gensim's inner loop is written in C, for one word after the other; ours is
the engine's ordinary loop over matrix products.

Run it on an idle machine: `OMP_NUM_THREADS=1 python benchmarks/word_vectors.py TEXT... [--model cbow] [--epochs 5]`.
gensim has one worker. Neither is charged for cutting the text into words, nor for validation. Processor seconds are
those of the whole process, which a busy machine changes less than wall seconds; both are printed. A TEXT may be
compressed (.gz).
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from gensim.models import Word2Vec

import flambeau
from flambeau.data.words import split_words
from flambeau.engine.memory import keep_freed_memory
from flambeau.tasks.word_vectors import TASK

LIMIT = 10_000
"""Words after which gensim cuts a sentence off."""


def unpacked(paths: list[Path], folder: Path) -> Path:
    """One text file of all."""
    texts = [gzip.decompress(p.read_bytes()) if p.suffix == ".gz" else p.read_bytes() for p in paths]
    made = folder / "text.txt"
    made.write_bytes(b"\n".join(texts))
    return made


def ours(text: Path, model: str, epochs: int) -> tuple[Any, float, float]:
    """The run, and the processor and wall seconds of its epochs without validation and what follows it."""
    spent, since = [0.0, 0.0], [0.0, 0.0]

    def now() -> list[float]:
        return [time.process_time(), time.perf_counter()]

    def watch(record: Any, state: Any) -> None:
        if record.kind == "epoch-start":
            since[:] = now()
        elif record.kind == "step":
            # What has been spent until the last step of an epoch is what stays.
            spent[:] = [a + b - c for a, b, c in zip(spent, now(), since, strict=True)]
            since[:] = now()

    run = flambeau.train(
        text,
        task="word-vectors",
        model=model,
        epochs=epochs,
        settings=["train.keep=last", "log.tensorboard=false"],
        out=text.parent / "run",
        quiet=True,
        observers=[watch],
    )
    return run, *spent


def theirs(run: Any, epochs: int) -> tuple[Any, int, float, float]:
    """gensim's model, the words of the training part, and the processor and wall seconds of its training."""
    recipe, facts = run.recipe, run.model.facts
    train = TASK.intake.divide(TASK.intake.open(Path(recipe.data.source), recipe), recipe).splits["train"]
    words = [word for text in train["text"] for word in split_words(text, facts["lower"])]
    sentences = [words[first : first + LIMIT] for first in range(0, len(words), LIMIT)]
    peer = Word2Vec(
        vector_size=run.model.network.vectors.shape[1],
        window=facts["window"],
        negative=facts["negatives"],
        sample=facts["subsample"],
        min_count=recipe.text.min_count,
        sg=int(recipe.model.name == "skip-gram"),
        workers=1,
        seed=1,
    )
    peer.build_vocab(sentences)
    processor, wall = time.process_time(), time.perf_counter()
    peer.train(sentences, total_examples=peer.corpus_count, epochs=epochs)
    return peer, len(words), time.process_time() - processor, time.perf_counter() - wall


def score_of_peer(run: Any, peer: Any) -> dict[str, float]:
    """gensim's vectors, scored as ours are."""
    model = flambeau.load(run.path)
    order = [peer.wv.key_to_index[word] for word in model.facts["words"]]
    with torch.no_grad():
        model.network.network.inner.weight.copy_(torch.from_numpy(peer.wv.vectors[order]))
        model.network.network.outer.weight.copy_(torch.from_numpy(peer.syn1neg[order]))
    return flambeau.evaluate(model).scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, nargs="*", help="Running text, such as WikiText-2.")
    parser.add_argument("--model", choices=["skip-gram", "cbow"], default="skip-gram")
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    if not options.text:
        print("not run: it needs running text, as in python benchmarks/word_vectors.py TEXT...")
        return
    keep_freed_memory()  # as the command line does
    with tempfile.TemporaryDirectory() as folder:
        run, *mine = ours(unpacked(options.text, Path(folder)), options.model, options.epochs)
        peer, words, *other = theirs(run, options.epochs)
        scores, scores_of_peer = flambeau.evaluate(run.path).scores, score_of_peer(run, peer)
    vocabulary = len(peer.wv)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; {words:,} words, {vocabulary:,} different")
    for name, (processor, wall), found in (("Flambeau", mine, scores), ("gensim", other, scores_of_peer)):
        speed = words * options.epochs / processor
        print(
            f"{options.model}, {options.epochs} epochs, {name}: {processor:.2f} processor seconds ({wall:.2f} wall), "
            f"{speed:,.0f} words a second; held-out loss {found['loss']:.4f}, above noise {found['auc']:.2%}"
        )
    print(f"ratio of processor seconds {mine[0] / other[0]:.2f}, of wall seconds {mine[1] / other[1]:.2f}")


if __name__ == "__main__":
    main()
