"""Networks of timm, without any download."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from scripts.advdenoise.classifiers._fold import fold
from scripts.advdenoise.classifiers.zoo import timm_model
from scripts.advdenoise.errors import BadInput, DamagedFile

SHAPE = (3, 64, 64)


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    network = timm_model(SHAPE, 10, model="resnet18").eval()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1)
            nn.init.uniform_(norm.running_mean, -0.1, 0.1)
    return network


def test_published_size():
    network = timm_model(SHAPE, 200, model="resnet18")
    assert sum(weight.numel() for weight in network.parameters()) == 11_279_112
    assert all(module.training for module in network.modules())


def test_default_range_and_the_models_own(resnet):
    images = torch.rand(1, *SHAPE)
    assert torch.allclose(resnet.normalise(images), 2 * images - 1)
    own = timm_model(SHAPE, 10, model="resnet18", mean=None, std=None).normalise
    assert torch.allclose(own.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))


def test_channels_and_inner_size():
    network = timm_model((1, 28, 30), 4, model="resnet18", size=[64, 32]).eval()
    maps = []
    network.layers.conv1.register_forward_hook(lambda *args: maps.append(args[2].shape))
    assert network(torch.rand(2, 1, 28, 30)).shape == (2, 4)
    assert maps == [(2, 64, 32, 16)]


def test_fold_is_exact(resnet):
    folded = fold(resnet)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    images = torch.rand(2, *SHAPE)
    with torch.no_grad():
        assert torch.allclose(resnet(images), folded(images), atol=1e-5)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt"])
def test_local_weights(resnet, tmp_path, name):
    path = tmp_path / name
    save = save_file if path.suffix == ".safetensors" else torch.save
    save(resnet.layers.state_dict(), path)
    network = timm_model(SHAPE, 10, model="resnet18", weights=str(path)).eval()
    images = torch.rand(2, *SHAPE)
    with torch.no_grad():
        assert torch.equal(network(images), resnet(images))
    with pytest.raises(BadInput, match=r"9 classes .* fc.bias is \(10,\) in the file"):
        timm_model(SHAPE, 9, model="resnet18", weights=str(path))
    with pytest.raises(BadInput, match=r"1 channels: conv1.weight is"):
        timm_model((1, 64, 64), 10, model="resnet18", weights=str(path))
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(DamagedFile, match=name):
        timm_model(SHAPE, 10, model="resnet18", weights=str(path))


def test_a_file_that_is_no_state_dict(tmp_path):
    torch.save([torch.zeros(3)], tmp_path / "list.pt")
    with pytest.raises(BadInput, match="is no state dict"):
        timm_model(SHAPE, 10, model="resnet18", weights=str(tmp_path / "list.pt"))


def test_mistakes_are_one_sentence():
    with pytest.raises(BadInput, match="did you mean 'resnet18'"):
        timm_model(SHAPE, 10, model="resnet81")
    with pytest.raises(BadInput, match="timm has no network '_'"):
        timm_model(SHAPE, 10, model="_")
    with pytest.raises(BadInput, match="cannot be had"):
        timm_model(SHAPE, 10, model="resnet18.no_such_tag")
    with pytest.raises(BadInput, match="there is no file"):
        timm_model(SHAPE, 10, model="resnet18", weights="nowhere.pt")
    with pytest.raises(BadInput, match="leave one of them out"):
        timm_model(SHAPE, 10, model="resnet18", weights="nowhere.pt", pretrained=True)
    with pytest.raises(BadInput, match="does not take the images of 64x64"):
        timm_model(SHAPE, 10, model="vit_tiny_patch16_224")
