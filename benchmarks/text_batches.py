"""Tokens a second of training on texts: Flambeau against a plain loop with a DataLoader, two workers and pad_sequence.

Both train the same network from the same initial weights with AdamW, the same batch size, loss and clipping, each in a
process of its own and in turn. What counts is real tokens, not padding; the clock runs from the end of the first step
of a pass (so that no worker's start is in it) to the end of the pass. Texts have been turned into tokens before, on
both sides. Flambeau's process keeps freed memory, as the command line does; the plain loop's has what Python gives it.

    FLAMBEAU_DATA=... python benchmarks/text_batches.py                    # the recipes' own networks and batch sizes
    FLAMBEAU_DATA=... python benchmarks/text_batches.py --task text-classification --model lstm text-transformer
    FLAMBEAU_DATA=... python benchmarks/text_batches.py --why              # where the difference comes from

Without FLAMBEAU_DATA, texts are made up that are as long as those of SST-2 and Multi30k.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from flambeau.columns import Ragged, Split
from flambeau.core import Batch, State, Stream
from flambeau.engine.loop import train
from flambeau.engine.memory import keep_freed_memory
from flambeau.workflow.job import Job, assemble
from flambeau.workflow.planning import resolve
from flambeau.workflow.segments import first
from flambeau.workflow.telling import Teller
from flambeau.workflow.training import plan_of

PAIRS = ("text-classification", "sst2", ["gru"]), ("translation", "multi30k", ["transformer"])

Pass = Callable[[], tuple[int, float, float]]
"""Trains for one pass over the rows; returns real tokens, seconds and seconds of processor time of all steps but one.

The processor time is that of the training process alone. On a machine that others use too it is the steadier of the
two, and it favours the plain loop, whose workers are not in it.
"""


class Clock:
    """Measures from its first start on."""

    def __init__(self) -> None:
        self.begun: tuple[float, float] | None = None

    def start(self) -> None:
        """Starts, once."""
        self.begun = self.begun or (time.perf_counter(), time.process_time())

    def stop(self, tokens: int) -> tuple[int, float, float]:
        """The result of a pass."""
        if self.begun is None:
            raise RuntimeError("No step was done.")
        return tokens, time.perf_counter() - self.begun[0], time.process_time() - self.begun[1]


def job_of(task: str, source: str, model: str, options: argparse.Namespace, folder: Path) -> Job:
    """The job that ``flambeau train SOURCE --model MODEL`` would do, on so many batches of its training split."""
    data = source if "FLAMBEAU_DATA" in os.environ else str(made_up(task, folder))
    settings = [f"train.epochs={options.repetitions + 1}", "log.tensorboard=false"]
    settings += [] if options.batch_size is None else [f"train.batch_size={options.batch_size}"]
    # Its draws cost next to nothing, but the plain loop has no such thing.
    settings += ["options.word_dropout=0"] if task == "text-classification" else []
    recipe = resolve(data, source, task=task, model=model, settings=settings, device="cpu")
    job = assemble(recipe, None, None, Teller(None, recipe))
    train_split = job.dataset.splits["train"].slice(0, options.batches * job.batch_size)
    return replace(job, dataset=replace(job.dataset, splits={**job.dataset.splits, "train": train_split}))


def made_up(task: str, folder: Path) -> Path:
    """A table of texts of the usual lengths: 19 +- 9 words as in SST-2, 12 +- 4 as in Multi30k."""
    chance = random.Random(0)
    mean, spread = (19, 9.3) if task == "text-classification" else (12, 3.9)
    syllables = [first + vowel for first in "bdfghklmnprstvwz" for vowel in "aeiou"]
    words = ["".join(chance.choices(syllables, k=chance.randint(1, 3))) for _ in range(8000)]
    weights = [1 / (number + 3) for number in range(len(words))]

    def text(length: float) -> str:
        return " ".join(chance.choices(words, weights, k=max(3, round(length))))

    if task == "text-classification":
        lines = ["text,label", *(f"{text(chance.gauss(mean, spread))},{'ab'[n % 2]}" for n in range(9000))]
        path = folder / "texts.csv"
    else:
        # A translation is about as long as its source.
        lengths = [chance.gauss(mean, spread) for _ in range(9000)]
        lines = ["source\ttarget", *(f"{text(n)}\t{text(n + chance.gauss(0, 1.5))}" for n in lengths)]
        path = folder / "pairs.tsv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def ours(job: Job, state: State, *, buckets: bool = True) -> Pass:
    """Flambeau's loader and loop; without buckets the rows come in a plain random order."""
    split = job.dataset.splits["train"]
    lengths = tokens_in(split)
    made = job.stream() if buckets else replace(job, task=replace(job.task, lengths=None)).stream()
    plan = replace(plan_of(job, [first(job.recipe)]), validate=None)

    def one_pass() -> tuple[int, float, float]:
        met: list[Tensor] = []

        def epoch(number: int, start: int) -> Iterator[Batch]:
            for batch in made.epoch(number, start):
                met.append(batch["row"])
                yield batch

        clock = Clock()
        for record in train(state, replace(plan, stream=Stream(epoch, made.length), epochs=state.epoch + 1)):
            if record.kind == "step":
                clock.start()
        return clock.stop(int(lengths[torch.cat(met[1:])].sum()))

    return one_pass


def plain(job: Job, model: nn.Module, *, fused: bool = False, task_loss: bool = False) -> Pass:
    """The loop that one writes by hand.

    Args:
        job: Data and settings.
        model: What the job builds.
        fused: Asks for PyTorch's fused AdamW, as Flambeau does.
        task_loss: For translation: leaves padding out before the product with the vocabulary, as Flambeau does, where
            one writes ``cross_entropy(..., ignore_index=0)`` otherwise.
    """
    recipe = job.recipe
    translates = "target" in job.dataset.splits["train"].columns
    loader = DataLoader(
        list(rows_of(job.dataset.splits["train"])),  # type: ignore[arg-type]
        batch_size=job.batch_size,
        shuffle=True,
        num_workers=2,
        collate_fn=padded_pairs if translates else padded_texts,
    )
    part = recipe.optimizer
    rule = torch.optim.AdamW(
        model.parameters(), lr=part.lr, betas=part.betas, weight_decay=part.weight_decay, fused=fused or None
    )
    smoothing = recipe.loss.label_smoothing

    def loss_of(one: Tensor, other: Tensor) -> Tensor:
        if not translates:
            return F.cross_entropy(model(one), other, label_smoothing=smoothing)
        if task_loss:
            return F.cross_entropy(*model(one, other), label_smoothing=smoothing)
        logits = model.network(one, other[:, :-1])  # type: ignore[operator]
        wanted = other[:, 1:].flatten()
        return F.cross_entropy(logits.flatten(0, 1), wanted, ignore_index=0, label_smoothing=smoothing)

    def one_pass() -> tuple[int, float, float]:
        model.train()
        tokens, running, clock = 0, 0.0, Clock()
        for one, other, count in loader:
            loss = loss_of(one, other)
            rule.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if recipe.train.clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), recipe.train.clip)
            rule.step()
            running += loss.item()
            tokens += count if clock.begun else 0
            clock.start()
        return clock.stop(tokens)

    return one_pass


def rows_of(split: Split) -> Iterator[tuple[Tensor, Any]]:
    """The rows as a plain Dataset has them: a tensor of tokens each, with a label or a second tensor."""
    if "target" in split.columns:
        pairs = zip(split.ragged("source"), split.ragged("target"), strict=True)
        return ((source.long(), target.long()) for source, target in pairs)
    labels = split.tensor("label").tolist()
    return ((tokens.long(), label) for tokens, label in zip(split.ragged("tokens"), labels, strict=True))


def padded_texts(rows: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor, int]:
    """A batch of texts and labels; how many tokens it has."""
    texts = [text for text, _ in rows]
    labels = torch.tensor([label for _, label in rows])
    return pad_sequence(texts, batch_first=True), labels, sum(map(len, texts))


def padded_pairs(rows: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, int]:
    """A batch of sources and targets; how many tokens it has."""
    sources, targets = ([row[side] for row in rows] for side in (0, 1))
    count = sum(map(len, sources)) + sum(map(len, targets))
    return pad_sequence(sources, batch_first=True), pad_sequence(targets, batch_first=True), count


def tokens_in(split: Split) -> Tensor:
    """Real tokens of each row."""
    names = [name for name in ("tokens", "source", "target") if isinstance(split.columns.get(name), Ragged)]
    return torch.stack([split.ragged(name).lengths for name in names]).sum(0)


def padding(job: Job, *, buckets: bool) -> float:
    """The part of a pass's places that hold padding."""
    made = job.stream() if buckets else replace(job, task=replace(job.task, lengths=None)).stream()
    names = ("tokens", "source", "target")
    found = [batch[name] for batch in made.epoch(0, 0) for name in names if name in batch]
    return 1 - sum(int((t != 0).sum()) for t in found) / sum(t.numel() for t in found)


def ways_of(options: argparse.Namespace, task: str) -> dict[str, Callable[[Job], Pass]]:
    """What is compared, by name: each makes its pass from the job."""
    ways: dict[str, Callable[[Job], Pass]] = {
        "Flambeau": lambda job: ours(job, job.new_state()),
        "plain loop": lambda job: plain(job, job.new_state().model),
    }
    if options.why:
        ways["Flambeau, freed memory not kept"] = ways["Flambeau"]
        ways["plain loop, fused AdamW"] = lambda job: plain(job, job.new_state().model, fused=True)
        if task == "translation":
            ways["... and padding left out of the loss"] = lambda job: plain(
                job, job.new_state().model, fused=True, task_loss=True
            )
        ways["Flambeau, no buckets"] = lambda job: ours(job, job.new_state(), buckets=False)
    return ways


def serve(way: str, asked: tuple[str, str, str], options: argparse.Namespace, folder: Path, end: Any) -> None:
    """In a process of its own: makes a way's pass, and runs it each time that it is told to."""
    if way in ("Flambeau", "Flambeau, no buckets"):
        keep_freed_memory()
    job = job_of(*asked, options, folder)
    one_pass = ways_of(options, asked[0])[way](job)
    end.send(None)
    while end.recv():
        end.send(one_pass())


def measure(task: str, source: str, model: str, options: argparse.Namespace, folder: Path) -> None:
    """Runs all ways in turn, and prints tokens a second and ratios of medians."""
    ways = list(ways_of(options, task))
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    busy: dict[str, list[float]] = {name: [] for name in ways}
    spawn, ends = multiprocessing.get_context("spawn"), {}
    for name in ways:
        ends[name], theirs = spawn.Pipe()
        spawn.Process(target=serve, args=(name, (task, source, model), options, folder, theirs)).start()
        theirs.close()
        ends[name].recv()
    for repetition in range(options.repetitions + 1):
        for name, end in ends.items():
            end.send(True)
            tokens, seconds, processor = end.recv()
            if repetition:  # the first pass of each warms up
                speeds[name].append(tokens / seconds)
                busy[name].append(tokens / processor)
    for end in ends.values():
        end.send(False)
    show(job_of(task, source, model, options, folder), model, speeds, busy)


def show(job: Job, model: str, speeds: dict[str, list[float]], busy: dict[str, list[float]]) -> None:
    """Prints medians and ratios."""
    by_clock, by_processor = ({name: statistics.median(v) for name, v in f.items()} for f in (speeds, busy))
    size = sum(parameter.numel() for parameter in job.new_state().model.parameters())
    rows = len(job.dataset.splits["train"])
    print(f"\n{job.dataset.name}, {model} ({size:,} parameters), batches of {job.batch_size}, {rows:,} rows a pass")
    bare, spared = padding(job, buckets=False), padding(job, buckets=True)
    print(f"  padding: {bare:.0%} of all places in random batches, {spared:.0%} in batches of like length")
    for name, found in speeds.items():
        spread = f"{by_clock[name]:,.0f} tokens a second ({min(found):,.0f} to {max(found):,.0f})"
        print(f"  {name}: {spread}, {by_processor[name]:,.0f} a second of processor time", flush=True)
        if name != "Flambeau":
            clock, processor = (found["Flambeau"] / found[name] for found in (by_clock, by_processor))
            print(
                f"    Flambeau is {clock:.2f} times as fast by the clock, {processor:.2f} by processor time", flush=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=[task for task, _, _ in PAIRS])
    parser.add_argument("--model", nargs="*", help="networks; with --task")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--batches", type=int, default=60, help="batches in a pass")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--why", action="store_true", help="also what lies between the two")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        for task, source, models in PAIRS:
            if options.task in (None, task):
                for model in (options.model or models) if options.task else models:
                    measure(task, source, model, options, Path(folder))


if __name__ == "__main__":
    main()
