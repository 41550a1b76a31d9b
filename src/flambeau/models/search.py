"""Decoding: from a network that says what may come next to the sequence that it finds most probable.

Greedy search takes the most probable token each time; beam search keeps the most probable beginnings. Both are written
over three calls, so that any network can be decoded that has them:

- ``begin(source) -> (memory, state)``: what a source ``(N, S)`` leaves behind, in tensors of N rows each. The memory
  stays as it is, the state grows;
- ``step(tokens, memory, state) -> (logits, state)``: one more token a row, ``(N,)``, and the logits ``(N, V)`` of what
  follows;
- nothing else: rows are independent, and are repeated, chosen and dropped here.

:func:`stepping` gives them to a network that has only ``forward(source, target) -> logits``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

PAD, UNKNOWN, START, END = range(4)
"""The numbers of ``<pad>``, ``<unk>``, ``<s>`` and ``</s>`` in every vocabulary that is decoded."""

SPECIALS = ("<pad>", "<unk>", "<s>", "</s>")

Memory = Mapping[str, Tensor]
State = Mapping[str, Tensor]


class Steps(Protocol):
    """What can be decoded."""

    def begin(self, source: Tensor) -> tuple[Memory, State]:
        """What a source leaves behind, and the state before the first token."""

    def step(self, tokens: Tensor, memory: Memory, state: State) -> tuple[Tensor, State]:
        """Logits of what follows one more token a row, and the state after it."""


@dataclass(frozen=True, slots=True)
class Hypotheses:
    """What a search found for each source.

    Attributes:
        tokens: ``(N, L)`` int64 without ``<s>``, up to and with ``</s>``, then padding.
        score: The sum of log-probabilities divided by the length penalty, ``(N,)`` float32.
        complete: Whether the sequence ended by itself, bool ``(N,)``, rather than at the longest length.
    """

    tokens: Tensor
    score: Tensor
    complete: Tensor


def length_penalty(length: Tensor | int, alpha: float) -> Tensor:
    """What a hypothesis's log-probability is divided by: ``((5 + length) / 6) ** alpha`` (Wu et al. 2016, eq. 14).

    Args:
        length: Tokens of the hypothesis, with ``</s>``.
        alpha: 0 compares sums of log-probabilities, which prefers the short; 1 very nearly their means.

    Example:
        >>> float(length_penalty(7, 1.0))
        2.0
    """
    return ((5.0 + torch.as_tensor(length, dtype=torch.float32)) / 6.0) ** alpha


@torch.no_grad()
def search(network: nn.Module, source: Tensor, longest: Tensor, *, beam: int = 1, penalty: float = 0.6) -> Hypotheses:
    """The best sequence that greedy (``beam`` 1) or beam search finds for each source.

    Args:
        network: With ``begin`` and ``step``, or with ``forward(source, target) -> logits`` only.
        source: Padded tokens, int64 ``(N, S)``.
        longest: The most tokens of each row's result with ``</s>``, int64 ``(N,)``.
        beam: Hypotheses that are kept.
        penalty: The exponent of the :func:`length_penalty`.

    Example:
        >>> from flambeau.models.transformer import transformer
        >>> network = transformer({"vocabulary": 9}, width=8, layers=1, heads=1, inner=8).eval()
        >>> found = search(network, torch.tensor([[4, 5, 3]]), torch.tensor([6]), beam=2)
        >>> found.tokens.shape[1] <= 6
        True
    """
    steps = stepping(network)
    if not len(source):
        empty = source.new_zeros(0)
        return Hypotheses(source.new_zeros(0, 0), empty.float(), empty.bool())
    return _greedy(steps, source, longest, penalty) if beam == 1 else _beam(steps, source, longest, beam, penalty)


def stepping(network: nn.Module) -> Steps:
    """The network itself where it decodes step by step, else one that reads the whole beginning again each time."""
    if hasattr(network, "begin") and hasattr(network, "step"):
        return cast(Steps, network)
    return Rereading(network)


@dataclass(frozen=True, slots=True)
class Rereading:
    """Steps of a network that has only ``forward(source, target) -> logits (N, T, V)``."""

    network: Callable[[Tensor, Tensor], Tensor]

    def begin(self, source: Tensor) -> tuple[Memory, State]:
        """The source as it is."""
        return {"source": source}, {}

    def step(self, tokens: Tensor, memory: Memory, state: State) -> tuple[Tensor, State]:
        """The logits after the last of all tokens so far."""
        so_far = torch.cat([state["tokens"], tokens.unsqueeze(1)], 1) if state else tokens.unsqueeze(1)
        return self.network(memory["source"], so_far)[:, -1], {"tokens": so_far}


def _greedy(steps: Steps, source: Tensor, longest: Tensor, alpha: float) -> Hypotheses:
    n, width = len(source), int(longest.max())
    result = source.new_full((n, width), PAD)
    score, complete = source.new_zeros(n, dtype=torch.float32), source.new_zeros(n, dtype=torch.bool)
    memory, state = steps.begin(source)
    rows, tokens = torch.arange(n, device=source.device), source.new_full((n,), START)
    going = tokens == START
    for place in range(width):
        logits, state = steps.step(tokens, memory, state)
        best, tokens = _log_probabilities(logits).max(1)
        result[rows, place] = tokens.where(going, PAD)
        score[rows] += best.where(going, 0.0)
        complete[rows] |= going & (tokens == END)
        going &= (tokens != END) & (longest[rows] > place + 1)
        left = int(going.sum())
        if not left:
            break
        if left <= len(rows) // 2:  # dropping rows copies all others, so it waits until that is worth while
            kept = going.nonzero()[:, 0]
            rows, tokens, going = rows[kept], tokens[kept], going[kept]
            memory, state = _rows(memory, kept), _rows(state, kept)
    lengths = (result != PAD).sum(1)
    return Hypotheses(result[:, : int(lengths.max())], score / length_penalty(lengths, alpha), complete)


@dataclass(frozen=True, slots=True)
class _Pool:
    """The best finished hypotheses of each source, the best first: ``(N, K)``, and tokens ``(N, K, L)``."""

    score: Tensor
    tokens: Tensor
    complete: Tensor

    def merged(self, score: Tensor, tokens: Tensor, complete: Tensor) -> _Pool:
        """With new hypotheses, of which those with a score of minus infinity are none."""
        best, order = torch.cat([self.score, score], 1).topk(self.score.shape[1], 1)
        tokens = torch.cat([self.tokens, tokens], 1)
        chosen = tokens.gather(1, order.unsqueeze(2).expand(-1, -1, tokens.shape[2]))
        return _Pool(best, chosen, torch.cat([self.complete, complete], 1).gather(1, order))

    def take(self, rows: Tensor) -> _Pool:
        return _Pool(self.score[rows], self.tokens[rows], self.complete[rows])


def _beam(steps: Steps, source: Tensor, longest: Tensor, beam: int, alpha: float) -> Hypotheses:
    """A hypothesis that ends among the best K is finished.

    A source is done when it has K of them and none that still goes on is better than the worst, as lengths are now. To
    stop at the K-th would leave those that end too early, which a network that is not sure of itself has many of.
    """
    n, width = len(source), int(longest.max())
    best = Hypotheses(
        source.new_full((n, width), PAD), source.new_zeros(n, dtype=torch.float32), source.new_zeros(n) > 0
    )
    memory, state = steps.begin(source)
    each = torch.arange(n, device=source.device).repeat_interleave(beam)
    memory, state = _rows(memory, each), _rows(state, each)
    rows = torch.arange(n, device=source.device)
    # At the start all K beginnings are the same one, so only the first counts.
    live = torch.full((n, beam), -torch.inf, device=source.device)
    live[:, 0] = 0.0
    tokens = source.new_full((n, beam, width + 1), PAD)
    tokens[:, :, 0] = START
    pool = _Pool(torch.full_like(live, -torch.inf), tokens[:, :, 1:], live > 0)
    for place in range(width):
        logits, state = steps.step(tokens[:, :, place].flatten(), memory, state)
        score, parent, token = _candidates(live, logits, 2 * beam)
        over = longest[rows] <= place + 1
        pool = _finished(pool, score, parent, token, tokens, place, over, alpha)
        score = score.masked_fill(token == END, -torch.inf)
        live, order = score.topk(beam, 1)
        parent, token = parent.gather(1, order), token.gather(1, order)
        tokens = tokens.gather(1, parent.unsqueeze(2).expand_as(tokens))
        tokens[:, :, place + 1] = token
        hope = live[:, 0] / length_penalty(place + 1, alpha)
        done = over | (hope <= pool.score[:, -1]) | (hope == -torch.inf)
        live = live.masked_fill(done.unsqueeze(1), -torch.inf)
        left = int((~done).sum())
        moved = torch.arange(len(rows), device=rows.device).unsqueeze(1) * beam + parent
        if not left or left <= len(rows) // 2:
            _write(best, rows[done], pool.take(done))
            kept = (~done).nonzero()[:, 0]
            rows, live, tokens, pool, moved = rows[kept], live[kept], tokens[kept], pool.take(kept), moved[kept]
            memory = _rows(memory, (kept.unsqueeze(1) * beam + torch.arange(beam, device=kept.device)).flatten())
        if not left:
            break
        state = _rows(state, moved.flatten())
    lengths = (best.tokens != PAD).sum(1)
    return Hypotheses(best.tokens[:, : int(lengths.max())], best.score, best.complete)


def _candidates(live: Tensor, logits: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best ways to go on: their scores, the beginnings they go on from, and the tokens, each ``(N, count)``."""
    n, beam = live.shape
    size = logits.shape[-1]
    # The best of each beginning first: a sort of K x count numbers is cheaper than one of K x V.
    score, token = _log_probabilities(logits).topk(min(count, size), 1)
    score = (score.view(n, beam, -1) + live.unsqueeze(2)).flatten(1)
    score, index = score.topk(count, 1)
    return score, index // min(count, size), token.view(n, -1).gather(1, index)


def _finished(
    pool: _Pool, score: Tensor, parent: Tensor, token: Tensor, tokens: Tensor, place: int, over: Tensor, alpha: float
) -> _Pool:
    """The pool with what ended in this step: by ``</s>`` among the best K, or (``over``) because there is no room."""
    beam = pool.score.shape[1]
    score, parent, token = score[:, :beam], parent[:, :beam], token[:, :beam]
    ended = (token == END) | over.unsqueeze(1)
    whole = tokens[:, :, 1:].gather(1, parent.unsqueeze(2).expand(-1, -1, tokens.shape[2] - 1)).clone()
    whole[:, :, place] = token
    score = (score / length_penalty(place + 1, alpha).to(score.device)).masked_fill(~ended, -torch.inf)
    return pool.merged(score, whole, token == END)


def _write(best: Hypotheses, rows: Tensor, pool: _Pool) -> None:
    best.tokens[rows] = pool.tokens[:, 0]
    best.score[rows] = pool.score[:, 0]
    best.complete[rows] = pool.complete[:, 0]


def _log_probabilities(logits: Tensor) -> Tensor:
    """Log-probabilities, minus infinity for what is no part of a text."""
    scores = logits.float().log_softmax(-1)
    scores[:, [PAD, UNKNOWN, START]] = -torch.inf
    return scores


def _rows(tensors: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    return {name: tensor.index_select(0, rows) for name, tensor in tensors.items()}
