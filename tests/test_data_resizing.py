"""The resize without PyTorch gives the pixels that training sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flambeau.data import images
from flambeau.data.resizing import resized, triangles

SIZES = [(28, 28), (16, 40), (64, 64), (7, 3)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 57, 28), (3, 200, 133), (1, 5, 9), (1, 56, 56)])
def test_pixels_are_those_of_training(shape: tuple[int, int, int], size: tuple[int, int]) -> None:
    picture = np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)
    wanted = images.fit(torch.from_numpy(picture).unsqueeze(0), size, shape[0])[0].numpy()
    found = resized(picture, size)
    assert found.dtype == np.uint8 and found.shape == wanted.shape
    different = found != wanted
    # Sums in another order may end on the other side of a half.
    assert np.abs(found.astype(int) - wanted.astype(int)).max() <= 1
    assert different.mean() <= 0.01


def test_arrays_and_tensors_have_the_same_weights() -> None:
    for before, after in ((9, 4), (4, 9), (1, 3), (12, 12)):
        one = triangles(np.arange(before, dtype=np.float32), np.arange(after, dtype=np.float32))
        other = triangles(torch.arange(before, dtype=torch.float32), torch.arange(after, dtype=torch.float32))
        assert one.dtype == np.float32 and np.allclose(one, other.numpy(), atol=1e-6)
        assert np.allclose(one.sum(1), 1, atol=1e-6)
