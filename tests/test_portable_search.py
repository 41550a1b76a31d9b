"""The search of exported translators, by NumPy, finds what the search of models finds."""

from __future__ import annotations

from typing import Any

import pytest
import torch


class Wandering(torch.nn.Module):
    """A made-up network whose logits depend on all tokens so far, by way of its state, and on the source."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.table, self.mix = torch.randn(12, 12, generator=generator), torch.randn(4, 12, generator=generator)
        self.code = torch.randn(12, 4, generator=generator)

    def begin(self, source: torch.Tensor) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        return {"bias": self.code[source].mean(1) @ self.mix}, {"sum": torch.zeros(len(source), 4)}

    def step(
        self, tokens: torch.Tensor, memory: dict[str, torch.Tensor], state: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        total = 0.7 * state["sum"] + self.code[tokens]
        return 1.5 * (self.table[tokens] + total @ self.mix + memory["bias"]), {"sum": total}


@pytest.mark.parametrize("beam", [1, 2, 3, 6])
def test_the_search_finds_what_the_models_search_finds(beam: int) -> None:
    from flambeau.export.portable.search import Arrays, Rules, search
    from flambeau.models import search as theirs

    rules = Rules(beam, 0.6, theirs.START, theirs.END, [theirs.PAD, theirs.UNKNOWN, theirs.START])
    for seed in range(40):
        network = Wandering(seed)
        source = torch.tensor([[4 + seed % 8, 5, theirs.END]])
        longest = 3 + seed % 12
        wanted = theirs.search(network, source, torch.tensor([longest]), beam=beam, penalty=0.6)

        def begin(given: Any, network: Wandering = network) -> tuple[Arrays, Arrays]:
            memory, state = network.begin(torch.from_numpy(given))
            return {"bias": memory["bias"].numpy()}, {"sum": state["sum"].numpy()}

        def step(tokens: Any, memory: Arrays, state: Arrays, network: Wandering = network) -> Any:
            held = [{name: torch.from_numpy(value) for name, value in part.items()} for part in (memory, state)]
            logits, after = network.step(torch.from_numpy(tokens), *held)
            return logits.numpy(), {"sum": after["sum"].numpy()}

        found = search(begin, step, source.numpy(), longest, rules)
        assert list(found.tokens) == [token for token in wanted.tokens[0].tolist() if token != theirs.PAD]
        assert found.score == pytest.approx(float(wanted.score[0]), abs=1e-5)
        assert found.complete is bool(wanted.complete[0])
