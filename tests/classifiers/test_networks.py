"""Convolutional networks of the papers: sizes, layers, gradients, independence of the batch."""

import pytest
import torch
from torch import nn

from advdenoise.classifiers.convnets import elu_cnn, lenet, mlp
from advdenoise.classifiers.resnet import cifar_resnet18
from advdenoise.errors import BadInput
from advdenoise.inference.normalise import Normalise

SMALL = [
    (lenet, (1, 28, 28), {"channels": [4, 6], "hidden": 20}),
    (lenet, (3, 16, 19), {"channels": [4, 6], "hidden": 20}),
    (elu_cnn, (3, 32, 32), {"width": 4}),
    (elu_cnn, (1, 28, 28), {"width": 4}),
    (elu_cnn, (2, 17, 9), {"width": 4}),
    (mlp, (1, 28, 28), {"hidden": [12, 8]}),
    (mlp, (3, 9, 17), {"hidden": [12]}),
    (cifar_resnet18, (3, 32, 32), {"width": 4}),
    (cifar_resnet18, (1, 28, 28), {"width": 4}),
]


def weights(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def statistics(network: nn.Module) -> int:
    return sum(b.numel() for b in network.state_dict().values() if b.is_floating_point()) - weights(
        network
    )


def test_published_sizes():
    assert weights(lenet((1, 28, 28), 10)) == 431_080
    assert weights(mlp((1, 28, 28), 10)) == 784 * 256 + 256 + 256 * 256 + 256 + 256 * 10 + 10
    assert weights(cifar_resnet18((3, 32, 32), 10)) == 11_173_962
    assert weights(elu_cnn((3, 32, 32), 10)) == 308_394
    assert statistics(elu_cnn((3, 32, 32), 10)) == 896


def test_mlp_is_two_dense_layers_with_relu_and_dropout_before_the_last():
    network = mlp((1, 28, 28), 10).eval()
    kinds = [nn.Flatten, *[nn.Linear, nn.ReLU, nn.Dropout] * 2, nn.Linear]
    assert [type(layer) for layer in network.layers] == kinds
    assert [layer.p for layer in network.layers if isinstance(layer, nn.Dropout)] == [0.2, 0.2]
    images = torch.rand(3, 1, 28, 28)
    dense = [layer for layer in network.layers if isinstance(layer, nn.Linear)]
    maps = images.reshape(3, 784)
    for layer in dense[:-1]:
        maps = (maps @ layer.weight.T + layer.bias).clamp_min(0)
    assert torch.allclose(network(images), maps @ dense[-1].weight.T + dense[-1].bias, atol=1e-6)


def test_elu_cnn_has_the_26_layers_of_the_paper():
    layers = elu_cnn((3, 32, 32), 10).eval().layers
    assert len(layers) == 26
    shapes, maps = [], torch.rand(1, 3, 32, 32)
    for index in range(26):
        maps = layers.get_submodule(str(index))(maps)
        shapes.append(tuple(maps.shape[1:]))
    assert shapes[:8] == [(32, 32, 32)] * 6 + [(32, 16, 16)] * 2
    assert shapes[8:16] == [(64, 16, 16)] * 6 + [(64, 8, 8)] * 2
    assert shapes[16:] == [(128, 8, 8)] * 6 + [(128, 4, 4)] * 2 + [(2048,), (10,)]
    kinds = [type(layer) for layer in layers[:7]]
    assert kinds == [nn.Conv2d, nn.ELU, nn.BatchNorm2d] * 2 + [nn.MaxPool2d]
    assert layers[2].eps == 1e-3 and layers[2].momentum == 0.01
    assert [layers[i].p for i in (7, 15, 23)] == [0.2, 0.3, 0.4]


def test_elu_cnn_normalises_to_z_scores():
    images = torch.rand(2, 3, 32, 32)
    expected = (255 * images - 120.70748) / 64.150024
    assert torch.allclose(elu_cnn((3, 32, 32), 10).normalise(images), expected, atol=1e-6)


@pytest.mark.parametrize(("build", "shape", "settings"), SMALL)
def test_logits_and_gradients(build, shape, settings):
    torch.manual_seed(0)
    network = build(shape, 7, **settings)
    images = torch.rand(5, *shape, requires_grad=True)
    logits = network.train()(images)
    assert logits.shape == (5, 7) and logits.dtype == torch.float32
    nn.functional.cross_entropy(logits, torch.arange(5)).backward()
    for weight in network.parameters():
        assert weight.grad.abs().sum() >= 0 and weight.grad.isfinite().all()
    assert images.grad.abs().sum() > 0
    assert next(network.parameters()).grad.abs().sum() > 0


@pytest.mark.parametrize(("build", "shape", "settings"), SMALL)
def test_logits_do_not_depend_on_the_batch(build, shape, settings):
    torch.manual_seed(0)
    network = build(shape, 7, **settings).eval()
    images = torch.rand(6, *shape)
    with torch.no_grad():
        together = network(images)
        alone = torch.cat([network(images[i : i + 1]) for i in range(6)])
    assert torch.allclose(together, alone, atol=1e-6)


def test_too_small_images_are_refused():
    for build in (lenet, elu_cnn):
        with pytest.raises(BadInput, match="images must be at least"):
            build((3, 7, 40), 10)


def test_normalise_per_channel_and_resized():
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(Normalise(3)(images), images)
    layer = Normalise(3, [0.1, 0.2, 0.3], [1, 2, 4], size=16)
    large = nn.functional.interpolate(images, (16, 16), mode="bilinear", align_corners=False)
    assert torch.allclose(layer(images)[:, 2], (large[:, 2] - 0.3) / 4)
    assert layer(images).shape == (2, 3, 16, 16)
    assert Normalise(3, 0.5, 0.5, size=[4, 6])(images).shape == (2, 3, 4, 6)
    assert not layer.state_dict()


def test_normalise_refuses_values_that_do_not_fit():
    with pytest.raises(BadInput, match="2 values for images of 3 channels"):
        Normalise(3, [0.1, 0.2])
    with pytest.raises(BadInput, match="must be positive"):
        Normalise(3, 0.5, 0.0)
