"""Translators as graphs: one for the source, one for a step of decoding; the search is run outside of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from flambeau.columns import Columns
from flambeau.core import Batch, Facts
from flambeau.models.fit import dry_run
from flambeau.models.search import END, PAD, START, UNKNOWN, Memory, State, stepping
from flambeau.models.translator import Translator
from flambeau.program import Call, Compared, Graph, Port, Program, Wish, require_varying
from flambeau.tasks.text_program import LENGTHS, made_up, tokenizer_beside

ENCODER, STEP = "encoder", "step"

MEMORY, STATE, NEXT = "memory_", "state_", "next_"
"""In front of the names of what is kept of a source, of what a step takes, and of what it gives to the next one."""

Predict = Callable[[nn.Module, Batch], dict[str, Tensor]]

Shape = tuple[torch.dtype, tuple[int, ...]]
"""Of one row."""


class Begin(nn.Module):
    """What a source leaves behind, and the state before the first token, as a tuple.

    Args:
        network: Has ``begin`` and ``step``, or ``forward`` alone.
        empty: Where ``begin`` gives no state: dtypes and shapes of the states, with nothing along what grows.
    """

    def __init__(self, network: nn.Module, empty: Mapping[str, Shape]) -> None:
        super().__init__()
        self.network = network
        self._empty = dict(empty)

    def forward(self, source: Tensor) -> tuple[Tensor, ...]:
        memory, state = stepping(self.network).begin(source)
        if not state:
            rows = source.shape[0]
            state = {name: torch.zeros((rows, *shape), dtype=kind) for name, (kind, shape) in self._empty.items()}
        return *memory.values(), *state.values()


class Step(nn.Module):
    """Logits after one more token, and the states after it, as a tuple.

    Args:
        network: As for :class:`Begin`.
        memory: Names of what the source left behind, in order.
        state: Names of the states, in order.
    """

    def __init__(self, network: nn.Module, memory: Sequence[str], state: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self._memory, self._state = tuple(memory), tuple(state)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        tokens, *known = inputs
        count = len(self._memory)
        memory = dict(zip(self._memory, known[:count], strict=True))
        state = dict(zip(self._state, known[count:], strict=True))
        logits, after = stepping(self.network).step(tokens, memory, state)
        return logits, *(after[name] for name in self._state)


class Called(nn.Module):
    """The network of a translator whose graphs are run by a call: it can be searched, and taught by a reference."""

    def __init__(self, call: Call, memory: Sequence[str], state: Sequence[str]) -> None:
        super().__init__()
        self._call = call
        self._memory, self._state = tuple(memory), tuple(state)

    def begin(self, source: Tensor) -> tuple[Memory, State]:
        """As :mod:`flambeau.models.search` asks for."""
        made = self._call(ENCODER, {"source": source})
        memory = {name: made[f"{MEMORY}{name}"] for name in self._memory}
        return memory, {name: made[f"{STATE}{name}"] for name in self._state}

    def step(self, tokens: Tensor, memory: Memory, state: State) -> tuple[Tensor, State]:
        """As :mod:`flambeau.models.search` asks for."""
        known = {f"{MEMORY}{name}": value for name, value in memory.items()}
        known |= {f"{STATE}{name}": value for name, value in state.items()}
        made = self._call(STEP, {"tokens": tokens, **known})
        return made["logits"], {name: made[f"{NEXT}{name}"] for name in self._state}

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits ``(N, T, V)`` of what follows each token of the target, a step at a time."""
        memory, state = self.begin(source)
        rows = []
        for tokens in target.unbind(1):
            logits, state = self.step(tokens, memory, state)
            rows.append(logits)
        return torch.stack(rows, 1)


@dataclass(frozen=True, slots=True)
class Tried:
    """What a network keeps of two sources of one length: before the first token, after it, and after the second."""

    memory: Memory
    before: State
    one: State
    two: State


def tried(network: nn.Module, length: int) -> Tried:
    """Decodes two tokens of two sources."""
    steps, tokens = stepping(network), torch.full((2,), START)
    with dry_run(network), torch.no_grad():
        memory, before = steps.begin(torch.full((2, length), END))
        _, one = steps.step(tokens, memory, before)
        _, two = steps.step(tokens, memory, one)
    return Tried(memory, before, one, two)


def graphs(network: nn.Module) -> tuple[Graph, Graph]:
    """The graph of the source and that of a step; which axes grow, and with what, is seen by trying."""
    short, long = tried(network, 5), tried(network, 7)
    most = getattr(network, "longest", None)
    memory = [_port(MEMORY, name, (value, long.memory[name]), (value, value)) for name, value in short.memory.items()]
    state = [
        _port(STATE, name, (value, long.two[name]), (short.one[name], value), most) for name, value in short.two.items()
    ]
    source = Port(
        "source",
        torch.full((2, 5), END),
        ("N", "S"),
        "token numbers, each row up to </s> and then zeros",
        most={} if most is None else {"S": most},
    )
    tokens = Port("tokens", torch.full((2,), START), ("N",), "the last token of each row; <s> at first")
    empty = {} if short.before else {name: _nothing(port) for name, port in zip(short.two, state, strict=True)}
    after = {f"{NEXT}{name}": f"{STATE}{name} of the next step" for name in short.two}
    return (
        Graph(
            ENCODER,
            Begin(network, empty).eval(),
            (source,),
            {port.name: f"{port.about}; {_shape(port)}" for port in [*memory, *state]},
        ),
        Graph(
            STEP,
            Step(network, list(short.memory), list(short.two)).eval(),
            (tokens, *memory, *state),
            {"logits": "of the token that follows, (N, V) float32", **after},
        ),
    )


def _port(
    kind: str, name: str, by_source: tuple[Tensor, Tensor], by_step: tuple[Tensor, Tensor], most: int | None = None
) -> Port:
    """An input of a step: an axis is S where it differs with the source's length, and P where it does with the step."""
    value = by_step[1]
    lengths = zip(*(tensor.shape[1:] for tensor in (*by_source, *by_step)), strict=True)
    axes = ["S" if a != b else "P" if c != d else None for a, b, c, d in lengths]
    about = "kept of the source" if kind == MEMORY else "kept of the tokens so far"
    # With the one that is added there may be no more than the network has positions for.
    bounds = {"P": most - 1} if most is not None and "P" in axes else {}
    return Port(f"{kind}{name}", value.contiguous().clone(), ("N", *axes), about, most=bounds)


def _nothing(port: Port) -> Shape:
    """A row of a state before there are any tokens."""
    sides = zip(port.axes[1:], port.example.shape[1:], strict=True)
    return port.example.dtype, tuple(0 if axis == "P" else side for axis, side in sides)


def _shape(port: Port) -> str:
    sides = zip(port.axes, port.example.shape, strict=True)
    shape = ", ".join(str(side) if axis is None else axis for axis, side in sides)
    return f"({shape}) {str(port.example.dtype).removeprefix('torch.')}"


def program(predict: Predict, model: nn.Module, facts: Facts, wish: Wish) -> Program:
    """The program of a translator: two graphs, and the task's own search over calls of them."""
    require_varying(wish, "translation")
    known = cast(Translator, model)
    encoder, step = graphs(known.network)
    memory = [port.name.removeprefix(MEMORY) for port in step.inputs if port.name.startswith(MEMORY)]
    state = [port.name.removeprefix(STATE) for port in step.inputs if port.name.startswith(STATE)]

    def run(call: Call, raw: Columns | None, batch: Batch) -> dict[str, Tensor]:
        called = Called(call, memory, state)
        return predict(Translator(called, beam=known.beam, penalty=known.penalty, ratio=known.ratio), batch)

    return Program(
        (encoder, step),
        run,
        # What is left of two searches whose hypotheses tie; and a reference of some tens of tokens.
        (Compared("score", within=2e-4), Compared("nll", within=1e-3)),
        {
            "front": "translation",
            "tokenizer": facts["tokenizer"],
            "before": [],
            "after": [END],
            "shift": 0,
            "unknown": UNKNOWN,
            "padding": PAD,
            "start": START,
            "end": END,
            "max_length": facts["max_length"],
            "never": [PAD, UNKNOWN, START],
            "beam": known.beam,
            "length_penalty": known.penalty,
            "characters": facts["characters"],
            "longest": facts["longest"],
            "most_tokens": [known.ratio, Translator.ROOM],
            "memory": memory,
            "state": state,
            "answer": {"kind": "texts"},
        },
        lambda: {"source": made_up(facts["tokenizer"], [n for n in LENGTHS if n <= max(2, facts["longest"])])},
        beside=tokenizer_beside(facts["tokenizer"]),
        point=1.0,
    )
