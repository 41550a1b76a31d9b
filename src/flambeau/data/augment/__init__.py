"""Training-time augmentation of whole batches, drawn by a counter-based hash.

What happens to an example is a function of (seed, epoch, row) and of nothing else: not of the batch it is in, the
device, the number of workers or a generator's state. Only whom it is mixed with, under mixup and CutMix, depends on its
batch: the partner is the example at the mirrored position.
"""

from flambeau.data.augment.lots import draws
from flambeau.data.augment.pictures import picture_transform

__all__ = ["draws", "picture_transform"]
