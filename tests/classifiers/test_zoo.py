"""Networks of timm, without any download."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from advdenoise.classifiers.zoo import timm_model
from advdenoise.errors import BadInput, DamagedFile
from advdenoise.inference.fold import fold

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


def test_default_normalisation_and_the_models_own(resnet):
    images = torch.rand(1, *SHAPE)
    assert torch.allclose(resnet.normalise(images), 2 * images - 1)
    normalise = timm_model(SHAPE, 10, model="resnet18", mean=None, std=None).normalise
    assert torch.allclose(normalise.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))


def test_channels_and_size():
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


@pytest.fixture
def stock(tmp_path):
    """A file with the weights of timm, for 1,000 classes."""
    torch.manual_seed(1)
    tensors = timm_model(SHAPE, 1000, model="test_resnet").layers.state_dict()
    save_file(tensors, tmp_path / "stock.safetensors")
    return str(tmp_path / "stock.safetensors"), tensors


@pytest.mark.parametrize("head", ["linear", "conv", "prelu"])
@pytest.mark.parametrize("classes", [10, 1000])
def test_weights_of_timm_are_loaded_without_the_head(stock, head, classes):
    path, tensors = stock
    network = timm_model(SHAPE, classes, model="test_resnet", weights=path, head=head).layers
    loaded = network.state_dict()
    body = {name for name in loaded if not name.startswith("fc.")}
    assert body == {name for name in tensors if not name.startswith("fc.")}
    assert all(torch.equal(loaded[name], tensors[name]) for name in body)
    keeps_head = head == "linear" and classes == 1000
    assert keeps_head == torch.equal(loaded.get("fc.weight", torch.zeros(0)), tensors["fc.weight"])


@pytest.mark.parametrize("head", ["linear", "conv", "prelu"])
def test_weights_of_this_workflow_are_loaded_with_the_head(head, tmp_path):
    torch.manual_seed(1)
    trained = timm_model(SHAPE, 10, model="test_resnet", head=head).eval()
    save_file(trained.state_dict(), tmp_path / "w.safetensors")
    settings = {"model": "test_resnet", "head": head, "weights": str(tmp_path / "w.safetensors")}
    network, images = timm_model(SHAPE, 10, **settings).eval(), torch.rand(2, *SHAPE)
    with torch.no_grad():
        assert torch.equal(network(images), trained(images))
    other = {"linear": "prelu", "conv": "linear", "prelu": "conv"}[head]
    with pytest.raises(BadInput, match=r"does not hold 'test_resnet' for 10 classes .* fc\."):
        timm_model(SHAPE, 10, **settings | {"head": other})


def test_head_conv_replaces_pooling_and_dense_layer():
    torch.manual_seed(0)
    network = timm_model(SHAPE, 10, model="test_resnet", head="conv").eval()
    maps, images = [], torch.rand(3, *SHAPE)
    network.layers.fc.register_forward_pre_hook(lambda _, inputs: maps.append(inputs[0]))
    with torch.no_grad():
        logits = network(images)
        conv = network.layers.fc.conv
        assert maps[0].shape == (3, 96, 2, 2) and conv.kernel_size == (2, 2)
        assert torch.allclose(logits, maps[0].flatten(1) @ conv.weight.flatten(1).T + conv.bias)


def test_head_prelu_follows_the_logits():
    torch.manual_seed(0)
    network = timm_model(SHAPE, 10, model="test_resnet", head="prelu").eval()
    linear, images = network.layers.fc.linear, torch.rand(3, *SHAPE)
    outputs = []
    linear.register_forward_hook(lambda *args: outputs.append(args[2]))
    with torch.no_grad():
        logits = network(images)
    assert (outputs[0] < 0).any()
    assert torch.allclose(logits, torch.where(outputs[0] < 0, 0.25 * outputs[0], outputs[0]))
    assert sum(p.numel() for p in network.layers.fc.prelu.parameters()) == 1


def test_stem_stride_1_doubles_the_maps():
    sides, images = {}, torch.rand(1, *SHAPE)
    for stride in (None, 1, 2):
        network = timm_model(SHAPE, 10, model="resnet18", stem_stride=stride).eval()
        network.layers.layer4.register_forward_hook(
            lambda *args, stride=stride: sides.update({stride: args[2].shape[2:]})
        )
        assert network(images).shape == (1, 10)
    assert sides == {None: (2, 2), 1: (4, 4), 2: (2, 2)}


def test_a_file_without_a_state_dict(tmp_path):
    torch.save([torch.zeros(3)], tmp_path / "list.pt")
    with pytest.raises(BadInput, match="is not a state dict"):
        timm_model(SHAPE, 10, model="resnet18", weights=str(tmp_path / "list.pt"))


def test_mistakes_are_one_sentence():
    with pytest.raises(BadInput, match="did you mean 'resnet18'"):
        timm_model(SHAPE, 10, model="resnet81")
    with pytest.raises(BadInput, match="timm has no network '_'"):
        timm_model(SHAPE, 10, model="_")
    with pytest.raises(BadInput, match="cannot be fetched"):
        timm_model(SHAPE, 10, model="resnet18.no_such_tag")
    with pytest.raises(BadInput, match="nowhere.pt does not exist"):
        timm_model(SHAPE, 10, model="resnet18", weights="nowhere.pt")
    with pytest.raises(BadInput, match="leave one of them out"):
        timm_model(SHAPE, 10, model="resnet18", weights="nowhere.pt", pretrained=True)
    with pytest.raises(BadInput, match="does not accept images of 64x64"):
        timm_model(SHAPE, 10, model="vit_tiny_patch16_224")
    with pytest.raises(BadInput, match="does not begin with a convolution of overlapping windows"):
        timm_model(SHAPE, 10, model="test_vit", size=160, stem_stride=8)
    with pytest.raises(BadInput, match="must be at least 1, got 0"):
        timm_model(SHAPE, 10, model="resnet18", stem_stride=0)
    with pytest.raises(BadInput, match="must be one of linear, conv, prelu, relu, got 'dense'"):
        timm_model(SHAPE, 10, model="resnet18", head="dense")
    with pytest.raises(BadInput, match="cannot have the head 'conv'"):
        timm_model(SHAPE, 10, model="test_vit", size=160, head="conv")
