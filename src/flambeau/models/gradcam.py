"""Where a network looked: Grad-CAM (Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via
gradient-based localization", ICCV 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flambeau.models.fit import dry_run
from flambeau.models.hooks import leaves_of, watched

LEAST_SIDE = 4
"""A map of fewer rows or columns than this says too little about where; the last larger one is taken."""


def grad_cam(model: nn.Module, pictures: Tensor, classes: Tensor) -> Tensor | None:
    """How much each place of each picture spoke for a class.

    The maps of the last layer that still has places are added up, each weighted with the mean gradient of the class's
    logit; what spoke against the class is left out. The model is left as it was.

    Args:
        model: From pictures ``(N, C, H, W)`` on the scale from 0 to 255 to logits ``(N, K)``.
        pictures: ``(N, C, H, W)`` of any dtype, on the model's device.
        classes: The class of each picture that is asked about, ``(N,)`` int64.

    Returns:
        float32 ``(N, H, W)`` from 0 to 1, the greatest of each picture 1 (all 0 where nothing spoke for the class); or
        None for a network without such a layer, as one of linear layers alone.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3))
        >>> grad_cam(network, torch.rand(5, 1, 8, 8), torch.zeros(5, dtype=torch.int64)).shape
        torch.Size([5, 8, 8])
    """
    found: list[Tensor] = []

    def keep(name: str, module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and min(output.shape[2:]) >= LEAST_SIDE:
            found[:] = [output]

    with watched(leaves_of(model), keep), dry_run(model), torch.enable_grad():
        logits = model(pictures.to(torch.float32).requires_grad_())
        chosen = logits.gather(1, classes.unsqueeze(1)).sum()
        if not found or not found[0].requires_grad:
            return None
        gradients: tuple[Tensor | None, ...] = torch.autograd.grad(chosen, found[0], allow_unused=True)
    weights = gradients[0]
    if weights is None:
        return None
    heat = (found[0].detach() * weights.mean((2, 3), keepdim=True)).sum(1, keepdim=True).relu()
    heat = F.interpolate(heat.to(torch.float32), pictures.shape[2:], mode="bilinear", align_corners=False).squeeze(1)
    return heat / heat.amax((1, 2), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
