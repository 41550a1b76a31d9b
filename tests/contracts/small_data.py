"""Small made-up data for every task, and the settings by which a run on it takes about a second.

A new task needs one entry in ``CASES``, and a network that its defaults are too large (or too little) for one in
``ARGUMENTS`` or ``PREPARED``. Nothing else in this folder knows which tasks there are.
"""

from __future__ import annotations

import random
import wave
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flambeau import catalog
from flambeau.models.published import TORCHVISION
from flambeau.task import Task

Settings = tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """How a task is tried.

    Attributes:
        write: Writes data into an empty folder; returns what ``train`` is given.
        settings: For a small model and few steps.
        asks: What ``predict`` is given, from what ``write`` returned.
        claimed: Whether the task finds by itself that this data is its own; else ``--task`` says so.
    """

    write: Callable[[Path], Path]
    settings: Settings
    asks: Callable[[Path], list[str]]
    claimed: bool = True
    training: Settings = ("train.epochs=2", "log.tensorboard=false", "log.every=1")

    def all_settings(self, *more: str) -> list[str]:
        """The settings of a run."""
        return [*self.training, *self.settings, *more]


def case(task: str) -> Case:
    """The entry of a task."""
    if task not in CASES:
        pytest.fail(
            f"The contract tests have no data for the task {task!r}: write a function that makes some and add it to "
            f"CASES in {Path(__file__).relative_to(Path(__file__).parents[2])}.",
            pytrace=False,
        )
    return CASES[task]


def pictures(root: Path) -> Path:
    """Three classes of 30 pictures of 32x32 pixels, told apart by which third is bright."""
    generator = np.random.default_rng(0)
    for number, name in enumerate(("left", "middle", "right")):
        folder = root / "pictures" / name
        folder.mkdir(parents=True)
        for place in range(30):
            values = generator.integers(0, 120, (32, 32), dtype=np.uint8)
            values[:, 10 * number : 10 * number + 10] += 100
            Image.fromarray(values).save(folder / f"{place:02}.png")
    return root / "pictures"


def some_pictures(source: Path) -> list[str]:
    """Three of the pictures."""
    return [str(path) for path in sorted(source.rglob("*.png"))[::35][:3]]


def spots(root: Path, column: str, cell: Callable[[int, int], str]) -> Path:
    """A table of 90 pictures of 24x24 pixels: a bright column of pixels somewhere, in every third one a bright row."""
    generator = np.random.default_rng(1)
    (root / "shots").mkdir()
    lines = [f"file,{column}"]
    for place in range(90):
        values = generator.integers(0, 100, (24, 24), dtype=np.uint8)
        at = int(generator.integers(2, 22))
        values[:, at - 2 : at + 2] += 120
        if place % 3 == 0:
            values[10:13] = 255
        Image.fromarray(values).save(root / "shots" / f"{place:02}.png")
        lines.append(f"shots/{place:02}.png,{cell(place, at)}")
    (root / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / "table.csv"


def tagged(root: Path) -> Path:
    """Each picture has none, one or two of the labels ``left`` and ``row``."""
    return spots(root, "labels", lambda place, at: ";".join(["left"] * (at < 12) + ["row"] * (place % 3 == 0)))


def measured(root: Path) -> Path:
    """Each picture has a number: where the bright column is."""
    return spots(root, "position", lambda place, at: f"{at / 2}")


THEMES = {"food": "bread soup cheese apple salt", "sport": "goal match team ball race", "sky": "rain sun wind snow fog"}
FILLER = ["the", "a", "of", "and", "we", "they", "saw", "had", "some", "more"]


def sentences(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Sentences of 3 to 14 words with a theme, and the theme's name; no two are alike."""
    chance = random.Random(seed)
    made = []
    for number in range(count):
        theme = list(THEMES)[number % len(THEMES)]
        words = chance.choices(FILLER, k=chance.randint(2, 12))
        words.insert(chance.randint(0, len(words)), chance.choice(THEMES[theme].split()))
        made.append((f"{' '.join(words)} {number}", theme))
    return made


def texts(root: Path) -> Path:
    """A table of 120 sentences and their themes."""
    lines = ["text,label", *(f"{text},{theme}" for text, theme in sentences(120))]
    (root / "reviews.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / "reviews.csv"


def sentence_pairs(root: Path) -> Path:
    """A table of 90 sentences and the same sentences with their words spelt backwards."""
    rows = [(text, " ".join(word[::-1] for word in text.split())) for text, _ in sentences(90, seed=1)]
    lines = ["source\ttarget", *(f"{source}\t{target}" for source, target in rows)]
    (root / "pairs.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / "pairs.tsv"


def running_text(root: Path) -> Path:
    """Some 16,000 characters of sentences."""
    lines = [f"{text.capitalize()}." for text, _ in sentences(420, seed=2)]
    (root / "book.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / "book.txt"


def graph(root: Path) -> Path:
    """60 nodes in three groups with edges mostly inside a group, 8 features, and masks."""
    generator = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = (generator.random((60, 8)) < 0.2).astype(np.float32)
    x[np.arange(60), y] = 1
    ends = [
        (one, other)
        for one in range(60)
        for other in range(one)
        if generator.random() < (0.2 if y[one] == y[other] else 0.02)
    ]
    part = np.arange(60) // 20
    masks = {f"{name}_mask": part == number for number, name in enumerate(("train", "val", "test"))}
    np.savez(root / "graph.npz", x=x, y=y, edge_index=np.array(ends, dtype=np.int64).T, **masks)
    return root / "graph.npz"


def tones(root: Path) -> Path:
    """Three classes of 16 recordings of a quarter of a second, told apart by their pitch."""
    generator = np.random.default_rng(0)
    time = np.arange(2000) / 8000
    for name, pitch in (("low", 300), ("middle", 900), ("high", 2400)):
        folder = root / "tones" / name
        folder.mkdir(parents=True)
        for number in range(16):
            sound = 8000 * np.sin(2 * np.pi * pitch * (1 + 0.01 * number) * time) + generator.normal(0, 300, len(time))
            with wave.open(str(folder / f"{number:02}.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(8000)
                file.writeframes(sound[: 2000 - 20 * number].astype("<i2").tobytes())
    return root / "tones"


CASES: Mapping[str, Case] = {
    "gan": Case(
        pictures,
        ("model.name=mlp-gan", "model.width=16", "options.noise=8", "images.size=16", "train.batch_size=16"),
        some_pictures,
        claimed=False,
    ),
    "image-classification": Case(
        pictures,
        ("model.name=compact", "model.width=4", "model.dropout=0.1", "images.size=16", "train.batch_size=16"),
        some_pictures,
    ),
    "image-multilabel": Case(
        tagged,
        ("model.name=compact", "model.width=4", "model.dropout=0.1", "images.size=16", "train.batch_size=16"),
        lambda source: some_pictures(source.parent),
        claimed=False,
    ),
    "image-regression": Case(
        measured,
        (
            "model.name=compact",
            "model.width=4",
            "model.dropout=0.1",
            "images.size=16",
            "train.batch_size=16",
        ),
        lambda source: some_pictures(source.parent),
        claimed=False,
    ),
    "language-model": Case(
        running_text,
        (
            "model.layers=1",
            "model.width=16",
            "model.heads=2",
            "model.dropout=0.1",
            "options.context=16",
            "text.vocabulary=300",
            "train.batch_size=32",
        ),
        lambda source: ["the soup had", "we saw rain and more rain"],
    ),
    "node-classification": Case(graph, ("model.hidden=8", "train.eval_batch_size=7"), lambda source: ["0", "17", "59"]),
    "sound-classification": Case(
        tones,
        ("model.width=4", "model.dropout=0.1", "audio.mels=16", "train.batch_size=8"),
        lambda source: [str(path) for path in sorted(source.rglob("*.wav"))[::20]],
    ),
    "text-classification": Case(
        texts,
        ("model.embedding=8", "model.hidden=8", "options.word_dropout=0.1", "train.batch_size=16"),
        lambda source: ["the goal", "we had some bread and more soup", "wind"],
    ),
    "translation": Case(
        sentence_pairs,
        (
            "model.width=16",
            "model.layers=1",
            "model.heads=2",
            "model.inner=16",
            "text.vocabulary=320",
            "options.beam=2",
            "train.batch_size=16",
        ),
        lambda source: ["the soup", "we saw some rain and more snow", "they had bread"],
    ),
    "word-vectors": Case(
        running_text,
        ("model.dimension=8", "text.min_count=1", "options.subsample=0", "train.batch_size=4"),
        lambda source: ["soup", "rain - sun + bread"],
        claimed=False,
    ),
}

ARGUMENTS: Mapping[str, Settings] = {
    "compact": ("model.width=4",),
    "cbow": ("model.dimension=8",),
    "dcgan": ("model.width=4", "images.size=28"),
    "gcn": ("model.hidden=4",),
    "gpt": ("model.layers=1", "model.width=16", "model.heads=2"),
    "gru": ("model.embedding=8", "model.hidden=8"),
    "language/lstm": ("model.layers=1", "model.width=16"),
    "lenet": ("images.size=28",),
    "lstm": ("model.embedding=8", "model.hidden=8"),
    "mlp": ("model.widths=[8]",),
    "mlp-gan": ("model.width=8",),
    "ngrams": ("model.width=4", "model.buckets=64"),
    "rnn": ("model.embedding=8", "model.hidden=8"),
    "seq2seq": ("model.embedding=8", "model.hidden=8"),
    "sequential": (
        'model.layers=[{type="AdaptiveAvgPool2d", output_size=4}, {type="Flatten"}, '
        '{type="Linear", out_features="classes"}]',
    ),
    "skip-gram": ("model.dimension=8",),
    "text-transformer": ("model.width=8", "model.layers=1", "model.heads=2", "model.inner=8"),
    "transformer": ("model.width=8", "model.layers=1", "model.heads=2", "model.inner=8"),
    "tutorial-cifar10": ("images.size=32", "images.channels=3"),
}
"""By the name of a network: settings under which it is small, and fits the data above. Where two families have a name,
the second stands with its family in front.
"""


def small(task: Task, network: str) -> Settings:
    """The settings of a network."""
    return ARGUMENTS.get(f"{task.family}/{network}", ARGUMENTS.get(network, ()))


STANDS_IN = "shufflenet_v2_x0_5"
"""The one of torchvision's networks that is tried here; tests/test_torchvision_networks.py sweeps them all."""


def swept(task: str) -> list[str]:
    """The networks of a task that are tried."""
    return [name for name in catalog.networks(catalog.task(task)) if name not in TORCHVISION or name == STANDS_IN]


def tiny_bert(folder: Path) -> Settings:
    """A BERT of random weights as ``transformers`` saves it."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    words = sorted({word for text, _ in sentences(120) for word in text.split()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
    )
    transformers.BertModel(config).save_pretrained(folder)
    return (f"model.checkpoint={folder}",)


def tiny_gpt2(folder: Path) -> Settings:
    """A GPT-2 of random weights as ``transformers`` saves it."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    size = tokenizer.get_vocab_size()
    config = transformers.GPT2Config(
        vocab_size=size, n_positions=32, n_embd=16, n_layer=1, n_head=2, eos_token_id=size - 1, bos_token_id=size - 1
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return (f"options.pretrained={folder}",)


PREPARED: Mapping[str, Callable[[Path], Settings]] = {"bert": tiny_bert, "gpt2": tiny_gpt2}
"""By the name of a network: what must be made before it can be built; returns the settings that go with it."""
