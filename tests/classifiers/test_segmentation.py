"""Segmenters, without any download."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from advdenoise.classifiers import _deeplab, segmentation
from advdenoise.errors import BadInput, DamagedFile
from advdenoise.inference.fold import fold
from advdenoise.training import plain

SHAPE = (3, 33, 65)
NETWORKS = {
    "small": lambda: segmentation.small(SHAPE, 5, width=3),
    "plus": lambda: segmentation.deeplab_v3_plus(SHAPE, 5, encoder="resnet18", width=8),
    "full": lambda: segmentation.deeplab_v3_plus(
        SHAPE, 5, encoder="resnet50", width=8, decoder="full"
    ),
    "v3": lambda: segmentation.deeplab_v3((3, 20, 27), 5, backbone="resnet50"),
}


def with_statistics(network: nn.Module) -> nn.Module:
    """The network in eval mode, with the batch norms of a trained one."""
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1)
            nn.init.uniform_(norm.running_mean, -0.1, 0.1)
    return network.eval()


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    torch.manual_seed(0)
    return request.param, with_statistics(NETWORKS[request.param]())


def random_images(name: str, count: int = 2) -> torch.Tensor:
    sides = (20, 27) if name == "v3" else SHAPE[1:]
    return torch.rand(count, 3, *sides, generator=torch.Generator().manual_seed(1))


def test_logits_have_the_size_of_the_image(network):
    name, network = network
    images = random_images(name)
    with torch.no_grad():
        logits = network(images)
        assert torch.allclose(network(images[1:]), logits[1:], atol=1e-5)
    assert logits.shape == (2, 5, *images.shape[2:]) and logits.dtype == torch.float32
    assert logits.isfinite().all()
    assert torch.allclose(network.normalise.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))


def test_folding_keeps_outputs_and_gradients(network):
    name, network = network
    folded, gradients = fold(network), []
    for model in (network, folded):
        images = random_images(name).requires_grad_()
        logits = model(images)
        assert torch.allclose(logits, network(random_images(name)), atol=1e-4)
        gradients.append(torch.autograd.grad(logits.square().sum(), images)[0])
    assert gradients[0].abs().amin((1, 2, 3)).isfinite().all() and gradients[0].any()
    assert (gradients[1] - gradients[0]).abs().max() <= 1e-3 * gradients[0].abs().max()
    if name == "small":
        assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


def test_gradients_reach_every_weight(network):
    name, network = network
    network.train()
    masks = torch.zeros(2, *random_images(name).shape[2:], dtype=torch.int64)
    loss, _ = plain.segment(network, random_images(name), masks, None)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    network.zero_grad(set_to_none=True)
    network.eval()


def test_published_sizes():
    count = [
        sum(weight.numel() for weight in network.parameters())
        for network in (
            segmentation.deeplab_v3_plus((3, 513, 513), 21),
            segmentation.small((3, 129, 129), 4),
        )
    ]
    assert count == [45_674_853, 77_824]


def test_upsampling_aligns_corners():
    """A map that is linear in the position stays linear."""
    ramp = torch.linspace(0, 1, 5).expand(1, 1, 3, 5)
    resized = segmentation._upsample((33, 65))(ramp)
    assert torch.allclose(resized[0, 0, 7], torch.linspace(0, 1, 65), atol=1e-6)


@pytest.mark.parametrize("sides", [(128, 129), (129, 130), (1, 33)])
def test_other_sides_are_refused(sides):
    for build in (segmentation.small, segmentation.deeplab_v3_plus):
        with pytest.raises(BadInput, match=r"sides must be 32k\+1, .* do not match"):
            build((3, *sides), 4)


def test_weights_of_the_network_or_of_its_encoder(tmp_path):
    plus = with_statistics(NETWORKS["plus"]())
    network_file, encoder = tmp_path / "whole.safetensors", tmp_path / "encoder.pth"
    save_file(plus.state_dict(), network_file)
    tensors = plus.layers.encoder.state_dict()
    torch.save(
        tensors | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}, encoder
    )
    settings = {"encoder": "resnet18", "width": 8}
    again = segmentation.deeplab_v3_plus(SHAPE, 5, **settings, weights=str(network_file)).eval()
    with torch.no_grad():
        assert torch.equal(again(random_images("plus")), plus(random_images("plus")))
    of_encoder = segmentation.deeplab_v3_plus(SHAPE, 3, **settings, weights=str(encoder))
    loaded = of_encoder.layers.encoder.state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in tensors.items())
    with pytest.raises(BadInput, match=r"'resnet18' for 4 classes: segmentation_head"):
        segmentation.deeplab_v3_plus(SHAPE, 4, **settings, weights=str(network_file))
    network_file.write_bytes(network_file.read_bytes()[:3000])
    with pytest.raises(DamagedFile, match="whole.safetensors cannot be read"):
        segmentation.deeplab_v3_plus(SHAPE, 5, **settings, weights=str(network_file))


def test_torchvisions_last_layer_is_replaced_for_other_classes(tmp_path):
    torch.manual_seed(2)
    tensors = segmentation.deeplab_v3((3, 33, 33), 21, backbone="resnet50").layers.state_dict()
    path = tmp_path / "stock.pth"
    torch.save(tensors | {"aux_classifier.0.weight": torch.zeros(2)}, path)
    for classes in (21, 4):
        network = segmentation.deeplab_v3(
            (3, 33, 33), classes, backbone="resnet50", weights=str(path)
        )
        loaded = network.layers.state_dict()
        last = (
            {name for name, t in tensors.items() if not torch.equal(t, loaded[name])}
            if (classes == 21)
            else {name for name, t in tensors.items() if t.shape != loaded[name].shape}
        )
        assert last == (set() if classes == 21 else {"classifier.4.weight", "classifier.4.bias"})


@pytest.mark.parametrize(
    ("build", "settings", "message"),
    [
        (segmentation.deeplab_v3, {"backbone": "resnet34"}, "must be one of resnet50, resnet101"),
        (segmentation.deeplab_v3_plus, {"encoder": "resnet1"}, "no encoder 'resnet1'"),
        (segmentation.deeplab_v3_plus, {"encoder": "vgg11"}, "does not support output stride 16"),
        (segmentation.deeplab_v3_plus, {"weights": "nowhere.pth"}, "nowhere.pth does not exist"),
        (segmentation.deeplab_v3, {"weights": "x", "pretrained": True}, "leave one of them out"),
        (segmentation.deeplab_v3_plus, {"weights": "x", "pretrained": True}, "leave one of them"),
    ],
)
def test_settings_that_do_not_fit(build, settings, message):
    with pytest.raises(BadInput, match=message):
        build((3, 33, 33), 21, **settings)


def test_weights_that_cannot_be_fetched(monkeypatch):
    import segmentation_models_pytorch as smp
    from torchvision.models._api import WeightsEnum

    def offline(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr(smp, "DeepLabV3Plus", offline)
    monkeypatch.setattr(WeightsEnum, "get_state_dict", offline)
    for build in (segmentation.deeplab_v3, segmentation.deeplab_v3_plus):
        with pytest.raises(BadInput, match=r"cannot be fetched \(no route\); name a local"):
            build((3, 33, 33), 21, pretrained=True)


def test_small_imports_no_heavy_library():
    code = (
        "import sys; from advdenoise.classifiers import segmentation;"
        "segmentation.small((3, 33, 33), 4);"
        "print({'torchvision', 'timm', 'segmentation_models_pytorch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_segmenter_learns(tmp_path):
    """Sixty steps suffice for two squares of different colours on grey."""
    torch.manual_seed(0)
    images, masks = torch.full((4, 3, 33, 33), 0.5), torch.zeros(4, 33, 33, dtype=torch.int64)
    for row, corner in enumerate((1, 3, 6, 9)):
        images[row, 0, corner : corner + 12, 2:12], masks[row, corner : corner + 12, 2:12] = 1, 1
        images[row, 2, corner : corner + 12, 16:30], masks[row, corner : corner + 12, 16:30] = 1, 2
    masks[:, :, 15] = 255
    network = segmentation.small((3, 33, 33), 3, width=4)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(60):
        loss, metrics = plain.segment(network, images, masks, None)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert metrics["accuracy"] > 0.95
    wrong = network.eval()(images).argmax(1) != masks
    assert wrong[masks != 255].float().mean() < 0.1
    assert functional.cross_entropy(network(images), masks, ignore_index=255) < 0.5


# ---------------------------------------------------------------- the network of Cho et al. 2019


def published_names(tensors: dict) -> dict:
    """The tensors under the names of the published file."""
    prefixes = {local: published for published, local in _deeplab._PUBLISHED.items()}

    def published_name(name: str) -> str:
        local = next(prefix for prefix in prefixes if name.startswith(prefix))
        return prefixes[local] + name.removeprefix(local)

    return {published_name(name): tensor for name, tensor in tensors.items()}


def filled_like(tensors: dict) -> dict:
    """Random tensors of these names and shapes."""
    generator, values = torch.Generator().manual_seed(0), {}
    for name in sorted(tensors):
        like = tensors[name]
        values[name] = torch.zeros_like(like)
        if like.is_floating_point():
            random = torch.rand(like.shape, generator=generator)
            scale = 2 * (2 / like[0].numel()) ** 0.5
            values[name] = (random - 0.5) * scale if like.ndim == 4 else random + 0.5
    return values


def test_a_published_checkpoint_has_the_outputs_of_the_published_network(tmp_path):
    """Outputs of pytorch-deeplab-xception's network (ResNet-101, output stride 16), run once."""
    network = _deeplab.FullDeepLab(21, "resnet101", 256, (6, 12, 18))
    assert sum(weight.numel() for weight in network.parameters()) == 59_344_309
    tensors = filled_like(published_names(network.state_dict()))
    assert len(tensors) == 680 and "aspp.global_avg_pool.2.running_var" in tensors
    path = tmp_path / "deeplab-resnet.pth.tar"
    torch.save(tensors, path)
    settings = {"decoder": "full", "weights": str(path)}
    network = segmentation.deeplab_v3_plus((3, 33, 65), 21, **settings).layers.eval()
    images = torch.rand(1, 3, 33, 65, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = network(images)[0]
    assert logits[0, 0, :4].tolist() == pytest.approx([0.6625, 0.6768, 0.6912, 0.7055], abs=1e-3)
    assert logits[20, 32, 64].item() == pytest.approx(0.6653, abs=1e-3)
    assert logits[7, 16, 30].item() == pytest.approx(2.1251, abs=1e-3)
    assert logits.mean().item() == pytest.approx(1.0855, abs=1e-3)
    assert logits.std().item() == pytest.approx(0.4567, abs=1e-3)


def test_a_full_decoder_loads_weights_of_the_network_or_of_its_encoder(tmp_path):
    settings = {"encoder": "resnet50", "width": 8, "decoder": "full"}
    network = segmentation.deeplab_v3_plus(SHAPE, 5, **settings)
    encoder, network_file = tmp_path / "encoder.pth", tmp_path / "whole.safetensors"
    tensors = filled_like(network.layers.encoder.state_dict())
    torch.save(tensors | {"fc.weight": torch.zeros(1000, 2048)}, encoder)
    again = segmentation.deeplab_v3_plus(SHAPE, 5, **settings, weights=str(encoder))
    stored = again.layers.encoder.state_dict()
    assert all(torch.equal(tensor, stored[name]) for name, tensor in tensors.items())
    save_file(again.state_dict(), network_file)
    third = segmentation.deeplab_v3_plus(SHAPE, 5, **settings, weights=str(network_file))
    assert all(torch.equal(t, third.state_dict()[n]) for n, t in again.state_dict().items())


def test_a_full_decoder_refuses_other_encoders():
    with pytest.raises(BadInput, match="must be one of resnet50, .* got 'resnet18'"):
        segmentation.deeplab_v3_plus(SHAPE, 5, encoder="resnet18", decoder="full")
