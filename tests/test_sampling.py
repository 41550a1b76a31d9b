"""Texts drawn from a model: the same with a cache and without, by seed, within what was asked for."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flambeau.errors import UsageError
from flambeau.models.gpt import gpt
from flambeau.models.language_lstm import lstm
from flambeau.models.sampling import LanguageModel, choose, generate

FACTS = {"vocabulary": 30, "context": 16}


def model_of(kind: str) -> LanguageModel:
    torch.manual_seed(3)
    network = lstm(FACTS, width=24) if kind == "lstm" else gpt(FACTS, layers=2, width=24, heads=2, positions=kind)
    for parameter in network.parameters():
        # Sharp enough that texts differ, and no two tokens are nearly equal.
        nn.init.normal_(parameter, std=0.4)
    return LanguageModel(network, 16, start=2, never=[0, 1]).eval()


class Fixed(nn.Module):
    """Gives the same logits everywhere, and has no ``extend``."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits.expand(*tokens.shape, -1)


@pytest.mark.parametrize("kind", ["learned", "rotary", "lstm"])
@pytest.mark.parametrize("wish", [{"temperature": 0}, {"temperature": 0.9}, {"temperature": 1.3, "top_k": 5}])
@pytest.mark.parametrize("prompt", [[], [5], list(range(2, 28))])
def test_a_cache_changes_nothing_over_several_contexts(kind: str, wish: dict[str, Any], prompt: list[int]) -> None:
    model = model_of(kind)
    plain = list(generate(model, prompt, 50, **wish, seed=4, cached=False))
    assert list(generate(model, prompt, 50, **wish, seed=4)) == plain
    assert len(plain) == 50
    assert not {0, 1} & set(plain)


def test_the_seed_decides_and_no_other_generator_is_touched() -> None:
    model = model_of("rotary")
    state = torch.get_rng_state()
    first = list(generate(model, [5], 30, seed=1))
    assert torch.get_rng_state().equal(state)
    torch.manual_seed(99)
    assert list(generate(model, [5], 30, seed=1)) == first
    assert list(generate(model, [5], 30, seed=2)) != first
    assert list(islice(generate(model, [5], 30, seed=1), 10)) == first[:10]


def test_one_token_of_choice_is_the_most_probable() -> None:
    model = model_of("learned")
    assert list(generate(model, [7], 20, top_k=1, seed=5)) == list(generate(model, [7], 20, temperature=0))


def test_a_text_ends_with_the_token_that_ends_it() -> None:
    model = LanguageModel(Fixed([0.0, 9.0, 1.0]), 4, start=0, end=1)
    assert list(generate(model, [], 10, temperature=0)) == []
    model.end = None
    assert list(generate(model, [], 10, temperature=0)) == [1] * 10


def test_draws_follow_the_probabilities() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, 5.0])
    generator = torch.Generator().manual_seed(0)

    def shares(**wish: Any) -> Tensor:
        drawn = [choose(logits, never=[3], generator=generator, **wish) for _ in range(2000)]
        return torch.bincount(torch.tensor(drawn), minlength=4) / 2000

    expected = torch.softmax(logits[:3] / 0.7, 0)
    torch.testing.assert_close(shares(temperature=0.7)[:3], expected, atol=0.04, rtol=0)
    torch.testing.assert_close(shares(temperature=1.0, top_k=2)[:2], torch.softmax(logits[:2], 0), atol=0.04, rtol=0)
    assert shares(temperature=1.0)[3] == 0


@pytest.mark.parametrize(
    ("wish", "name"),
    [
        ({"temperature": -0.5}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": 0}, "top-k"),
        ({"length": 0}, "length"),
    ],
)
def test_what_cannot_be_drawn_with_is_named(wish: dict[str, Any], name: str) -> None:
    with pytest.raises(UsageError) as caught:
        next(generate(model_of("lstm"), [5], **{"length": 5, **wish}))
    assert caught.value.where == name
