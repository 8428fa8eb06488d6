"""The five networks of Yoon et al. 2019 in timm: every row of Table 6, at 128 pixels."""

import pytest
import torch

from advdenoise.classifiers.zoo import timm_model
from advdenoise.distances import Taps

CLASSES = 200
# Model and stride of its stem; parameters; modules and the shapes of their maps, row by row.
NETWORKS = {
    "resnetv2_50": (
        {"model": "resnetv2_50", "stem_stride": 1},
        23_910_152,
        {
            "stem.conv": (64, 128, 128),
            "stem.pool": (64, 64, 64),
            "stages.0": (256, 64, 64),
            "stages.1": (512, 32, 32),
            "stages.2": (1024, 16, 16),
            "stages.3": (2048, 8, 8),
            "head.global_pool": (2048, 1, 1),
            "head.fc": (CLASSES, 1, 1),
        },
    ),
    "vgg19": (
        {"model": "vgg19"},
        140_389_640,
        {
            "features.3": (64, 128, 128),
            "features.8": (128, 64, 64),
            "features.17": (256, 32, 32),
            "features.26": (512, 16, 16),
            "features.35": (512, 8, 8),
            "pre_logits.act1": (4096, 1, 1),
            "pre_logits.act2": (4096, 1, 1),
            "head.fc": (CLASSES,),
        },
    ),
    "senet154": (
        {"model": "legacy_senet154", "stem_stride": 1},
        113_449_784,
        {
            "layer0": (128, 128, 128),  # before its pool
            "layer1": (256, 64, 64),
            "layer2": (512, 32, 32),
            "layer3": (1024, 16, 16),
            "layer4": (2048, 8, 8),
            "global_pool": (2048,),
            "last_linear": (CLASSES,),
        },
    ),
    "inception_resnet_v2": (
        {"model": "inception_resnet_v2", "stem_stride": 1},
        54_613_864,
        {
            "conv2d_1a": (32, 126, 126),
            "conv2d_2a": (32, 124, 124),
            "conv2d_2b": (64, 124, 124),
            "conv2d_3b": (80, 61, 61),
            "conv2d_4a": (192, 59, 59),
            "mixed_5b": (320, 29, 29),
            "repeat": (320, 29, 29),
            "mixed_6a": (1088, 14, 14),
            "repeat_1": (1088, 14, 14),
            "mixed_7a": (2080, 6, 6),
            "repeat_2": (2080, 6, 6),
            "block8": (2080, 6, 6),
            "global_pool": (1536,),
            "classif": (CLASSES,),
        },
    ),
}
DENSENET = {
    "features.denseblock1": (256, 32, 32),
    "features.transition1": (128, 16, 16),
    "features.denseblock2": (512, 16, 16),
    "features.transition2": (256, 8, 8),
    "features.denseblock3": (1792, 8, 8),
    "features.transition3": (896, 4, 4),
    "features.norm5": (1920, 4, 4),
    "classifier": (CLASSES,),
}
for head, size in {"linear": 18_477_128, "conv": 24_237_128, "prelu": 18_477_129}.items():
    NETWORKS[f"densenet201_{head}"] = ({"model": "densenet201", "head": head}, size, DENSENET)
# Modules whose output no ReLU has passed, except for the logits.
BEFORE_RELU = {
    "resnetv2_50": {"stem.conv", "stem.pool", "stages.0", "stages.1", "stages.2", "stages.3"},
    "inception_resnet_v2": {"block8"},
} | {f"densenet201_{head}": set(list(DENSENET)[:6]) for head in ("linear", "conv", "prelu")}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_row_is_a_module_with_a_map_of_that_shape(name):
    settings, size, rows = NETWORKS[name]
    torch.manual_seed(0)
    network = timm_model((3, 64, 64), CLASSES, size=128, **settings).eval()
    assert sum(weight.numel() for weight in network.parameters()) == size
    names = [f"layers.{row}" for row in rows]

    def describe(_, output):
        return tuple(output.shape[1:]), bool((output < 0).any())

    with torch.no_grad(), Taps(network, names, describe) as taps:
        logits = network(torch.rand(2, 3, 64, 64))
        outputs = taps.take()
    assert logits.shape == (2, CLASSES) and logits.isfinite().all()
    assert {row: outputs[f"layers.{row}"][0] for row in rows} == rows
    negative = {row for row in rows if outputs[f"layers.{row}"][1]}
    assert negative - {list(rows)[-1]} == BEFORE_RELU.get(name, set())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("resnetv2_50", "stem.conv"),
        ("legacy_senet154", "layer0.conv1"),
        ("inception_resnet_v2", "conv2d_1a.conv"),
        ("densenet201", "features.conv0"),
        ("vgg19", "features.0"),
    ],
)
def test_the_stem_is_the_layer_that_the_paper_adjusts(name, stem):
    network = timm_model((3, 64, 64), 2, model=name, size=96, stem_stride=1)
    paths = {path for path, m in network.layers.named_modules() if m is first_convolution(network)}
    assert paths == {stem} and network.layers.get_submodule(stem).stride == (1, 1)


def first_convolution(network: torch.nn.Module) -> torch.nn.Module:
    return next(m for m in network.layers.modules() if isinstance(m, torch.nn.Conv2d))
