"""Greedy and beam search against every sequence that there is, and against themselves in other company."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from flambeau.models.search import END, PAD, START, UNKNOWN, Hypotheses, Rereading, length_penalty, search
from flambeau.models.seq2seq import seq2seq
from flambeau.models.transformer import transformer

VOCABULARY = 7
WORDS = range(END + 1, VOCABULARY)


class Chain(nn.Module):
    """What follows depends on the token before it and on the first token of the source: a table, so all is known."""

    def __init__(self, seed: int = 0, sharpness: float = 2.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.table = torch.randn(VOCABULARY, VOCABULARY, VOCABULARY, generator=generator) * sharpness

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.table[source[:, :1], target]


def log_probability(network: nn.Module, source: Tensor, tokens: list[int]) -> float:
    """Of one sequence, token by token."""
    target = torch.tensor([[START, *tokens]])
    with torch.no_grad():
        scores = network(source[None], target)[0].log_softmax(-1)
    return sum(float(scores[place, token]) for place, token in enumerate(tokens))


def everything(longest: int) -> list[list[int]]:
    """Every sequence that ends by itself within so many tokens."""
    return [
        [*words, END] for length in range(longest) for words in itertools.product(WORDS, repeat=length)
    ]  # fmt: skip


def rows(found: Hypotheses) -> list[list[int]]:
    return [[token for token in row if token != PAD] for row in found.tokens.tolist()]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0])
def test_a_beam_wide_enough_finds_the_best_of_all_sequences(seed: int, penalty: float) -> None:
    network, longest = Chain(seed), 5
    source = torch.tensor([[4, END], [5, END], [6, END]])
    # Wide enough to hold every beginning; what does not end within the room counts as well as what does.
    found = search(network, source, torch.full((3,), longest), beam=81, penalty=penalty)
    open_ended = [list(words) for words in itertools.product(WORDS, repeat=longest)]
    for row, tokens in enumerate(rows(found)):
        scored = {
            tuple(sequence): log_probability(network, source[row], sequence)
            / float(length_penalty(len(sequence), penalty))
            for sequence in [*everything(longest), *open_ended]
        }
        best = max(scored.values())
        assert scored[tuple(tokens)] == pytest.approx(best, abs=1e-5)
        assert float(found.score[row]) == pytest.approx(best, abs=1e-5)
        assert bool(found.complete[row]) == (tokens[-1] == END)


def test_greedy_takes_the_most_probable_token_each_time() -> None:
    network = Chain(3)
    source, longest = torch.tensor([[4], [5], [6]]), torch.tensor([8, 3, 8])
    found = search(network, source, longest, beam=1, penalty=0.0)
    for row in range(3):
        wanted: list[int] = []
        while len(wanted) < longest[row] and wanted[-1:] != [END]:
            scores = network(source[row : row + 1], torch.tensor([[START, *wanted]]))[0, -1]
            scores[[PAD, UNKNOWN, START]] = -math.inf
            wanted.append(int(scores.argmax()))
        assert rows(found)[row] == wanted
        assert float(found.score[row]) == pytest.approx(log_probability(network, source[row], wanted), abs=1e-5)


@pytest.mark.parametrize("beam", [2, 3, 8])
def test_a_wider_beam_is_not_worse_here_and_never_scores_itself_wrong(beam: int) -> None:
    better = 0
    for seed in range(20):
        network, source = Chain(seed, 1.0), torch.tensor([[4], [5], [6]])
        room = torch.full((3,), 10)
        narrow = search(network, source, room, beam=1, penalty=0.0)
        wide = search(network, source, room, beam=beam, penalty=0.0)
        better += int((wide.score >= narrow.score - 1e-5).sum())
        for row, tokens in enumerate(rows(wide)):
            assert float(wide.score[row]) == pytest.approx(log_probability(network, source[row], tokens), abs=1e-4)
    assert better >= 55  # of 60: a beam may lose by bad luck, but seldom


def test_nothing_follows_the_end_and_marks_are_never_written() -> None:
    network = Chain(1)
    network.table[:, :, [PAD, UNKNOWN, START]] = 50.0  # the most probable by far, and still not allowed
    source = torch.tensor([[4], [5], [6]])
    for beam in (1, 4):
        found = search(network, source, torch.full((3,), 12), beam=beam)
        for row in found.tokens.tolist():
            inside = row[: row.index(END)] if END in row else [token for token in row if token != PAD]
            assert not {PAD, UNKNOWN, START} & set(inside)
            assert all(token == PAD for token in row[len(inside) + 1 :])


@pytest.mark.parametrize("beam", [1, 3])
def test_the_longest_length_is_kept_to_and_told(beam: int) -> None:
    network = Chain(0)
    network.table[:, :, END] = -50.0  # it never ends by itself
    found = search(network, torch.tensor([[4], [5], [6]]), torch.tensor([1, 4, 9]), beam=beam)
    assert [len(row) for row in rows(found)] == [1, 4, 9]
    assert not found.complete.any()


def test_the_penalty_is_that_of_the_paper_and_prefers_longer_texts() -> None:
    assert float(length_penalty(1, 0.6)) == pytest.approx(1.0)
    assert float(length_penalty(13, 0.5)) == pytest.approx(math.sqrt(3.0))
    assert length_penalty(torch.tensor([7, 19]), 1.0).tolist() == pytest.approx([2.0, 4.0])
    short = long = 0
    for seed in range(20):
        network = Chain(seed, 1.0)
        network.table[:, :, END] += 0.5
        source, room = torch.tensor([[4], [5], [6]]), torch.full((3,), 12)
        short += sum(map(len, rows(search(network, source, room, beam=8, penalty=0.0))))
        long += sum(map(len, rows(search(network, source, room, beam=8, penalty=2.0))))
    assert long > short


def networks() -> dict[str, nn.Module]:
    torch.manual_seed(5)
    made = {
        "transformer": transformer({"vocabulary": 20}, width=16, layers=2, heads=2, inner=32),
        "learned": transformer({"vocabulary": 20}, width=16, layers=1, heads=4, inner=16, positions="learned"),
        "seq2seq": seq2seq({"vocabulary": 20}, embedding=12, hidden=10, layers=2),
        "additive": seq2seq({"vocabulary": 20}, embedding=12, hidden=10, attention="additive"),
    }
    for network in made.values():
        network.eval()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(2.5)  # fresh networks are nearly uniform; these have opinions
    return made


@pytest.mark.parametrize("name", ["transformer", "learned", "seq2seq", "additive"])
@pytest.mark.parametrize("beam", [1, 4])
def test_a_sentence_is_translated_the_same_in_any_company(name: str, beam: int) -> None:
    network = networks()[name]
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 9, (24,), generator=generator)
    source = torch.randint(4, 20, (24, 9), generator=generator)
    source[torch.arange(9) >= lengths[:, None]] = PAD
    longest = 2 * lengths + 3
    together = search(network, source, longest, beam=beam)
    for row in range(24):
        alone = search(network, source[row : row + 1, : lengths[row]], longest[row : row + 1], beam=beam)
        assert rows(alone)[0] == rows(together)[row]
        assert float(alone.score[0]) == pytest.approx(float(together.score[row]), abs=1e-4)
        assert bool(alone.complete[0]) == bool(together.complete[row])
    again = search(network, source, longest, beam=beam)
    assert torch.equal(again.tokens, together.tokens) and torch.equal(again.score, together.score)


@pytest.mark.parametrize("name", ["transformer", "learned", "seq2seq", "additive"])
@pytest.mark.parametrize("beam", [1, 3])
def test_keeping_what_was_computed_gives_what_reading_again_gives(name: str, beam: int) -> None:
    network = networks()[name]
    source = torch.tensor([[4, 9, 7, 3], [11, 3, 0, 0], [5, 6, 3, 0], [8, 3, 0, 0], [19, 18, 17, 3]])
    room = torch.tensor([12, 9, 10, 5, 12])

    class ForwardOnly(nn.Module):
        def forward(self, source: Tensor, target: Tensor) -> Tensor:
            logits: Tensor = network(source, target)
            return logits

    kept, again = search(network, source, room, beam=beam), search(ForwardOnly(), source, room, beam=beam)
    assert torch.equal(kept.tokens, again.tokens)
    assert torch.allclose(kept.score, again.score, atol=1e-4)


def test_no_rows_and_one_row() -> None:
    none = search(Chain(), torch.zeros(0, 3, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    assert none.tokens.shape == (0, 0) and not len(none.score)
    memory, state = Rereading(Chain()).begin(torch.tensor([[4]]))
    assert set(memory) == {"source"} and not state
