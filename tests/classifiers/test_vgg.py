"""VGG-16: layers, torchvision's weights, errors."""

import hashlib

import pytest
import torch
from torch import nn

from advdenoise.classifiers import vgg
from advdenoise.classifiers.vgg import vgg16
from advdenoise.errors import BadInput, DamagedFile
from advdenoise.graph.sources import functions

GREY, COLOUR = (1, 28, 28), (3, 32, 32)


def layer_outputs(network: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The output of every named layer."""
    maps, outputs = network.normalise(images), {}
    for name, layer in network.layers.named_children():
        outputs[name] = maps = layer(maps)
    return outputs


def test_published_size_and_maps():
    network = vgg16(GREY, 10).eval()
    convolutions = {k: m for k, m in network.layers.named_children() if k.startswith("conv")}
    assert len(convolutions) == 13
    assert sum(p.numel() for m in convolutions.values() for p in m.parameters()) == 14_714_688
    with torch.no_grad():
        maps = layer_outputs(network, torch.rand(2, *GREY))
    sizes = {
        "relu3_2": (256, 8, 8),
        "relu4_2": (512, 4, 4),
        "pool4": (512, 2, 2),
        "relu5_3": (512, 2, 2),
        "pool5": (512, 1, 1),
        "linear": (10,),
    }
    assert {name: tuple(maps[name].shape[1:]) for name in sizes} == sizes


def test_layers_have_torchvisions_indices():
    features = list(dict(vgg._features(2, batch_norm=False)))
    assert len(features) == 31
    # The last modules of the slices [:30], [:21], [:14], and the layers of the prototype.
    assert [features[i] for i in (29, 20, 13)] == ["relu5_3", "relu4_2", "relu3_2"]
    assert [features[i] for i in (27, 23, 20)] == ["relu5_2", "pool4", "relu4_2"]


def test_grey_images_are_padded_with_black_repeated_and_normalised():
    images = torch.rand(2, *GREY)
    maps = layer_outputs(vgg16(GREY, 10, width=2), images)["imagenet"]
    assert maps.shape == (2, 3, 32, 32)
    for channel, (mean, std) in enumerate(zip(vgg.IMAGENET_MEAN, vgg.IMAGENET_STD, strict=True)):
        expected = nn.functional.pad((images[:, 0] - mean) / std, (2, 2, 2, 2), value=-mean / std)
        assert torch.allclose(maps[:, channel], expected, atol=1e-6)


def test_images_may_be_resized():
    images = torch.rand(2, 3, 64, 48)
    network = vgg16((3, 64, 48), 10, width=2, size=40, resize="bilinear")
    maps = layer_outputs(network, images)["resize"]
    assert torch.equal(maps, nn.functional.interpolate(images, (40, 40), mode="bilinear"))
    assert "resize" not in layer_outputs(vgg16(COLOUR, 10, width=2), torch.rand(2, *COLOUR))


@pytest.mark.parametrize(
    ("shape", "settings", "sentence"),
    [
        ((2, 28, 28), {}, "1 or 3 channels, got 2"),
        (GREY, {"size": 28}, "at least 32 for five poolings, got 28"),
        (GREY, {"resize": "stretch"}, "must be pad or bilinear, got 'stretch'"),
        ((3, 64, 64), {}, "64x64 cannot be padded to 32"),
        (GREY, {"pretrained": True, "weights": "x.pth"}, "leave one of them out"),
        (GREY, {"pretrained": True, "width": 16}, "width 64 without batch norm"),
        (GREY, {"weights": "x.pth", "batch_norm": True}, "width 64 without batch norm"),
        (GREY, {"weights": "nowhere.pth"}, "nowhere.pth does not exist"),
    ],
)
def test_mistakes_are_refused(shape, settings, sentence):
    with pytest.raises(BadInput, match=sentence):
        vgg16(shape, 10, **settings)


# ---------------------------------------------------------------- torchvision's weights


@pytest.fixture(scope="module")
def torchvision_vgg():
    """torchvision's convolutions at full width, untrained."""
    from torchvision.models.vgg import cfgs, make_layers

    torch.manual_seed(1)
    return make_layers(cfgs["D"]).eval()


@pytest.fixture(scope="module")
def file(torchvision_vgg, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "vgg16.pth"
    named = {f"features.{name}": tensor for name, tensor in torchvision_vgg.state_dict().items()}
    torch.save(named | {"classifier.0.bias": torch.zeros(1)}, path)
    return path


@pytest.fixture
def accepted(file, monkeypatch):
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(vgg, "SHA256", digest[:8])
    return str(file)


def assert_is_the_original(network: nn.Module, original: nn.Module) -> None:
    images = torch.rand(2, *COLOUR)
    with torch.no_grad():
        maps = layer_outputs(network.eval(), images)
        assert torch.allclose(maps["relu5_3"], original[:30](maps["imagenet"]), atol=1e-5)
        assert torch.allclose(maps["pool5"], original(maps["imagenet"]), atol=1e-5)


def test_a_local_file_is_read(accepted, torchvision_vgg):
    assert_is_the_original(vgg16(COLOUR, 10, weights=accepted), torchvision_vgg)


def test_weights_are_fetched_by_torchvision_with_their_hash(torchvision_vgg, monkeypatch):
    from torchvision.models import _api

    arguments = {}

    def fetch(url, **options):
        arguments.update(options, url=url)
        return {f"features.{k}": v for k, v in torchvision_vgg.state_dict().items()}

    monkeypatch.setattr(_api, "load_state_dict_from_url", fetch)
    assert_is_the_original(vgg16(COLOUR, 10, pretrained=True), torchvision_vgg)
    assert arguments["check_hash"] and arguments["url"].endswith(f"vgg16-{vgg.SHA256}.pth")


def test_weights_that_cannot_be_fetched(monkeypatch):
    from torchvision.models import _api

    def fail(url, **options):
        raise OSError("Name or service not known")

    monkeypatch.setattr(_api, "load_state_dict_from_url", fail)
    with pytest.raises(BadInput, match=r"cannot be fetched \(Name or service.*`weights`"):
        vgg16(COLOUR, 10, pretrained=True)


def test_another_file_is_refused(file):
    with pytest.raises(BadInput, match="is not torchvision's vgg16-397923af.pth"):
        vgg16(COLOUR, 10, weights=str(file))


def test_a_file_that_cannot_be_read(tmp_path, monkeypatch):
    path = tmp_path / "broken.pth"
    path.write_bytes(b"no weights")
    monkeypatch.setattr(vgg, "SHA256", hashlib.sha256(b"no weights").hexdigest()[:8])
    with pytest.raises(DamagedFile, match="is a text that begins with 'no weights'"):
        vgg16(COLOUR, 10, weights=str(path))


def test_it_is_a_component():
    assert [name for name in functions("classifiers") if name.startswith("vgg.")] == ["vgg.vgg16"]
