"""The model as a person would put it into a server of their own: plain PyTorch, on one thread."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import flambeau

Pixels = NDArray[np.uint8]


class Network:
    """A network of grey pictures and its classes.

    Args:
        path: Of a model file.
    """

    def __init__(self, path: str) -> None:
        torch.set_num_threads(1)
        model = flambeau.load(path, device="cpu")
        self.network, self.classes = model.network, model.classes

    def answers(self, pictures: list[Pixels]) -> list[dict[str, Any]]:
        """The class and the probabilities of each picture ``(H, W)``."""
        with torch.inference_mode():
            batch = torch.from_numpy(np.stack(pictures))[:, None]
            made = (self.network(batch) / self.network.temperature).softmax(1)
        best = made.argmax(1).tolist()
        return [
            {"class": self.classes[place], "probabilities": row} for place, row in zip(best, made.tolist(), strict=True)
        ]


def of_numbers(sent: list[list[int]]) -> Pixels:
    """The pixels of a picture sent as numbers."""
    return np.array(sent, dtype=np.uint8)


def of_file(content: bytes) -> Pixels:
    """The pixels of a picture sent as a file."""
    return np.array(Image.open(io.BytesIO(content)).convert("L"))


def of_text(sent: str) -> Pixels:
    """The pixels of a file sent in base64."""
    return of_file(base64.b64decode(sent))
