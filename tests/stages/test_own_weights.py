"""Networks whose weights come from a file: what is read, what is written, what is refused."""

import pytest
import torch

from advdenoise.errors import BadInput
from advdenoise.io.parquet import read_table
from advdenoise.io.provenance import read_provenance
from advdenoise.io.schemas import HISTORY
from advdenoise.io.weights import read_weights
from advdenoise.stages import models, training
from advdenoise.stages.data import open_images

NETS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width, classes, scale=1.0):
        super().__init__()
        self.scale = scale
        self.first = nn.Linear(784, width)
        self.last = nn.Linear(width, classes)

    def forward(self, images):
        return self.scale * self.last(self.first(images.flatten(1)).relu())


class Probable(Net):
    def forward(self, images):
        return super().forward(images).softmax(1)


class Large(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 10, 32)

    def forward(self, images):
        return self.conv(images).flatten(1), "more"


class Denoiser(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.conv = nn.Conv2d(shape[0], shape[0], 3, padding=1)

    def forward(self, images):
        return self.conv(images)


def forward(images):
    return images
"""


@pytest.fixture
def nets(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(NETS)
    return path


@pytest.fixture
def sample(world):
    return world.make("images/digits/test.h5")


def entry_of(nets, name: str, weights=None, **more) -> dict:
    settings = {"width": 6} if name in ("Net", "Probable") else {}
    own = {"name": "mine", "function": f"{nets}:{name}", "settings": settings, **more}
    return own | ({"weights": str(weights)} if weights else {})


def build(kind: str, entry: dict, sample) -> torch.nn.Module:
    with open_images(sample) as images:
        return models.build(kind, entry, images.shape, len(images.classes))


def read(tmp_path, kind: str, entry: dict, sample):
    """Run the job; its weights' file."""
    run = {"classifiers": training.train_classifier, "denoisers": training.train_denoiser}[kind]
    written = tmp_path / "written.safetensors"
    run(
        settings={"seed": 0, kind.removesuffix("s"): entry},
        code="code",
        images=sample,
        weights=written,
        history=tmp_path / "written.history.parquet",
        resume=tmp_path / "resume",
    )
    return written


@pytest.mark.parametrize(
    ("kind", "name", "more"),
    [
        ("classifiers", "Net", {}),
        ("classifiers", "Probable", {"outputs": "probabilities", "mean": 0.2, "std": 0.4}),
        ("classifiers", "Large", {"size": 32, "channels": 3}),
        ("denoisers", "Denoiser", {}),
    ],
)
def test_a_network_is_what_its_file_holds(tmp_path, nets, sample, kind, name, more):
    entry = entry_of(nets, name, tmp_path / "w.pth", **more)
    torch.manual_seed(7)
    state = build(kind, entry, sample).state_dict()
    wrapped = {f"module.{name}": tensor.half() for name, tensor in state.items()}
    torch.save({"epoch": 3, "state_dict": wrapped}, tmp_path / "w.pth")
    written = read(tmp_path, kind, entry, sample)
    tensors, provenance = read_weights(written)
    assert tensors.keys() == state.keys()
    assert all(torch.allclose(tensors[n], t, atol=1e-3) for n, t in state.items())
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
    assert provenance["settings"][kind.removesuffix("s")] == entry
    history = tmp_path / "written.history.parquet"
    assert read_table(history, HISTORY).num_rows == 0
    assert read_provenance(history)["settings"] == provenance["settings"]
    with open_images(sample) as images:
        network = models.load_frozen(kind, written, entry, images)
        inputs = images.batch(slice(0, 4), torch.device("cpu")).images.requires_grad_()
    outputs = network(inputs)
    assert outputs.shape == ((4, 10) if kind == "classifiers" else inputs.shape)
    (gradient,) = torch.autograd.grad(outputs.square().sum(), inputs)
    assert (gradient.flatten(1).abs().amax(1) > 0).all()
    assert not network.training and not any(p.requires_grad for p in network.parameters())


def test_a_file_of_this_workflow_is_read_too(tmp_path, nets, sample):
    entry = entry_of(nets, "Net", tmp_path / "w.pth")
    torch.save(build("classifiers", entry, sample).state_dict(), tmp_path / "w.pth")
    written = read(tmp_path, "classifiers", entry, sample)
    moved = written.rename(tmp_path / "moved.safetensors")
    again = read(tmp_path, "classifiers", entry | {"weights": str(moved)}, sample)
    first, second = read_weights_of(moved), read_weights(again)[0]
    assert all(torch.equal(first[name], tensor) for name, tensor in second.items())


def read_weights_of(path):
    import safetensors.torch

    return safetensors.torch.load_file(path)


def test_a_whole_network_is_refused_with_the_line_that_converts_it(tmp_path, nets, sample):
    entry = entry_of(nets, "Net", tmp_path / "w.pth")
    torch.save(build("classifiers", entry, sample)._network, tmp_path / "w.pth")
    with pytest.raises(BadInput, match=r"^classifiers\.mine\.weights: .*torch\.save\(torch\.load"):
        read(tmp_path, "classifiers", entry, sample)


def test_weights_of_another_network_are_refused_with_their_shapes(tmp_path, nets, sample):
    entry = entry_of(nets, "Net", tmp_path / "w.pth")
    state = build("classifiers", entry, sample).state_dict()
    torch.save(state | {"last.bias": torch.zeros(7)}, tmp_path / "w.pth")
    words = r"^classifiers\.mine\.weights: .*last\.bias is \(7,\) in the file and \(10,\)"
    with pytest.raises(BadInput, match=words):
        read(tmp_path, "classifiers", entry, sample)


@pytest.mark.parametrize(
    ("kind", "name", "more", "words"),
    [
        ("classifiers", "Probable", {}, "gives probabilities for a black image.*add `outputs"),
        (
            "classifiers",
            "Net",
            {"outputs": "probabilities"},
            r"outputs: .*take `outputs` out",
        ),
        ("classifiers", "Large", {}, r"not take images of 1x28x28 .*choose another"),
        ("classifiers", "Net", {"mean": [0.1, 0.2]}, r"classifiers\.mine\.mean: must be .* got 2"),
        ("denoisers", "Denoiser", {"std": [1, 2]}, r"denoisers\.mine\.std: must be .* got 2"),
        ("classifiers", "forward", {}, "gives a Tensor; .*an nn.Module"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(nets, sample, kind, name, more, words):
    if name == "forward":
        nets.write_text(
            "def forward(classes):\n    import torch\n    return torch.zeros(classes)\n"
        )
    with pytest.raises(BadInput, match=words):
        build(kind, entry_of(nets, name, **more), sample)


def test_a_network_of_an_installed_package(tmp_path, sample):
    """Positional parameters with defaults are settings, and `**kwargs` take any other."""
    entry = {
        "name": "resnet",
        "function": "torchvision.models:squeezenet1_1",
        "settings": {"num_classes": 10},
        "channels": 3,
        "size": 64,
        "weights": str(tmp_path / "w.pth"),
    }
    network = build("classifiers", entry, sample)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    written = read(tmp_path, "classifiers", entry, sample)
    assert read_weights(written)[0].keys() == network.state_dict().keys()
