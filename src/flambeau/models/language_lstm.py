"""``lstm`` for language: reads one token after the other and keeps what it needs in a state."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flambeau.core import Facts
from flambeau.errors import ModelError
from flambeau.models.gpt import check_probability

State = tuple[Tensor, Tensor]
"""Output and cell of every layer after the last token, both ``(layers, N, width)``."""


def lstm(facts: Facts, *, layers: int = 2, width: int = 256, dropout: float = 0.1) -> nn.Module:
    """Layers of long short-term memory (Hochreiter and Schmidhuber 1997) that predict the next token.

    The token table is used again for the logits (Press and Wolf, arXiv 1608.05859). Every text, and every window of a
    training batch, begins with an empty state.

    Args:
        facts: ``vocabulary``, the number of tokens.
        layers: One upon the other.
        width: Numbers in a token's vector and in the state of a layer.
        dropout: The probability with which a number is dropped between layers, before the first and after the last.

    Returns:
        A network from tokens ``(N, T)``, int32 or int64, to float32 logits ``(N, T, vocabulary)``. Its ``extend``
        reads on from a state.

    Raises:
        ModelError: When an argument is out of range.

    Example:
        >>> network = lstm({"vocabulary": 65}, width=16)
        >>> network(torch.zeros(3, 10, dtype=torch.int64)).shape
        torch.Size([3, 10, 65])
    """
    for name, value in (("layers", layers), ("width", width)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelError(
                f"{name} must be at least 1.", where=f"model.{name}", expected="a whole number", received=repr(value)
            )
    check_probability("dropout", dropout)
    return LSTM(facts["vocabulary"], layers, width, dropout)


class LSTM(nn.Module):
    """The network of :func:`lstm`."""

    def __init__(self, vocabulary: int, layers: int, width: int, dropout: float) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.LSTM(width, width, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        # The table gives the logits too: with deviation 1 the first losses would be far above those of a guess.
        nn.init.normal_(self.tokens.weight, std=width**-0.5)
        with torch.no_grad():
            for name, bias in self.layers.named_parameters():
                if name.startswith("bias_ih"):
                    # Remember at first: a bias of 1 on the forget gate (Jozefowicz et al., ICML 2015).
                    bias[width : 2 * width].fill_(1.0)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits ``(N, T, vocabulary)`` of the token after each of ``(N, T)``."""
        return self.extend(tokens)[0]

    def extend(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Logits for further tokens, and the state after them.

        Args:
            tokens: ``(N, T)``, those that come after what the state has read.
            state: As an earlier call returned it, or None at the start.
        """
        hidden, after = self.layers(self.dropout(self.tokens(tokens)), state)
        return F.linear(self.dropout(hidden), self.tokens.weight, self.bias), after
