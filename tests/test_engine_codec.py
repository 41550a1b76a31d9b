"""Nested state as JSON and tensors, there and back."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import safetensors.torch
import torch
from engine_toys import PLAIN, batch, classification, equal, network, state_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from flambeau.engine.checkpoint import pack, unpack
from flambeau.engine.codec import decode, encode, without_aliases
from flambeau.engine.update import update
from flambeau.errors import RunError

KINDS = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool]
TENSORS = st.builds(
    lambda kind, shape, seed: (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 9).to(kind),
    st.sampled_from(KINDS),
    st.lists(st.integers(0, 3), max_size=3),
    st.integers(0, 99),
)
KEYS = st.one_of(st.integers(-5, 5), st.text(max_size=5), st.booleans(), st.none())
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), TENSORS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.tuples(inner, inner), st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_leaves=10,
)


def same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one.view(-1), other.view(-1))
    if isinstance(one, dict):
        return [*map(repr, one)] == [*map(repr, other)] and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (isinstance(one, float) and math.isnan(one) and math.isnan(other))


@settings(max_examples=150, deadline=None)
@given(VALUES)
def test_nested_state_survives_json_and_safetensors(value: Any) -> None:
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(encode(value, tensors, "state"), allow_nan=False)
    kept, aliases = without_aliases(tensors)
    read = safetensors.torch.load(safetensors.torch.save(kept))
    read |= {name: read[source] for name, source in aliases.items()}
    assert same(value, decode(json.loads(text), read))


def test_paths_never_collide() -> None:
    # "1.0" beside nested 1 and 0: the same path by name, two different tensors.
    value = {"a.b": torch.tensor(1), "a": {"b": torch.tensor(2)}, 1: torch.tensor(3), "1": torch.tensor(4)}
    tensors: dict[str, torch.Tensor] = {}
    encoded = encode(value, tensors, "x")
    assert same(value, decode(json.loads(json.dumps(encoded)), tensors))


def test_what_has_no_json_form_is_refused() -> None:
    with pytest.raises(RunError, match="type set cannot be saved"):
        encode({"state": {"mine": {1, 2}}}, {}, "optimizer")


class Tied(nn.Module):
    """The first and the last layer share a weight, as language models do."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 3, bias=False)
        self.last = nn.Linear(5, 3, bias=False)
        self.last.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.first(x) + self.last(x)
        return out


def test_a_shared_weight_is_kept_once_and_comes_back_shared() -> None:
    state = state_of(Tied(), classification(name="adamw"), ema=True)
    update(state, batch(), PLAIN)
    contents = pack(state, {"note": 1})
    document = json.loads(contents["state.json"])
    assert document["aliases"] == {"last.weight": "first.weight"}
    assert list(safetensors.torch.load(contents["model.safetensors"])) == ["first.weight"]
    again = state_of(Tied(), classification(name="adamw"), ema=True)
    assert unpack(contents, again) == {"note": 1}
    assert equal(dict(again.model.state_dict()), dict(state.model.state_dict()))
    assert again.model.first.weight is again.model.last.weight


def test_views_of_one_memory_are_not_aliases_unless_they_are_the_same_view() -> None:
    whole = torch.arange(6.0)
    kept, aliases = without_aliases(
        {"left": whole[:3], "right": whole[3:], "turned": whole.view(2, 3).T, "same": whole[:3]}
    )
    assert aliases == {"same": "left"}
    assert torch.equal(safetensors.torch.load(safetensors.torch.save(kept))["turned"], whole.view(2, 3).T)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_a_state_that_was_packed_goes_on_bit_for_bit(name: str) -> None:
    torch.manual_seed(3)
    through = state_of(network(dropout=0.4), classification(name=name), ema=True)
    for number in range(3):
        update(through, batch(seed=number), PLAIN)
    contents = pack(through, {})
    through.model.train()
    for number in range(3, 6):
        update(through, batch(seed=number), PLAIN)
    resumed = state_of(network(seed=9, dropout=0.4), classification(name=name), ema=True)
    unpack(contents, resumed)
    resumed.model.train()
    for number in range(3, 6):
        update(resumed, batch(seed=number), PLAIN)
    assert pack(resumed, {}) == pack(through, {})


@pytest.mark.parametrize("text", ["{}", "[]", "1", '{"tensor_aliases": []}', "[" * 100_000])
def test_a_state_that_makes_no_sense_is_refused(text: str) -> None:
    state = state_of(network(), classification())
    contents = {**pack(state, {}), "state.json": text.encode()}
    with pytest.raises(RunError, match="does not fit this run"):
        unpack(contents, state)
