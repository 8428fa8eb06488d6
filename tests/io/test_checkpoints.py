"""Weights files from elsewhere are read or refused with one sentence; their code is not run."""

import argparse
import io
import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from advdenoise.classifiers.zoo import timm_model
from advdenoise.errors import BadInput, DamagedFile
from advdenoise.graph import components
from advdenoise.io.checkpoints import load_tensors, read_tensors
from tests.places import put_in_place

HERE = "zoo.timm_model: settings.weights"


def network() -> nn.Module:
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 2, 3), norm=nn.BatchNorm2d(2)))


@pytest.fixture
def state():
    torch.manual_seed(0)
    loaded = network()
    nn.init.uniform_(loaded.norm.running_mean)
    return {name: tensor.clone() for name, tensor in loaded.state_dict().items()}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "w.pth"


def assert_read(path, state, exact=True):
    loaded = network()
    load_tensors(loaded, read_tensors(path, HERE), path, HERE, "this network")
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == state[name].dtype
        close = torch.equal if exact else lambda a, b: torch.allclose(a, b, atol=0.01)
        assert close(tensor, state[name]), name


KEYS = ("state_dict", "model", "model_state", "model_state_dict", "net", "ema", "params_ema")
PREFIXES = ("", "module.", "_orig_mod.", "model.", "net.", "layers.", "module._orig_mod.model.")


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_names_of_wrappers(state, tmp_path, prefix, suffix):
    path, named = tmp_path / f"w{suffix}", {prefix + name: t for name, t in state.items()}
    (torch.save if suffix == ".pth" else safetensors.torch.save_file)(named, path)
    assert_read(path, state)


@pytest.mark.parametrize("part", ["_orig_mod.", "_fsdp_wrapped_module."])
def test_a_wrapped_part_of_a_network(state, path, part):
    torch.save({name.replace(".", f".{part}"): t for name, t in state.items()}, path)
    assert_read(path, state)


@pytest.mark.parametrize("key", KEYS)
def test_a_checkpoint(state, path, key):
    rest = {"epoch": 3, "optimizer": {"state": {0: torch.ones(2)}}, "best": torch.tensor(0.5)}
    torch.save({**rest, key: {f"module.{name}": t for name, t in state.items()}}, path)
    assert_read(path, state)
    torch.save({"model": {**rest, key: state}}, path)
    assert_read(path, state)


def test_plain_weights_are_read_rather_than_their_average(state, path):
    average = {name: tensor + 1 for name, tensor in state.items()}
    torch.save({"ema": average, "state_dict_ema": average, "model": state}, path)
    assert_read(path, state)


def test_an_averaged_model_of_torch(state, path):
    averaged = torch.optim.swa_utils.AveragedModel(network())
    averaged.module.load_state_dict(state)
    torch.save(averaged.state_dict(), path)
    assert_read(path, state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".bin"])
def test_any_precision(state, tmp_path, dtype, suffix):
    path = tmp_path / f"w{suffix}"
    other = {n: t.to(dtype) if t.is_floating_point() else t for n, t in state.items()}
    (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(other, path)
    assert_read(path, state, exact=dtype == torch.float64)


@pytest.mark.parametrize("legacy", [True, False])
def test_files_of_old_versions(state, path, legacy):
    del state["norm.num_batches_tracked"]
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    assert_read(path, state | {"norm.num_batches_tracked": torch.tensor(0)})


def test_the_format_is_known_by_bytes_and_not_by_the_name(state, tmp_path):
    torch.save(state, tmp_path / "w.safetensors")
    safetensors.torch.save_file(state, tmp_path / "w.pth")
    for name in ("w.safetensors", "w.pth"):
        assert_read(tmp_path / name, state)


def test_a_path_in_a_home_folder(state, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save(state, tmp_path / "w.pth")
    assert_read("~/w.pth", state)


TEXTS = (
    "<!DOCTYPE html>",
    "Repository not found",
    "jar",
    "hello",
    "0",
    "é ist verboten",
    "{}",
    "\n",
)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_text(tmp_path, text, suffix):
    path = tmp_path / f"w{suffix}"
    path.write_text(text)
    with pytest.raises(DamagedFile, match=f"^{HERE}: {path} is a text that begins with .*again$"):
        read_tensors(path, HERE)


def header(entries: dict, length: int | None = None) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text


def entry(start: int, end: int, shape=(2,)) -> dict:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


def packed(names: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in names.items():
            archive.writestr(name, data)
    return content.getvalue()


BYTES = {
    "a huge header": header({}, 1 << 60) + bytes(20),
    "a header beyond the file": header({"a": entry(0, 8)}, 1 << 20) + bytes(8),
    "overlapping tensors": header({"a": entry(0, 8), "b": entry(4, 12)}) + bytes(12),
    "tensors beyond the file": header({"a": entry(0, 1 << 40, [1 << 38])}) + bytes(8),
    "shapes that overflow": header({"a": entry(0, 8, [1 << 32, 1 << 32, 4])}) + bytes(8),
    "another type": header({"a": entry(0, 8) | {"dtype": "F33"}}) + bytes(8),
    "a bare pickle": pickle.dumps({"a": [1.0, 2.0]}, 2),
    "a pickle that is cut": pickle.dumps({"a": [1.0] * 99}, 2)[:50],
    "bytes": bytes(range(256)),
    "zeros": bytes(4096),
    "an image": b"\x89PNG\r\n\x1a\n" + bytes(60),
    "an archive": packed({"a.txt": b"hello"}),
    "the beginning of an archive": packed({"w/data.pkl": bytes(1 << 20)})[:200],
    "an archive that unpacks to far more": packed({"w/data.pkl": b".", "w/data/0": bytes(1 << 24)}),
}


@pytest.mark.parametrize("content", BYTES.values(), ids=BYTES)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_bytes_that_are_not_weights(tmp_path, content, suffix):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match=rf"^{HERE}: {path} cannot be read \(.+\); .*$"):
        read_tensors(path, HERE)


@pytest.mark.parametrize("length", [0, 10, 100, 700, -200])
def test_a_file_that_is_cut(state, path, length):
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DamagedFile, match=f"^{HERE}: {path} (cannot be read|is empty)"):
        read_tensors(path, HERE)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", ["legacy", "zip", "safetensors"])
def test_flipped_bytes_are_read_or_refused(path, kind):
    """Flipped bytes of numbers change these, others raise an error."""
    tensors, random = {"w": torch.arange(50.0), "b": torch.ones(3)}, np.random.RandomState(0)
    if kind == "safetensors":
        safetensors.torch.save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=kind == "zip")
    whole, refused = np.frombuffer(path.read_bytes(), np.uint8), 0
    for _ in range(100):
        flipped = whole.copy()
        places = random.randint(0, len(whole), 20)
        flipped[places] = random.randint(0, 256, 20)
        path.write_bytes(flipped.tobytes())
        try:
            read_tensors(path, HERE)
        except BadInput:
            refused += 1
    assert refused > 50


class Trap:
    """Creates a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize(
    "pickled", [torch.save, lambda thing, path: path.write_bytes(pickle.dumps(thing, 2))]
)
def test_no_code_of_a_file_is_run(tmp_path, path, pickled):
    pickled({"a": torch.ones(2), "b": Trap(tmp_path / "sprung")}, path)
    with pytest.raises(BadInput, match=f"^{HERE}: {path} "):
        read_tensors(path, HERE)
    assert not (tmp_path / "sprung").exists()


def test_a_whole_network_is_refused_with_the_line_that_converts_it(state, path, monkeypatch):
    whole = network()
    whole.load_state_dict(state)
    torch.save(whole, path)
    with pytest.raises(
        BadInput, match="holds a whole network or other objects, whose code"
    ) as message:
        read_tensors(path, HERE)
    line = "torch.save(torch.load('w.pth', weights_only=False).state_dict(), 'state.pth')"
    assert f"write its tensors: `{line}`" in str(message.value)
    monkeypatch.chdir(path.parent)
    exec(line, {"torch": torch})
    assert_read(path.with_name("state.pth"), state)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_a_torch_script_is_refused_with_the_line_that_converts_it(state, path, monkeypatch):
    whole = network().eval()
    whole.load_state_dict(state)
    torch.jit.save(torch.jit.trace(whole, torch.zeros(1, 1, 4, 4)), path)
    with pytest.raises(BadInput, match="holds a TorchScript, whose code is not run") as message:
        read_tensors(path, HERE)
    line = "torch.save(torch.jit.load('w.pth').state_dict(), 'state.pth')"
    assert str(message.value).endswith(f"write its tensors: `{line}`")
    monkeypatch.chdir(path.parent)
    exec(line, {"torch": torch})
    assert_read(path.with_name("state.pth"), state)


def test_a_checkpoint_with_objects(state, path):
    torch.save({"state_dict": state, "args": argparse.Namespace(lr=0.1)}, path)
    with pytest.raises(
        BadInput, match=r"of a checkpoint `torch.load\('w.pth', .*\['state_dict'\]`"
    ):
        read_tensors(path, HERE)


def recursive() -> dict:
    inner = {}
    inner["model"] = inner
    return inner


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([torch.ones(2)], "is not a state dict"),
        (torch.ones(2), "is not a state dict"),
        (3, "is not a state dict"),
        ({"a": [1.0]}, "is not a state dict"),
        ({"model": {}, "epoch": 3}, "holds no tensors"),
        (recursive(), "is not a state dict"),
        ({}, "holds no tensors"),
        ({0: torch.ones(2), 1: torch.ones(3)}, "has keys that are not names, such as 0;"),
        ({("a", 1): torch.ones(2)}, "has keys that are not names"),
    ],
)
def test_contents_that_are_not_a_state_dict(path, content, sentence):
    torch.save(content, path)
    with pytest.raises(BadInput, match=f"^{HERE}: {path} {sentence}"):
        read_tensors(path, HERE)


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "loop", "dangling", None])
def test_paths_that_are_not_files(path, kind):
    if kind:
        put_in_place(path, kind)
    with pytest.raises(BadInput, match=f"^{HERE}: {path} (is a|does not exist).*path of a weights"):
        read_tensors(path, HERE)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["conv.weight", "norm.running_var"])
def test_a_value_that_is_not_finite_is_named_with_its_tensor(state, path, name, value):
    state[name].view(-1)[-1] = value
    torch.save(state, path)
    with pytest.raises(BadInput, match=f"^{HERE}: {path}: {name} has values that are not finite"):
        assert_read(path, state)


def test_an_overflow_of_another_precision(state, path):
    torch.save(state | {"conv.bias": torch.tensor([1e300, 0], dtype=torch.float64)}, path)
    with pytest.raises(
        BadInput, match=r"conv\.bias has values that are not finite in torch.float32"
    ):
        assert_read(path, state)
    torch.save(state | {"conv.bias": torch.tensor([1e5, 0]).half()}, path)
    with pytest.raises(BadInput, match=r"conv\.bias has values that are not finite"):
        assert_read(path, state)


def test_the_first_names_that_differ_are_listed(state, path):
    torch.save({f"features.{name}": tensor for name, tensor in state.items()}, path)
    with pytest.raises(
        BadInput,
        match=r"does not hold this network: conv\.bias is missing in the file and \(2,\) in the "
        r"network, conv\.weight is .*, features\.conv\.bias is \(2,\) in the file and missing in",
    ) as message:
        assert_read(path, state)
    assert str(message.value).count(" in the file and ") == 3
    assert "and 10 more differ; give weights of this network" in str(message.value)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_numbers_of_another_kind(state, path, dtype):
    torch.save(state | {"conv.bias": torch.ones(2).to(dtype)}, path)
    with pytest.raises(
        BadInput, match=rf"conv\.bias is {dtype} on cpu \(2,\) in the file and \(2,"
    ):
        assert_read(path, state)


def test_a_tensor_that_is_far_larger_than_its_file(state, path):
    torch.save(state | {"conv.bias": torch.ones(1).expand(1 << 25, 1 << 25)}, path)
    with pytest.raises(BadInput, match=r"conv\.bias is \(33554432, 33554432\) in the file"):
        assert_read(path, state)


@pytest.mark.parametrize("model", ["hf-hub:timm/test_resnet.r160_in1k", "timm/test_resnet"])
def test_names_as_timms_own_repositories_have_them(model):
    assert timm_model((3, 64, 64), 3, model=model).layers.num_classes == 3


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("hf-hub:someone/net", "is a repository of 'someone', but only timm's own are read"),
        ("local-dir:/some/where", "is a repository of 'local-dir:/some'"),
        ("hf-hub:timm/no_such", "timm has no network 'no_such'"),
        ("test_resnet.no_such", r"weights of 'test_resnet\.no_such' cannot be fetched"),
        ("", "timm has no network ''"),
    ],
)
def test_names_that_timm_does_not_have(model, sentence):
    with pytest.raises(BadInput, match=f"^zoo.timm_model: settings.model: .*{sentence}"):
        timm_model((3, 64, 64), 3, model=model)


def test_first_weights_that_a_function_cannot_do_without_are_kept(monkeypatch):
    """Another job than the training builds the network too."""
    result = components.signature("classifiers", "classifiers", "zoo.timm_model")
    settings = {"model": "a", "weights": "w.pth", "pretrained": True}
    entry = {"function": "zoo.timm_model", "settings": settings}
    kept = components.without_first_weights("classifiers", entry)["settings"]
    assert kept == {"model": "a"}
    needs = result._replace(required=("weights",), optional=("model", "pretrained"))
    monkeypatch.setattr(components, "signature", lambda *_: needs)
    kept = components.without_first_weights("classifiers", entry)["settings"]
    assert kept == {"model": "a", "weights": "w.pth"}
