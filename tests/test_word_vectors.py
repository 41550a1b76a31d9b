"""Word vectors: what is drawn, what is minimised, what is learnt, asked, saved and read back by gensim."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import flambeau
from flambeau import catalog
from flambeau.columns import Ragged
from flambeau.core import Draw
from flambeau.data import words
from flambeau.data.inputs import query
from flambeau.data.words import contexts, has_context
from flambeau.engine import checkpoint
from flambeau.errors import BadRows, DataError, ModelError, RecipeError, UsageError
from flambeau.export.writing import export_model
from flambeau.metrics.vectors import block_sums, losses, nearest, negative_sampling
from flambeau.models.word_vectors import cbow, skip_gram
from flambeau.recipe import parse
from flambeau.report.vectors import analogies, principal_plane
from flambeau.tasks.word_vectors import TASK

FACTS = {"words": [f"w{number}" for number in range(30)]}


def text(seed: int = 0, sentences: int = 400) -> str:
    """Sentences about one of two subjects, each with eight words of its own, and a word that both share."""
    random = np.random.default_rng(seed)
    lines = []
    for _ in range(sentences):
        subject = "ab"[random.integers(2)]
        own = [f"{subject}{'cdefghij'[random.integers(8)]}" for _ in range(30)]
        lines.append(" ".join(word if random.random() < 0.8 else "the" for word in own) + ".")
    return "\n".join(lines) + "\n"


SETTINGS: dict[str, Any] = {
    "task": "word-vectors",
    "data": {"test": 0.05},
    "text": {"lower": True, "min_count": 2, "vocabulary": 1000},
    "options": {"window": 4, "negatives": 5, "subsample": 0.01},
    "model": {"name": "skip-gram", "dimension": 16},
    "optimizer": {"name": "adagrad", "lr": 0.2},
    "train": {"epochs": 2, "batch_size": 4, "device": "cpu"},
    "log": {"every": 5, "tensorboard": False},
}


def settings(**parts: Any) -> dict[str, Any]:
    return {name: {**SETTINGS.get(name, {}), **part} for name, part in parts.items()}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "subjects.txt"
    path.write_text(text(), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return flambeau.train(source, recipe=SETTINGS, out=tmp_path_factory.mktemp("runs") / "run", quiet=True)


# What is drawn.


def test_blocks_hold_every_word_once_and_keep_texts_apart() -> None:
    texts = Ragged.of([[1, 2, 3], [], [4], [5, 6]])
    stream = words.blocks(texts, 4).flatten().tolist()
    assert stream == [1, 2, 3, -1, -1, 4, -1, 5, 6, -1, -1, -1]


def naive_contexts(row: list[int], reach: list[int]) -> list[list[bool]]:
    def same(i: int, j: int) -> bool:
        return all(word >= 0 for word in row[min(i, j) : max(i, j) + 1])

    size = len(row)
    return [[i != j and abs(i - j) <= reach[i] and same(i, j) for j in range(size)] for i in range(size)]


def test_contexts_are_those_of_a_plain_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(-1, 6, (7, 20), generator=generator)
    reach = torch.randint(1, 5, (7, 20), generator=generator)
    found = words.contexts(rows, reach).tolist()
    assert found == [naive_contexts(row, near) for row, near in zip(rows.tolist(), reach.tolist(), strict=True)]


def test_closing_up_keeps_order() -> None:
    rows = torch.tensor([[5, 6, -1, 7], [1, 2, 3, 4]])
    kept = torch.tensor([[True, False, True, True], [False, False, True, False]])
    assert words.closed_up(rows, kept).tolist() == [[5, -1, 7], [3, -1, -1]]


def draw(rows: Tensor, epoch: int = 0, count: int = 30) -> dict[str, Tensor]:
    made = words.tables(list(range(2 * count, count, -1)), 0.005)
    blocks = torch.arange(6 * 128).remainder(count).view(6, 128)
    return words.drawn(blocks[rows], Draw(3, epoch, rows), made["keep"], made["noise"], 5)


def test_what_is_drawn_for_a_row_depends_on_seed_epoch_and_row_alone() -> None:
    together, alone = draw(torch.tensor([4, 1, 5])), draw(torch.tensor([1]))
    width = int((alone["words"][0] >= 0).sum())
    assert together["words"][1, :width].equal(alone["words"][0, :width])
    assert together["context"][1, :width, :width].equal(alone["context"][0, :width, :width])
    assert together["noise"][1].equal(alone["noise"][0])
    assert not draw(torch.tensor([1]), epoch=1)["noise"].equal(alone["noise"])


def test_noise_follows_counts_to_the_power_of_three_quarters() -> None:
    counts = [1000, 100, 10, 1]
    made = words.tables(counts, 0)
    rows = torch.arange(3000)
    noise = words.drawn(torch.zeros(3000, 2, dtype=torch.int32), Draw(0, 0, rows), made["keep"], made["noise"], 1)
    share = torch.bincount(noise["noise"].flatten(), minlength=4) / noise["noise"].numel()
    wanted = torch.tensor(counts, dtype=torch.float64) ** 0.75
    torch.testing.assert_close(share.double(), wanted / wanted.sum(), atol=0.004, rtol=0)
    assert made["keep"].tolist() == [1.0] * 4


def test_windows_and_thinning_have_the_stated_probabilities() -> None:
    made = words.tables([900, 100], 0.1)
    blocks = (torch.arange(400 * 128).remainder(10) == 0).long().view(400, 128)
    found = words.drawn(blocks, Draw(0, 0, torch.arange(400)), made["keep"], made["noise"], 4)
    assert float((found["words"] == 0).sum() / (blocks == 0).sum()) == pytest.approx((3 + 1) / 9, abs=0.01)
    assert int((found["words"] == 1).sum()) == int((blocks == 1).sum())
    # Half of the words look at least 3 far when 1, 2, 3 and 4 are equally likely.
    inside = found["words"][:, 10] >= 0
    assert float(found["context"][inside, 10, 13].double().mean()) == pytest.approx(0.5, abs=0.08)


def test_subsampling_is_gensims() -> None:
    gensim = pytest.importorskip("gensim.models", reason="gensim is not installed")
    lines = [line.replace(".", "").split() for line in text().splitlines()]
    peer = gensim.Word2Vec(lines, min_count=1, sample=1e-2, epochs=1, vector_size=4, workers=1)
    found, counts = words.vocabulary([text()], lower=True, min_count=1, most=100)
    keep = words.tables(counts, 1e-2)["keep"]
    theirs = [peer.wv.get_vecattr(word, "sample_int") / 2**32 for word in found]
    torch.testing.assert_close(keep.double(), torch.tensor(theirs, dtype=torch.float64), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("asked", ["king - man + woman", "king-man+woman", "King −man + WOMAN"])
def test_a_sum_of_words_is_read(asked: str) -> None:
    assert query(asked, ["man", "woman", "king"], lower=True) == [(2, 1.0), (0, -1.0), (1, 1.0)]


def test_too_little_text_is_refused() -> None:
    with pytest.raises(DataError, match=r"Only 1 of 2 different words occur 2 times"):
        words.vocabulary(["a a b"], lower=True, min_count=2, most=10)


# What is minimised.


def test_the_loss_of_skip_gram_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    network = skip_gram(FACTS, dimension=8)
    torch.nn.init.normal_(network.outer.weight)
    torch.nn.init.normal_(network.inner.weight)
    batch = draw(torch.tensor([0, 2]))
    scored = network(batch["words"], batch["context"], batch["noise"])
    found = losses(scored.true, scored.counted, scored.noise, 5)
    inner, outer = network.inner.weight, network.outer.weight
    for row, place in ((0, 3), (1, 17)):
        centre = inner[batch["words"][row, place]]
        # Every noise word of the block stands for 5 / 32 of the five that each pair would have drawn.
        noise = F.logsigmoid(-(outer[batch["noise"][row]] @ centre)).sum() * 5 / words.SHARED
        around = batch["words"][row][batch["context"][row, place]]
        wanted = sum((-F.logsigmoid(outer[other] @ centre) - noise for other in around), torch.tensor(0.0))
        torch.testing.assert_close(found[row, place], wanted, rtol=1e-5, atol=1e-5)


def test_the_loss_of_cbow_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    network = cbow(FACTS, dimension=8)
    torch.nn.init.normal_(network.outer.weight)
    batch = draw(torch.tensor([0, 2]))
    scored = network(batch["words"], batch["context"], batch["noise"])
    found = losses(scored.true, scored.counted, scored.noise, 5)
    inner, outer = network.inner.weight, network.outer.weight
    around = batch["words"][1][batch["context"][1, 9]]
    mean = inner[around].mean(0)
    noise = F.logsigmoid(-(outer[batch["noise"][1]] @ mean)).sum() * 5 / words.SHARED
    torch.testing.assert_close(found[1, 9], -F.logsigmoid(outer[batch["words"][1, 9]] @ mean) - noise)


def test_before_anything_is_learnt_the_loss_is_known() -> None:
    batch = draw(torch.arange(6))
    scored = skip_gram(FACTS, dimension=8)(batch["words"], batch["context"], batch["noise"])
    metrics = negative_sampling()
    sums = metrics.start(torch.device("cpu"))
    metrics.add(sums, block_sums(scored.true, scored.counted, scored.noise, 5), {})
    assert metrics.result(sums) == pytest.approx({"loss": 6 * math.log(2), "auc": 0.5}, rel=1e-6)


def test_auc_counts_pairs() -> None:
    true, counted = torch.tensor([[[1.0, 5.0]]]), torch.tensor([[[True, False]]])
    noise = torch.tensor([[[0.0, 1.0, 2.0, -3.0]]])
    found = block_sums(true, counted, noise, 5)
    assert found["wins"].tolist() == [2.5] and found["comparisons"].tolist() == [4]


def test_only_words_that_occur_get_a_gradient() -> None:
    network = skip_gram(FACTS, dimension=8)
    batch = draw(torch.tensor([0]), count=5)
    scored = network(batch["words"], batch["context"], batch["noise"])
    losses(scored.true, scored.counted, scored.noise, 5).sum().backward()  # type: ignore[no-untyped-call]
    assert network.outer.weight.grad.is_sparse
    touched = network.outer.weight.grad.coalesce().to_dense().abs().sum(1).nonzero().flatten()
    assert int(touched.max()) < 5


@pytest.mark.parametrize("dimension", [0, "many", 2.5])
def test_a_dimension_out_of_range_is_refused(dimension: Any) -> None:
    with pytest.raises(ModelError) as caught:
        skip_gram(FACTS, dimension=dimension)
    assert caught.value.where == "model.dimension"


# What is learnt, and asked.


@pytest.mark.parametrize("model", ["skip-gram", "cbow"])
@pytest.mark.parametrize(
    "optimizer", [{"name": "adagrad", "lr": 0.3}, pytest.param({"name": "adam", "lr": 0.1}, marks=pytest.mark.slow)]
)
def test_words_of_one_subject_lie_together(model: str, optimizer: dict[str, Any], source: Path, tmp_path: Path) -> None:
    recipe = SETTINGS | settings(model={"name": model}, train={"epochs": 4}) | {"optimizer": optimizer}
    trained = flambeau.train(source, recipe=recipe, out=tmp_path / "run", quiet=True)
    assert trained.scores["test/auc"] > 0.65
    answers = trained.model.predict(["ac", "bj"])
    for subject, answer in zip("ab", answers, strict=True):
        assert all(entry["word"].startswith(subject) for entry in answer["neighbours"][:5]), answer


def test_a_sum_of_words_is_answered_without_its_own_words(run: Any) -> None:
    model = run.model
    (answer,) = model.predict(["ac - ad + bd"])
    found = {entry["word"] for entry in answer["neighbours"]}
    assert len(found) == 10 and not found & {"ac", "ad", "bd"}
    cosines = [entry["cosine"] for entry in answer["neighbours"]]
    assert cosines == sorted(cosines, reverse=True) and all(-1.001 < value < 1.001 for value in cosines)
    assert TASK.view.line(answer, 2).count("  ") == 1
    assert list(TASK.view.cells(answer, 1)) == ["word1", "cosine1"]


@pytest.mark.parametrize("asked", ["zebra", "ac + zebra", "+", ""])
def test_a_word_that_is_not_known_is_refused(run: Any, asked: str) -> None:
    with pytest.raises(BadRows):
        run.model.predict(asked)


def test_loading_and_scoring_again_give_the_same(run: Any) -> None:
    loaded = flambeau.load(run.path)
    assert loaded.predict("ac") == run.model.predict("ac")
    assert flambeau.evaluate(run.path).scores["loss"] == run.scores["test/loss"]


def test_nearest_leaves_out_what_it_is_told() -> None:
    vectors = torch.tensor([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0], [0.0, 0.0]])
    numbers, cosines = nearest(vectors, vectors[:2], 5, torch.tensor([[0, -1], [1, 2]]))
    assert numbers.tolist()[0][0] == 1 and numbers.tolist()[1][0] == 0
    assert float(cosines[0, 0]) == pytest.approx(2 / math.hypot(2, 0.1))


def test_the_report_has_its_sections(run: Any) -> None:
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "Nearest words" in page and "Map of words" in page


def test_analogies_are_answered_by_adding() -> None:
    vectors = torch.tensor([[1.0, 0, 1], [1, 0, -1], [0, 1, 1], [0, 1, -1], [-1, -1, 0]])
    asked = analogies(["man", "woman", "king", "queen", "year"], vectors)
    assert len(asked) == 2 and all(question.rank == 0 and question.answer == question.wanted for question in asked)
    assert analogies(["one", "two"], vectors[:2]) == []


def test_the_plane_is_that_of_scikit_learn() -> None:
    decomposition = pytest.importorskip("sklearn.decomposition", reason="scikit-learn is not installed")
    vectors = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    points, share = principal_plane(vectors)
    peer = decomposition.PCA(2).fit(vectors.numpy())
    np.testing.assert_allclose(np.abs(points.numpy()), np.abs(peer.transform(vectors.numpy())), atol=1e-4)
    assert share == pytest.approx(peer.explained_variance_ratio_.sum(), rel=1e-4)


# Around it.


def test_gensim_reads_what_is_written(run: Any, tmp_path: Path) -> None:
    models = pytest.importorskip("gensim.models", reason="gensim is not installed")
    made = export_model(run.path, tmp_path / "vectors.txt", "word2vec")
    assert made == {"out": str(tmp_path / "vectors.txt"), "words": 17, "dimension": 16}
    read = models.KeyedVectors.load_word2vec_format(str(tmp_path / "vectors.txt"))
    vectors = run.model.network.vectors.detach().numpy()
    assert read.index_to_key == run.model.facts["words"]
    assert np.array_equal(read.vectors, vectors)
    ours = run.model.predict("ac")["neighbours"]
    assert [word for word, _ in read.most_similar("ac", topn=10)] == [entry["word"] for entry in ours]


def test_other_models_have_no_vectors_to_write(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="for word vectors"):
        export_model(trained, tmp_path / "vectors.txt", "word2vec")


@pytest.mark.parametrize("step", [7, 30])
def test_a_run_that_is_broken_off_goes_on_to_the_same_bits(
    run: Any, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    class BrokenOffError(Exception):
        pass

    def stop(record: Any, state: Any) -> None:
        if record.kind == "step" and record.step == step:
            raise BrokenOffError

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "INTERVAL_SECONDS", 0.0)
        with pytest.raises(BrokenOffError):
            flambeau.train(source, recipe=SETTINGS, out=tmp_path / "run", quiet=True, observers=[stop])
    assert checkpoint.paths(tmp_path / "run" / "checkpoints")
    flambeau.resume(tmp_path / "run", quiet=True)
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (run.path / name).read_bytes(), name


@pytest.mark.parametrize(
    "parts",
    [
        {"optimizer": {"name": "adamw"}},
        {"optimizer": {"weight_decay": 0.1}},
        {"train": {"clip": 1.0}},
        {"text": {"tokenizer": "bpe"}},
        {"options": {"windows": 3}},
    ],
)
def test_settings_that_mean_nothing_here_are_mistakes(parts: dict[str, Any], source: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError):
        flambeau.train(source, recipe=SETTINGS | settings(**parts), out=tmp_path / "run", quiet=True)


def test_the_task_is_in_the_catalog_and_its_toy_builds_without_memory() -> None:
    assert catalog.task("word-vectors") is TASK
    with torch.device("meta"):
        model = TASK.build(parse(SETTINGS), TASK.toy, skip_gram)
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"meta"}
    assert parse({**SETTINGS}).options == SETTINGS["options"]


def test_a_word_has_context_where_a_neighbour_is() -> None:
    generator = torch.Generator().manual_seed(4)
    words = torch.randint(-1, 3, (50, 20), generator=generator)
    reach = torch.randint(1, 6, (50, 20), generator=generator)
    context = contexts(words, reach)
    assert has_context(context).equal(context.any(2))
    assert has_context(contexts(words[:, :1], reach[:, :1])).equal(torch.zeros(50, 1, dtype=torch.bool))
