"""Recurrent layers over rows of different lengths."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from flambeau.models.recurrent import CELLS, Reader

LENGTHS = torch.tensor([6, 1, 4, 2])


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("cell", CELLS)
@torch.no_grad()
def test_the_reader_gives_what_packed_sequences_give(cell: str, bidirectional: bool) -> None:
    torch.manual_seed(0)
    reader = Reader(cell, 7, 5, 2, bidirectional=bidirectional).eval()
    twin = CELLS[cell](7, 5, 2, batch_first=True, bidirectional=bidirectional)
    for direction, suffix in ((reader.forwards, ""), (reader.backwards, "_reverse")):
        for number, layer in enumerate(direction):
            for name, value in layer.named_parameters():
                getattr(twin, name.replace("_l0", f"_l{number}{suffix}")).copy_(value)
    x = torch.randn(4, 6, 7)
    states, summary = reader(x, LENGTHS)
    packed, last = twin(pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False))
    expected, _ = pad_packed_sequence(packed, batch_first=True)
    there = torch.arange(6) < LENGTHS[:, None]
    assert torch.allclose(states[there], expected[there], atol=1e-6)
    hidden = last[0] if isinstance(last, tuple) else last
    directions = 2 if bidirectional else 1
    assert torch.allclose(summary, hidden[-directions:].transpose(0, 1).flatten(1), atol=1e-6)


def test_what_follows_a_rows_end_changes_nothing_and_learns_nothing() -> None:
    torch.manual_seed(0)
    reader = Reader("gru", 3, 4, 2)
    x = torch.randn(4, 6, 3, requires_grad=True)
    there = torch.arange(6) < LENGTHS[:, None]
    states, summary = reader(x, LENGTHS)
    (states[there].sum() + summary.sum()).backward()
    assert x.grad is not None
    assert (x.grad[~there] == 0).all()
    assert (x.grad[there] != 0).any(1).all()


def test_layers_start_as_those_of_torch() -> None:
    torch.manual_seed(0)
    ours = [value.clone() for value in Reader("lstm", 3, 4).parameters()]
    torch.manual_seed(0)
    assert all(map(torch.equal, ours, nn.LSTM(3, 4, bidirectional=True).parameters()))
