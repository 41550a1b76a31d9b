"""In how many bits a network is trained: what is rounded, and what keeps small gradients from vanishing.

Weights, optimiser and averages stay float32 throughout; under bfloat16 and float16 matrix products and convolutions are
computed in 16 bits, as ``torch.autocast`` chooses. Evaluation and prediction compute in float32 always.
"""

from __future__ import annotations

import torch

from flambeau.errors import UsageError

DTYPES: dict[str, torch.dtype | None] = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""By the name that a recipe has; None is without autocast."""


def choose(wanted: str, device: torch.device) -> str:
    """The precision of a name on a device; ``auto`` is bfloat16 on CUDA devices that compute in it, else float32.

    Raises:
        UsageError: The device does not train in it.
    """
    if wanted == "auto":
        return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported(False) else "float32"
    if wanted == "float16" and device.type != "cuda":
        raise UsageError(
            "float16 is for CUDA devices.",
            where="train.precision",
            received=f"float16 on {device.type}",
            remedy="Take bfloat16, which processors have too, or float32.",
        )
    return wanted


def scaler_for(precision: str, device: torch.device) -> torch.amp.GradScaler | None:
    """What multiplies losses, and divides gradients again, so that the latter do not vanish in float16; else None."""
    return torch.amp.GradScaler(device.type) if precision == "float16" else None
