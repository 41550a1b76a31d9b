"""The networks of the package timm (PyTorch Image Models), which comes by an extra: ``timm:NAME``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from flambeau import files
from flambeau.core import Facts
from flambeau.errors import MissingExtra, ModelError, UsageError, did_you_mean, one_line
from flambeau.models.frozen import head_of, transfer
from flambeau.models.published import NOT_STATED

FILE = "model.safetensors"
"""What weights are called in timm's repositories on the Hub."""


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

    def __call__(
        self,
        facts: Facts,
        *,
        dropout: float = 0.0,
        pretrained: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> nn.Module:
        """Builds it with random weights, as timm draws them.

        Args:
            facts: ``classes``, ``size`` ``[height, width]`` in pixels, ``channels``.
            dropout: timm's ``drop_rate``, the probability with which a feature is dropped before the last layer.
            pretrained: Training begins from the weights that the name says, or timm's default ones.
            settings: Further arguments of ``timm.create_model``, such as ``{"patch_size": 4}`` for small pictures.

        Returns:
            A network from float32 ``(N, C, H, W)`` to logits ``(N, K)``.

        Raises:
            ModelError: timm cannot build it so; what timm says is quoted.
        """
        return self._created(facts, {"dropout": dropout, "settings": settings})

    def settle(self, facts: Facts, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as they are: nothing is left to the network."""
        return dict(arguments)

    def inputs(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Size and normalisation of the pictures that the weights are meant for, when they are asked for."""
        if not arguments.get("pretrained"):
            return {}
        found = described(self.name)
        channels, *size = found.input_size
        return {"size": size, "channels": channels, "mean": list(found.mean), "std": list(found.std)}

    def fetch(self, arguments: Mapping[str, Any]) -> str | None:
        """Fetches the weights into the cache of the Hub, when they are asked for and not there; says which they are."""
        if not arguments.get("pretrained"):
            return None
        path, found = self._file(), described(self.name)
        return f"{found.hf_hub_id} of timm, {path}; licence of the weights: {found.license or NOT_STATED}"

    def begin(self, network: nn.Module, facts: Facts, arguments: Mapping[str, Any]) -> None:
        """Puts the weights into a network that this built, when they are asked for, all but the last layer's.

        timm itself reads the file, since it knows what older files call things and how positions change with the size.
        """
        if not arguments.get("pretrained"):
            return
        path = self._file()
        made = self._created(facts, arguments, file=path)
        transfer(network, made.state_dict(), where=path, without=[head_of(network)])

    def listed(self) -> dict[str, Any]:
        """What it is, for a list of networks."""
        found = described(self.name)
        weights = {"publisher": "timm", "side": found.input_size[-1], "megabytes": None}
        return {
            "about": "Of timm" + (f": {found.paper_ids}." if isinstance(found.paper_ids, str) else "."),
            "parameters": None,
            "weights": {**weights, "licence": found.license or NOT_STATED},
        }

    def _created(self, facts: Facts, arguments: Mapping[str, Any], file: Path | None = None) -> nn.Module:
        """The network with random weights, or with those of a file."""
        given = {"num_classes": len(facts["classes"]), "in_chans": facts["channels"]}
        given |= {"drop_rate": arguments.get("dropout", 0.0), **dict(arguments.get("settings") or {})}
        if described(self.name).fixed_input_size:
            # The others take any size, and most of their constructors do not know the word.
            given = {"img_size": tuple(facts["size"]), **given}
        read = {} if file is None else {"pretrained": True, "pretrained_cfg_overlay": {"file": str(file)}}
        try:
            return _on_any_device(self.name, given | read)
        # What timm's constructors raise is as different as they are; all of it is about these arguments.
        except Exception as error:
            height, width = facts["size"]
            settings = isinstance(error, TypeError)
            raise ModelError(
                f"timm cannot build {self.name}: {one_line(error)}",
                where="model.settings" if settings else f"timm:{self.name}",
                received=", ".join(f"{name} = {value!r}" for name, value in given.items()),
                remedy="Leave out the arguments that it does not take."
                if settings
                else f"It may not take pictures of {height} x {width} pixels; set images.size, for example 224.",
            ) from error

    def _file(self) -> Path:
        """The file of its weights in the cache of the Hub, fetched when it is not there, and checked."""
        repository = described(self.name).hf_hub_id
        if not repository:
            raise ModelError("timm has no weights on the Hub for this network.", where=f"timm:{self.name}")
        from huggingface_hub import hf_hub_download

        try:
            path = Path(hf_hub_download(repository, FILE))
        # Requests, the Hub's own classes, the disk: whatever it is, the file is not here.
        except Exception as error:
            raise ModelError(
                f"The weights are not in the cache and could not be fetched: {one_line(error, 200)}",
                where=f"{repository}/{FILE}",
                remedy=f"With a network, run the command again, or: hf download {repository} {FILE}\n"
                "  A mirror is named by HF_ENDPOINT=ADDRESS. Without the weights: model.pretrained = false.",
            ) from error
        # The Hub's cache names a large file by its SHA-256.
        digest = path.resolve().name
        if len(digest) == 64 and files.sha256(path) != digest:
            raise ModelError(
                "The file of weights is damaged.",
                where=path,
                expected=f"the SHA-256 {digest}",
                remedy="Remove it and run the command again, which fetches it.",
            )
        return path


def _on_any_device(name: str, given: Mapping[str, Any]) -> nn.Module:
    """Some constructors calculate with values, which the meta device has not; such a network is moved there."""
    create = package().create_model
    try:
        made: nn.Module = create(name, **given)
    except NotImplementedError:
        with torch.device("cpu"):
            made = create(name, **given)
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
