"""Networks for texts: no result depends on padding, and each learns what it must."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flambeau.columns import Ragged
from flambeau.errors import ModelError
from flambeau.models import text
from flambeau.models.text_baseline import distinct_ngrams, fit

FACTS = {"vocabulary": 12, "classes": ["a", "b", "c"]}
BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "rnn": text.rnn,
    "lstm": text.lstm,
    "gru": text.gru,
    "text-transformer": text.text_transformer,
    "ngrams": text.ngrams,
}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((cell, {"pooling": pooling}) for cell in ("rnn", "lstm", "gru") for pooling in text.POOLING),
    ("lstm", {"layers": 2, "bidirectional": False, "pooling": "last"}),
    ("gru", {"layers": 2, "pooling": "last"}),
    *(("text-transformer", {"pooling": pooling}) for pooling in ("max", "mean", "both")),
    ("ngrams", {}),
]


def rows(seed: int = 0, n: int = 9) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 8, (n,), generator=generator).tolist()
    return [torch.randint(1, 12, (length,), generator=generator) for length in lengths]


@pytest.mark.parametrize(("name", "arguments"), VARIANTS)
def test_a_row_does_not_depend_on_padding(name: str, arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = BUILDERS[name](FACTS, **arguments).eval()
    ragged = Ragged.of(rows(), torch.int64)
    with torch.no_grad():
        together = network(ragged.padded())
        wider = network(ragged.padded(width=23))
        alone = torch.cat([network(row.unsqueeze(0)) for row in rows()])
    assert together.shape == (9, 3)
    torch.testing.assert_close(together, wider)
    torch.testing.assert_close(together, alone)
    assert not torch.allclose(together[0], together[1])


@pytest.mark.parametrize("name", BUILDERS)
def test_a_row_of_padding_alone_is_finite(name: str) -> None:
    network = BUILDERS[name](FACTS).eval()
    assert torch.isfinite(network(torch.tensor([[0, 0], [3, 4]]))).all()
    assert torch.isfinite(network(torch.zeros(2, 1, dtype=torch.int64))).all()


@pytest.mark.parametrize("name", BUILDERS)
def test_padding_gets_no_gradient(name: str) -> None:
    network = BUILDERS[name](FACTS)
    F.cross_entropy(network(torch.tensor([[3, 4, 0], [5, 0, 0]])), torch.tensor([0, 1])).backward()
    weight = next(module for module in network.modules() if isinstance(module, nn.Embedding)).weight
    assert weight.grad is not None
    assert not weight.grad[0].any()
    assert weight.grad[[3, 4, 5]].any(1).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDERS)
def test_each_learns_which_of_two_words_comes_first(name: str) -> None:
    """A bag of words cannot: the words are the same."""
    torch.manual_seed(1)
    generator = torch.Generator().manual_seed(1)
    small = {"embedding": 16, "hidden": 16} if name in ("rnn", "lstm", "gru") else {"width": 16}
    more = {"embedding_dropout": 0.0} if name != "ngrams" else {"buckets": 512}
    network = BUILDERS[name]({"vocabulary": 12, "classes": ["a", "b"]}, **small, **more, dropout=0.0)
    label = torch.randint(0, 2, (128,), generator=generator)
    middle = torch.randint(4, 12, (128, 3), generator=generator)
    pair = torch.where(label.bool()[:, None], torch.tensor([2, 3]), torch.tensor([3, 2]))
    tokens = torch.cat([middle[:, :1], pair, middle[:, 1:]], 1)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(120):
        optimizer.zero_grad()
        F.cross_entropy(network(tokens), label).backward()
        optimizer.step()
    assert float((network.eval()(tokens).argmax(1) == label).float().mean()) > 0.95


@pytest.mark.parametrize("name", BUILDERS)
def test_it_is_built_without_memory(name: str) -> None:
    with torch.device("meta"):
        network = BUILDERS[name](FACTS)
    assert all(parameter.device.type == "meta" for parameter in network.parameters())


@pytest.mark.parametrize(
    ("name", "arguments", "where"),
    [
        ("lstm", {"hidden": 0}, "model.hidden"),
        ("gru", {"pooling": "attention"}, "model.pooling"),
        ("rnn", {"dropout": 1.0}, "model.dropout"),
        ("text-transformer", {"width": 10, "heads": 4}, "model.heads"),
        ("text-transformer", {"pooling": "last"}, "model.pooling"),
        ("ngrams", {"buckets": 1.5}, "model.buckets"),
    ],
)
def test_arguments_out_of_range_are_named(name: str, arguments: dict[str, Any], where: str) -> None:
    with pytest.raises(ModelError) as caught:
        BUILDERS[name](FACTS, **arguments)
    assert caught.value.where == where


def test_the_classifier_takes_int32_and_holds_its_temperature() -> None:
    model = text.TextClassifier(text.ngrams(FACTS))
    assert model(torch.ones(2, 3, dtype=torch.int32)).shape == (2, 3)
    assert "temperature" in model.state_dict()


def test_the_baseline_equals_logistic_regression_of_scikit_learn() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    generator = torch.Generator().manual_seed(3)
    given = Ragged.of([torch.randint(2, 30, (int(n),), generator=generator) for n in torch.arange(5, 85)])
    label = torch.arange(80) % 3
    model = fit(given, label, 3, 30, penalties=(1e-3,))
    numbers, codes = distinct_ngrams(given, 30)
    matrix = torch.zeros(80, len(model.features))
    known = torch.isin(codes, model.features)
    places = torch.searchsorted(model.features, codes[known])
    matrix[numbers[known], places] = model.rarity[places]
    matrix = F.normalize(matrix, dim=1)
    theirs = linear.LogisticRegression(C=1 / (1e-3 * 80), tol=1e-6, max_iter=2000).fit(matrix.numpy(), label.numpy())
    ours = model.logits(given).softmax(1)
    assert torch.allclose(ours, torch.as_tensor(theirs.predict_proba(matrix.numpy())).float(), atol=0.02)


def test_the_baseline_knows_pairs_and_forgets_the_unseen() -> None:
    given = Ragged.of([[2, 3], [3, 2], [2, 3, 2], [3, 2, 3]] * 4)
    label = torch.tensor([0, 1] * 8)
    model = fit(Ragged.of([[2, 3], [3, 2]] * 8), label, 2, 6, penalties=(1e-5,))
    assert model.logits(Ragged.of([[2, 3], [3, 2]])).argmax(1).tolist() == [0, 1]
    assert torch.equal(model.logits(Ragged.of([[5], [4, 5]]))[0], model.bias)
    chosen = fit(given, label, 2, 6, validation=(given, label))
    assert torch.equal(chosen.weight, fit(given, label, 2, 6, validation=(given, label)).weight)
