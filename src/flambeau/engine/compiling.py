"""Training with code that ``torch.compile`` makes of a network; everything else runs the network as it is written.

A network is compiled in place, so its parameters keep their names, and losses reach it by calling it as before.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from flambeau.engine.quiet import quiet_log
from flambeau.errors import UsageError


def require_compiler(device: torch.device) -> None:
    """Compiles and runs a line of arithmetic, so that a machine that cannot compile is found before training.

    Raises:
        UsageError: It cannot; with what the compiler said.
    """
    probe = nn.Linear(2, 2).to(device)
    probe.compile()
    try:
        # A machine with CUDA's compiler and no graphics card would be told so, which is nothing to the processor.
        with quiet_log("torch"):
            probe(torch.zeros(3, 2, device=device)).sum().backward()
    # Whatever is missing (a C++ compiler, Python's headers, Triton) is told by exceptions of many kinds.
    except Exception as error:
        raise UsageError(
            "PyTorch cannot compile on this machine.",
            where="train.compile",
            received=_reason(error),
            remedy="Install a C++ compiler (g++, clang or MSVC) and Python's headers, or leave train.compile out.",
        ) from error


def _reason(error: BaseException) -> str:
    """The first line that the innermost cause says, for that one names what is missing."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def compile_in_place(model: nn.Module, ragged: bool) -> None:
    """Makes calls of a network run compiled code.

    Args:
        model: In place; a copy of it is not compiled.
        ragged: Whether batches have many shapes. One piece of code then serves all of them, else each shape has its
            own: either way, which code a batch meets does not depend on the batches before it.
    """
    model.compile(dynamic=ragged)


def is_compiled(model: nn.Module) -> bool:
    """Whether calls of a network run compiled code."""
    return model._compiled_call_impl is not None


@contextlib.contextmanager
def as_written(model: nn.Module) -> Iterator[None]:
    """Calls of the network run its own code inside the ``with`` block."""
    if not is_compiled(model):
        yield
        return
    compiled, model._compiled_call_impl = model._compiled_call_impl, None
    try:
        yield
    finally:
        model._compiled_call_impl = compiled
