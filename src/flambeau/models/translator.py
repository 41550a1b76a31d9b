"""The translator around a network: what it is trained by, and how it is decoded."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flambeau.core import Facts, device_of
from flambeau.errors import ModelError, one_line
from flambeau.models.fit import dry_run
from flambeau.models.search import END, PAD, START, Hypotheses, search


class Translator(nn.Module):
    """A network from a source and the beginning of a target to what comes next, and how its best target is found.

    Args:
        network: From int64 ``(N, S)`` and ``(N, T)`` to logits ``(N, T, V)``. Where it has ``features`` and ``output``
            too, logits are computed only where there is something to learn; where it has ``begin`` and ``step``
            (see :mod:`flambeau.models.search`), decoding keeps what was computed.
        beam: Hypotheses that a search keeps; 1 is greedy.
        penalty: The exponent of the length penalty.
        ratio: The most tokens of a translation for each token of its source; ``ROOM`` more are always allowed.
    """

    ROOM = 10

    def __init__(self, network: nn.Module, *, beam: int = 4, penalty: float = 0.6, ratio: float = 2.0) -> None:
        super().__init__()
        self.network = network
        self.beam, self.penalty, self.ratio = beam, penalty, ratio

    def forward(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(M, V)`` of the target's tokens after the first, padding left out, and those tokens ``(M,)``.

        Args:
            source: int64 ``(N, S)``.
            target: int64 ``(N, T)``, from ``<s>`` to ``</s>``.
        """
        wanted = target[:, 1:]
        there = wanted != PAD
        # A network of the user's own may have forward() alone.
        features, output = getattr(self.network, "features", None), getattr(self.network, "output", None)
        if callable(features) and callable(output):
            # The product with the vocabulary is the dearest of all; padding is taken out before it.
            logits = output(features(source, target[:, :-1])[there])
        else:
            logits = self.network(source, target[:, :-1])[there]
        return logits, wanted[there]

    def translate(self, source: Tensor, beam: int | None = None) -> Hypotheses:
        """The best translation that is found of each source ``(N, S)``."""
        longest = ((source != PAD).sum(1) * self.ratio).long() + self.ROOM
        return search(self.network, source, longest, beam=self.beam if beam is None else beam, penalty=self.penalty)


def check_translator(network: nn.Module, facts: Facts) -> None:
    """Sends two short sentences through a network and explains what does not fit; the network is left as it was.

    Args:
        network: From int64 ``(N, S)`` and ``(N, T)`` to logits ``(N, T, V)``.
        facts: ``vocabulary``.

    Raises:
        ModelError: It cannot take them, or its output is not one score for each token.
    """
    device = device_of(network)
    source = torch.tensor([[4, 4, END], [4, END, PAD]], device=device) % facts["vocabulary"]
    target = torch.tensor([[START, 4], [START, 4]], device=device) % facts["vocabulary"]
    wanted = (2, 2, facts["vocabulary"])
    try:
        with dry_run(network):
            logits = network(source, target)
    except ModelError:
        raise
    # Whatever a user's own forward() raises must become a message; the original stays chained to it.
    except Exception as error:
        raise ModelError(
            f"The network cannot translate: {type(error).__name__}: {one_line(error, 300)}",
            where=type(network).__name__,
            expected="forward(source, target) of int64 (N, S) and (N, T) to logits (N, T, V)",
            remedy="Write forward() so, or choose the model transformer or seq2seq.",
        ) from error
    received = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if received != wanted:
        raise ModelError(
            "The network does not give a score to each token of the vocabulary.",
            where=type(network).__name__,
            expected=f"logits (N, T, V), here {wanted}",
            received=received,
        )
