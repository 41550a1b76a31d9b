"""The networks of the package timm (PyTorch Image Models), which comes by an extra: ``timm:NAME``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from flambeau.core import Facts
from flambeau.errors import MissingExtra, ModelError, UsageError, did_you_mean
from flambeau.models.published import NOT_STATED


@dataclass(frozen=True, slots=True)
class Network:
    """A network of timm by its name there, with the pictures' channels, their size and the number of classes.

    Attributes:
        name: As in ``timm.list_models()``, with the tag of weights behind it or without: ``resnet50``,
            ``resnet50.a1_in1k``.

    Raises:
        UsageError: timm has no such network.
        MissingExtra: timm is not installed.
    """

    name: str

    def __post_init__(self) -> None:
        timm = package()
        architecture, dot, tag = self.name.partition(".")
        if not timm.is_model(architecture):
            raise UsageError(
                f"timm has no network called {architecture!r}.", remedy=did_you_mean(architecture, timm.list_models())
            )
        known = [name.partition(".")[2] for name in timm.list_models(f"{architecture}.*", pretrained=True)]
        if dot and tag not in known:
            raise UsageError(f"timm has no weights {tag!r} for {architecture}.", remedy=did_you_mean(tag, known))

    def __call__(self, facts: Facts, *, dropout: float = 0.0, settings: Mapping[str, Any] | None = None) -> nn.Module:
        """Builds it with random weights, as timm draws them.

        Args:
            facts: ``classes``, ``size`` ``[height, width]`` in pixels, ``channels``.
            dropout: timm's ``drop_rate``, the probability with which a feature is dropped before the last layer.
            settings: Further arguments of ``timm.create_model``, such as ``{"patch_size": 4}`` for small pictures.

        Returns:
            A network from float32 ``(N, C, H, W)`` to logits ``(N, K)``.

        Raises:
            ModelError: timm cannot build it so; what timm says is quoted.
        """
        given = {"num_classes": len(facts["classes"]), "in_chans": facts["channels"], "drop_rate": dropout}
        if described(self.name).fixed_input_size:
            # The others take any size, and most of their constructors do not know the word.
            given["img_size"] = tuple(facts["size"])
        return self._created({**given, **dict(settings or {})}, facts)

    def listed(self) -> dict[str, Any]:
        """What it is, for a list of networks."""
        found = described(self.name)
        weights = {"publisher": "timm", "side": found.input_size[-1], "megabytes": None}
        return {
            "about": "Of timm" + (f": {found.paper_ids}." if isinstance(found.paper_ids, str) else "."),
            "parameters": None,
            "weights": {**weights, "licence": found.license or NOT_STATED},
        }

    def _created(self, given: Mapping[str, Any], facts: Facts) -> nn.Module:
        try:
            return _on_any_device(self.name, given)
        # What timm's constructors raise is as different as they are; all of it is about these arguments.
        except Exception as error:
            height, width = facts["size"]
            settings = isinstance(error, TypeError)
            raise ModelError(
                f"timm cannot build {self.name}: {' '.join(str(error).split()) or type(error).__name__}",
                where="model.settings" if settings else f"timm:{self.name}",
                received=", ".join(f"{name} = {value!r}" for name, value in given.items()),
                remedy="Leave out the arguments that it does not take."
                if settings
                else f"It may not take pictures of {height} x {width} pixels; set images.size, for example 224.",
            ) from error


def _on_any_device(name: str, given: Mapping[str, Any]) -> nn.Module:
    """Some constructors calculate with values, which the meta device has not; such a network is moved there."""
    create = package().create_model
    try:
        made: nn.Module = create(name, pretrained=False, **given)
    except NotImplementedError:
        with torch.device("cpu"):
            made = create(name, pretrained=False, **given)
        made = made.to(torch.get_default_device())
    return made


def names(part: str) -> list[str]:
    """The networks with this in their names; with a full stop in it, also the weights: ``resnet50.``."""
    found: list[str] = package().list_models(f"*{part}*", pretrained="." in part)
    return found


def described(name: str) -> Any:
    """What timm says of a network and its weights: ``input_size``, ``mean``, ``std``, ``license``, ...

    Networks without weights have the default description, which knows no licence.
    """
    models = package().models
    return models.get_pretrained_cfg(name, allow_unregistered=True) or models.PretrainedCfg()


def package() -> Any:
    """timm itself."""
    try:
        import timm
    except ImportError as error:
        raise MissingExtra("timm", "timm", "the networks called timm:NAME") from error
    return timm
