"""What is known of torchvision's classification networks without importing them; a test compares it with torchvision.

Importing torchvision takes as long as importing Torch, which is too long for suggesting a name or printing a list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import nn

    from flambeau.core import Facts

NOT_STATED = "not stated"
"""The licence of weights whose publisher names none; that of torchvision itself, BSD-3-Clause, is one of code."""

SWAG = "https://github.com/facebookresearch/SWAG/blob/main/LICENSE"


class Published(NamedTuple):
    """A network as it was published, with weights for the 1,000 classes of ImageNet.

    Attributes:
        parameters: Numbers in all parameters, with 1,000 classes and without auxiliary heads.
        side: Of the square pictures that the weights are meant for, in pixels.
        megabytes: Size of the file of weights.
        licence: Of the weights, as torchvision states it.
    """

    parameters: int
    side: int
    megabytes: int
    licence: str = NOT_STATED


@runtime_checkable
class PublishedNetwork(Protocol):
    """A builder of a network that was published, with weights to begin from. Arguments are those of the recipe."""

    def listed(self) -> dict[str, Any]:
        """``about``, ``parameters`` (or None) and ``weights``: ``publisher``, ``side``, ``megabytes``, ``licence``."""

    def settle(self, facts: Facts, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments with what is left to the network said, which is what a run's recipe keeps."""

    def inputs(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What the weights asked for want of pictures: ``size``, ``channels``, ``mean``, ``std``; or nothing."""

    def fetch(self, arguments: Mapping[str, Any]) -> str | None:
        """Sees to it that the weights asked for are in the cache; says which they are."""

    def begin(self, network: nn.Module, facts: Facts, arguments: Mapping[str, Any]) -> None:
        """Puts the weights asked for into a network that it built, all but the last layer's."""


def published(builder: object) -> PublishedNetwork | None:
    """The builder, where it is one of a published network."""
    return builder if isinstance(builder, PublishedNetwork) else None


TORCHVISION = {
    "alexnet": Published(61_100_840, 224, 233),
    "convnext_base": Published(88_591_464, 224, 338),
    "convnext_large": Published(197_767_336, 224, 755),
    "convnext_small": Published(50_223_688, 224, 192),
    "convnext_tiny": Published(28_589_128, 224, 109),
    "densenet121": Published(7_978_856, 224, 31),
    "densenet161": Published(28_681_000, 224, 110),
    "densenet169": Published(14_149_480, 224, 55),
    "densenet201": Published(20_013_928, 224, 77),
    "efficientnet_b0": Published(5_288_548, 224, 20),
    "efficientnet_b1": Published(7_794_184, 240, 30),
    "efficientnet_b2": Published(9_109_994, 288, 35),
    "efficientnet_b3": Published(12_233_232, 300, 47),
    "efficientnet_b4": Published(19_341_616, 380, 74),
    "efficientnet_b5": Published(30_389_784, 456, 117),
    "efficientnet_b6": Published(43_040_704, 528, 165),
    "efficientnet_b7": Published(66_347_960, 600, 255),
    "efficientnet_v2_l": Published(118_515_272, 480, 455),
    "efficientnet_v2_m": Published(54_139_356, 480, 208),
    "efficientnet_v2_s": Published(21_458_488, 384, 83),
    "googlenet": Published(6_624_904, 224, 50),
    "inception_v3": Published(23_834_568, 299, 104),
    "maxvit_t": Published(30_919_624, 224, 119),
    "mnasnet0_5": Published(2_218_512, 224, 9),
    "mnasnet0_75": Published(3_170_208, 224, 12),
    "mnasnet1_0": Published(4_383_312, 224, 17),
    "mnasnet1_3": Published(6_282_256, 224, 24),
    "mobilenet_v2": Published(3_504_872, 224, 14),
    "mobilenet_v3_large": Published(5_483_032, 224, 21),
    "mobilenet_v3_small": Published(2_542_856, 224, 10),
    "regnet_x_16gf": Published(54_278_536, 224, 208),
    "regnet_x_1_6gf": Published(9_190_136, 224, 35),
    "regnet_x_32gf": Published(107_811_560, 224, 412),
    "regnet_x_3_2gf": Published(15_296_552, 224, 59),
    "regnet_x_400mf": Published(5_495_976, 224, 21),
    "regnet_x_800mf": Published(7_259_656, 224, 28),
    "regnet_x_8gf": Published(39_572_648, 224, 151),
    "regnet_y_128gf": Published(644_812_894, 384, 2462, SWAG),
    "regnet_y_16gf": Published(83_590_140, 224, 319),
    "regnet_y_1_6gf": Published(11_202_430, 224, 43),
    "regnet_y_32gf": Published(145_046_770, 224, 554),
    "regnet_y_3_2gf": Published(19_436_338, 224, 75),
    "regnet_y_400mf": Published(4_344_144, 224, 17),
    "regnet_y_800mf": Published(6_432_512, 224, 25),
    "regnet_y_8gf": Published(39_381_472, 224, 151),
    "resnet101": Published(44_549_160, 224, 171),
    "resnet152": Published(60_192_808, 224, 230),
    "resnet18": Published(11_689_512, 224, 45),
    "resnet34": Published(21_797_672, 224, 83),
    "resnet50": Published(25_557_032, 224, 98),
    "resnext101_32x8d": Published(88_791_336, 224, 340),
    "resnext101_64x4d": Published(83_455_272, 224, 319),
    "resnext50_32x4d": Published(25_028_904, 224, 96),
    "shufflenet_v2_x0_5": Published(1_366_792, 224, 5),
    "shufflenet_v2_x1_0": Published(2_278_604, 224, 9),
    "shufflenet_v2_x1_5": Published(3_503_624, 224, 14),
    "shufflenet_v2_x2_0": Published(7_393_996, 224, 28),
    "squeezenet1_0": Published(1_248_424, 224, 5),
    "squeezenet1_1": Published(1_235_496, 224, 5),
    "swin_b": Published(87_768_224, 224, 335),
    "swin_s": Published(49_606_258, 224, 190),
    "swin_t": Published(28_288_354, 224, 108),
    "swin_v2_b": Published(87_930_848, 256, 336),
    "swin_v2_s": Published(49_737_442, 256, 191),
    "swin_v2_t": Published(28_351_570, 256, 109),
    "vgg11": Published(132_863_336, 224, 507),
    "vgg11_bn": Published(132_868_840, 224, 507),
    "vgg13": Published(133_047_848, 224, 508),
    "vgg13_bn": Published(133_053_736, 224, 508),
    "vgg16": Published(138_357_544, 224, 528),
    "vgg16_bn": Published(138_365_992, 224, 528),
    "vgg19": Published(143_667_240, 224, 548),
    "vgg19_bn": Published(143_678_248, 224, 548),
    "vit_b_16": Published(86_567_656, 224, 330),
    "vit_b_32": Published(88_224_232, 224, 337),
    "vit_h_14": Published(633_470_440, 518, 2417, SWAG),
    "vit_l_16": Published(304_326_632, 224, 1161),
    "vit_l_32": Published(306_535_400, 224, 1169),
    "wide_resnet101_2": Published(126_886_696, 224, 485),
    "wide_resnet50_2": Published(68_883_240, 224, 263),
}
"""By the name of the builder in ``torchvision.models``; of several weights those that torchvision calls its default."""
