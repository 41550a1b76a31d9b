"""A tensor that remembers how it was made.

This is all of automatic differentiation. Every operation computes its result, and leaves with it, for each operand, a
function that turns the gradient by the result into the gradient by the operand: the chain rule for this one operation.
Results and operands form a graph from the loss back to the weights, and `backward` walks it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Pull = Callable[[Array], Array]


class Tensor:
    """An array of float64, the gradient of the loss by it, and what it was made of."""

    def __init__(self, data: Array, made_of: Sequence[tuple[Tensor, Pull]] = (), *, learns: bool = False) -> None:
        self.data = data
        # Where nothing learns, as in the pictures, no gradient is wanted, and the graph ends.
        self.made_of = [(operand, pull) for operand, pull in made_of if operand.learns]
        self.learns: bool = learns or bool(self.made_of)
        self.grad: Array = np.zeros(())  # a zero of no shape yet; what is added gives it one

    def backward(self) -> None:
        """Adds to the `grad` of every tensor in the graph by how much this number, the loss, changes with it.

        A tensor may be used several times, and its gradient is the sum of what comes back from every use. Only then
        may it be passed on. So the tensors are put into topological order, each after all that it was made of, and are
        visited from the end.
        """
        order: list[Tensor] = []
        seen: set[Tensor] = set()

        def visit(tensor: Tensor) -> None:
            if tensor not in seen:
                seen.add(tensor)
                for operand, _ in tensor.made_of:
                    visit(operand)
                order.append(tensor)

        visit(self)
        self.grad = np.ones(())
        for tensor in reversed(order):
            for operand, pull in tensor.made_of:
                operand.grad = operand.grad + pull(tensor.grad)

    def __add__(self, other: Tensor) -> Tensor:
        pulls = [(self, lambda g: unstretched(g, self)), (other, lambda g: unstretched(g, other))]
        return Tensor(self.data + other.data, pulls)

    def __mul__(self, other: Tensor | Array | float) -> Tensor:
        by = other if isinstance(other, Tensor) else Tensor(np.asarray(other))
        pulls = [(self, lambda g: unstretched(g * by.data, self)), (by, lambda g: unstretched(g * self.data, by))]
        return Tensor(self.data * by.data, pulls)

    def __matmul__(self, other: Tensor) -> Tensor:
        pulls: list[tuple[Tensor, Pull]] = [(self, lambda g: g @ other.data.T), (other, lambda g: self.data.T @ g)]
        return Tensor(self.data @ other.data, pulls)

    def transposed(self) -> Tensor:
        return Tensor(self.data.T, [(self, lambda g: g.T)])

    def reshape(self, *shape: int) -> Tensor:
        return Tensor(self.data.reshape(shape), [(self, lambda g: g.reshape(self.data.shape))])

    def sum(self) -> Tensor:
        return Tensor(self.data.sum(), [(self, lambda g: np.broadcast_to(g, self.data.shape))])


def unstretched(gradient: Array, operand: Tensor) -> Array:
    """The gradient summed over what broadcasting repeated, so that it has the operand's shape.

    A bias (10,) that is added to scores (64, 10) is used 64 times, and answers for all of them.
    """
    shape = operand.data.shape
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))
    stretched = tuple(axis for axis, length in enumerate(shape) if length == 1)
    own: Array = gradient.sum(axis=stretched, keepdims=True)
    return own
