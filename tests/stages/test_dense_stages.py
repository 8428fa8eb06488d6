"""Attack, evaluate, examples and export on images with masks, against loops over pixels."""

import json

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from advdenoise.datasets._source import IGNORED
from advdenoise.io.hdf5 import add_array, create_hdf5, open_hdf5
from advdenoise.io.parquet import read_table
from advdenoise.io.schemas import segmentation_schema
from advdenoise.io.weights import write_weights
from advdenoise.stages import attack, evaluate, examples, export, images
from advdenoise.stages.data import open_images

CLASSES, COUNT, SIDE = 4, 7, 65
COUNTED = {"zero_gradients", "bad_gradients", "forward", "backward", "skipped"}
RECORDED = {"fooled_at", "fooled_last", "loss_start", "loss_best", "loss_recent"}
FGSM = {"function": "gradient.fgsm", "settings": {"epsilon": 0.2}}
ATTACKS = {
    "fgsm": {"points": {"default": FGSM}},
    "stepped": {
        "points": {
            "weak": {
                "function": "gradient.bim",
                "settings": {"epsilon": 0.008, "alpha": 0.25 / 255, "steps": "kurakin"},
            },
            "segpgd": {
                "function": "gradient.segpgd",
                "settings": {"epsilon": 0.03, "alpha": 0.01, "steps": 3},
            },
        }
    },
    "corrupted": {
        "points": {"default": {"function": "corruptions.jpeg", "settings": {"severity": 2}}}
    },
}
NONE = {"name": "none", "points": {"default": {"function": "basic.none", "settings": {}}}}
DIRECT = {"name": "direct", "points": {"default": {"function": "basic.direct", "settings": {}}}}


class Segmenter(nn.Module):
    """Logits of a pixel from itself and its neighbours."""

    def __init__(self, classes):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.last = nn.Conv2d(8, classes, 3, 1, 1)

    def forward(self, images):
        coarse = self.last(torch.relu(self.norm(self.first(images - 0.5))))
        return functional.interpolate(coarse, images.shape[2:], mode="bilinear")


class Blur(nn.Module):
    """A denoiser with a weight, so that there is a file of it."""

    def __init__(self):
        super().__init__()
        self.share = nn.Parameter(torch.tensor(0.8))

    def forward(self, images):
        blurred = functional.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
        return self.share * blurred + (1 - self.share) * images


class World:
    """Files of a few scenes, of a segmenter that was trained a little, and of what follows."""

    def __init__(self, root):
        self.root = root
        self.images = root / "scenes.h5"
        entry = {"train": 12, "test": COUNT, "size": SIDE, "digits": CLASSES - 1}
        scenes = {"function": "embedded.scenes", "settings": entry}
        for split, path in (("test", self.images), ("train", root / "train.h5")):
            images.run({"dataset": "scenes", "entry": scenes, "split": split}, path)
        self._ignore_a_few()
        self.victim, self.denoiser = root / "victim.safetensors", root / "denoiser.safetensors"
        self.entry = {"name": "toy", "function": "toy.segmenter", "settings": {}}
        self.network, self.blur = self._trained(), Blur().eval().requires_grad_(False)
        write_weights(self.victim, self.network.state_dict(), {"settings": {}})
        write_weights(self.denoiser, self.blur.state_dict(), {"settings": {}})
        with open_images(self.images) as clean:
            (self.batch,) = clean.batches(COUNT, torch.device("cpu"))

    def _ignore_a_few(self):
        """The border of every scene, and all of the last, have no class."""
        with open_hdf5(self.images) as file:
            stored = {name: file[name][:] for name in ("images", "masks", "ids")}
            classes = file.attrs["classes"]
        masks = stored["masks"]
        masks[:, :5] = masks[-1] = IGNORED
        with create_hdf5(self.images, {"settings": {}}, "images") as file:
            for name, values in stored.items():
                add_array(file, name, values)
            file.attrs["classes"] = classes

    def _trained(self):
        torch.manual_seed(0)
        network = Segmenter(CLASSES)
        optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
        with open_images(self.root / "train.h5") as scenes:
            (batch,) = scenes.batches(12, torch.device("cpu"))
        weights = torch.tensor([0.2, 1, 1, 1])  # digits cover a small part of a scene
        for _ in range(25):
            loss = functional.cross_entropy(network(batch.images), batch.labels, weights)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return network.eval().requires_grad_(False)

    def attack(self, name: str, output, purifier=None, batch: int = 3, **changes):
        entry = {"name": name} | ATTACKS.get(name, {"points": {"default": FGSM}}) | changes
        settings = {
            "seed": 0,
            "batch": batch,
            "threat": f"{name}@toy" + (f"+{purifier['name']}" if purifier else ""),
            "attack": entry,
            "victim": self.entry,
            "purifier": purifier,
            "denoiser": self.blur_entry if purifier else None,
        }
        denoiser = self.denoiser if purifier else None
        files = {"images": self.images, "victim": self.victim, "denoiser": denoiser}
        attack.run(settings, "code", **files, output=output, resume=self.root / "resume")
        return output

    @property
    def blur_entry(self):
        return {"name": "blur", "function": "toy.blur", "settings": {}}

    def made(self, name: str, purifier=None, **changes):
        words = "_".join([name, *(str(value) for value in changes.values())])
        path = self.root / f"{words}{'+' if purifier else ''}.h5"
        return path if path.exists() else self.attack(name, path, purifier, **changes)

    def evaluated(self, purifier: dict, batch: int = 3, **changes):
        path = self.root / f"{purifier['name']}.parquet"
        settings = {
            "seed": 0,
            "batch": batch,
            "suite": "plain",
            "threats": ["clean", "fgsm@toy", "stepped@toy"],
            "attacks": {name: {"name": name} for name in ("fgsm", "stepped")},
            "classifier": self.entry,
            "purifier": purifier,
            "denoiser": self.blur_entry if purifier["name"] == "direct" else None,
        }
        made = [self.made("fgsm"), self.made("stepped")]
        denoiser = self.denoiser if settings["denoiser"] else None
        evaluate.run(settings | changes, self.images, self.victim, made, path, denoiser)
        return read_table(path, segmentation_schema(CLASSES)).to_pandas()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield World(tmp_path_factory.mktemp("scenes"))
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def networks(component):
    component("classifiers", segmenter=lambda shape, classes: Segmenter(classes))
    component("denoisers", blur=lambda shape: Blur())


def perturbation(path, point="default") -> torch.Tensor:
    with open_hdf5(path, "adversarial") as file:
        return torch.from_numpy(file[f"points/{point}/perturbation"][:])


def slope_of(predict, images, labels) -> torch.Tensor:
    """By torch's own mean over the labelled pixels of one image after the other."""
    result = torch.zeros_like(images)
    for row in range(len(images)):
        if (labels[row] == IGNORED).all():
            continue
        leaf = images[row : row + 1].clone().requires_grad_()
        loss = functional.cross_entropy(predict(leaf), labels[row : row + 1], ignore_index=IGNORED)
        result[row] = torch.autograd.grad(loss, leaf)[0][0]
    return result


def stepped(images, slope, epsilon=0.2) -> torch.Tensor:
    return (images + epsilon * slope.sign()).clamp(0, 1) - images


def agreement(result, expected) -> float:
    return ((result - expected).abs() < 1e-5).float().mean().item()


# ---------------------------------------------------------------- attack


def test_the_file_holds_no_labels_and_no_masks(scenes):
    path = scenes.made("stepped")
    with open_hdf5(path, "adversarial") as file:
        assert set(file) == {"ids", "points"} and file.attrs["threat"] == "stepped@toy"
        assert np.array_equal(file["ids"][:], scenes.batch.ids)
        assert list(file["points"]) == ["segpgd", "weak"]
        for name, group in file["points"].items():
            assert set(group) == {"perturbation", "epsilon", "success", *COUNTED, *RECORDED}
            assert group["perturbation"].shape == (COUNT, 3, SIDE, SIDE)
            assert json.loads(group.attrs["entry"]) == ATTACKS["stepped"]["points"][name]


@pytest.mark.parametrize("size", [(513, 513), (353, 481), (129, 129)])
def test_chunks_are_whole_images_of_one_to_four_megabytes(size, tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        stored = add_array(file, "perturbation", shape=(1449, 3, *size), dtype="f4")
        rows, *image = stored.chunks
        assert tuple(image) == (3, *size)
        assert rows == {513: 1, 353: 1, 129: 8}[size[0]]
        assert 1e6 <= rows * 4 * 3 * size[0] * size[1] <= 4e6


def test_fgsm_is_that_of_the_masks(scenes):
    slope = slope_of(scenes.network, scenes.batch.images, scenes.batch.labels)
    result = perturbation(scenes.made("fgsm"))
    assert agreement(result, stepped(scenes.batch.images, slope)) > 0.999
    assert not result[-1].any() and result[:-1].flatten(1).any(1).all()


def test_i_fgsm_by_the_step_rule(scenes):
    """Of 0.008: four steps of 0.25/255 along the gradient at each place."""
    images, labels = scenes.batch.images, scenes.batch.labels
    moved = images
    for _ in range(4):
        slope = slope_of(scenes.network, moved, labels)
        moved = (moved + 0.25 / 255 * slope.sign()).clamp(images - 0.008, images + 0.008)
        moved = moved.clamp(0, 1)
    result = perturbation(scenes.made("stepped"), "weak")
    assert agreement(result, moved - images) > 0.999
    assert result.abs().max() <= 1.001 / 255


def test_success_is_to_err_on_more_than_half_of_the_labelled_pixels(scenes):
    fooled = 0
    for name, purifier in (("fgsm", None), ("stepped", None), ("fgsm", DIRECT)):
        path = scenes.made(name, purifier)
        with open_hdf5(path) as file:
            for group in file["points"].values():
                attacked_images = scenes.batch.images + torch.from_numpy(group["perturbation"][:])
                predictions = scenes.network(
                    scenes.blur(attacked_images) if purifier else attacked_images
                ).argmax(1)
                expected = []
                for mask, predicted in zip(scenes.batch.labels, predictions, strict=True):
                    kept = mask != IGNORED
                    wrong = int((mask[kept] != predicted[kept]).sum())
                    expected.append(int(wrong > kept.sum() / 2))
                assert group["success"][:].tolist() == expected
                assert expected[-1] == 0
                fooled += sum(expected)
    assert fooled > 3


def test_half_of_the_pixels_is_not_enough():
    masks = torch.tensor([[[0, 1], [2, IGNORED]]]).repeat(4, 1, 1)
    predictions = torch.tensor(
        [[[0, 1], [2, 0]], [[9, 1], [2, 0]], [[9, 9], [2, 2]], [[9, 9], [9, 2]]]
    )
    assert attack.errs(predictions, masks).tolist() == [False, False, True, True]
    masks[:, 0, 0] = IGNORED
    assert attack.errs(predictions, masks).tolist() == [False, False, False, True]
    assert attack.errs(torch.tensor([1, 255]), torch.tensor([1, 0])).tolist() == [False, True]


def test_the_batch_size_changes_nothing_but_rounding(scenes, tmp_path):
    for name in ("fgsm", "corrupted"):
        other = scenes.attack(name, tmp_path / f"{name}.h5", batch=4)
        assert agreement(perturbation(other), perturbation(scenes.made(name))) > 0.999


def test_who_knows_the_purifier_goes_through_denoiser_and_segmenter(scenes):
    images, labels = scenes.batch.images, scenes.batch.labels
    both = slope_of(lambda x: scenes.network(scenes.blur(x).clamp(0, 1)), images, labels)
    result = perturbation(scenes.made("fgsm", DIRECT))
    assert agreement(result, stepped(images, both)) > 0.999
    assert agreement(result, perturbation(scenes.made("fgsm"))) < 0.99
    with torch.no_grad():
        denoised = scenes.blur(images).clamp(0, 1)
    bpda = slope_of(scenes.network, denoised, labels)
    result = perturbation(scenes.made("bpda", DIRECT, through="identity"))
    assert agreement(result, stepped(images, bpda)) > 0.999


def noting(attacked_images: list):
    """An attack that notes what it is handed and changes nothing."""

    def spy(images, labels, targeted):
        attacked_images.append((labels, targeted))
        return torch.zeros_like(images)

    return spy


def test_labels_predicted_and_targets(scenes, component):
    masks = scenes.batch.labels
    predicted = scenes.network(scenes.batch.images).argmax(1)
    handed = {}
    for words in ("predicted", {"target": "2"}, {"target": 0}, "random_target"):
        attacked_images = []

        component("attacks", spy=noting(attacked_images))
        points = {"points": {"default": {"function": "toy.spy", "settings": {}}}}
        scenes.attack("spied", scenes.root / "spied.h5", labels=words, **points)
        handed[str(words)] = torch.cat([labels for labels, _ in attacked_images])
        assert all(targeted == (words != "predicted") for _, targeted in attacked_images)
    predictions, three, background, random = handed.values()
    assert torch.equal(predictions, predicted)
    ignored = masks == IGNORED
    assert (three[ignored] == IGNORED).all() and (three[~ignored] == 3).all()
    assert (background[ignored] == IGNORED).all() and (background[~ignored] == 0).all()
    assert (random[ignored] == IGNORED).all()
    assert (random[~ignored] != masks[~ignored]).all() and random[~ignored].max() < CLASSES
    for goals, mask in zip(random[:-1], masks[:-1], strict=True):  # one shift for an image
        kept = mask != IGNORED
        assert len(((goals[kept] - mask[kept]) % CLASSES).unique()) == 1


def test_a_targeted_attack_brings_the_target_about(scenes, tmp_path):
    points = {"function": "gradient.bim", "settings": {"epsilon": 0.1, "alpha": 0.02, "steps": 8}}
    path = scenes.attack(
        "aimed", tmp_path / "x.h5", points={"default": points}, labels={"target": "1"}
    )
    shares = []
    for change in (0, perturbation(path)):
        predictions = scenes.network(scenes.batch.images + change).argmax(1)
        shares.append((predictions[:-1] == 2).float().mean().item())
    assert shares[1] > 2 * shares[0]


# ---------------------------------------------------------------- evaluate


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 99))
def test_confusion_against_a_loop_over_pixels(count, classes, seed):
    random = np.random.default_rng(seed)
    masks = random.integers(0, classes, (count, 4, 5))
    masks[random.random(masks.shape) < 0.3] = IGNORED
    predictions = random.integers(0, classes, masks.shape)
    expected = np.zeros((count, classes, classes), dtype=int)
    for image, row, column in np.ndindex(masks.shape):
        if masks[image, row, column] != IGNORED:
            expected[image, masks[image, row, column], predictions[image, row, column]] += 1
    result = evaluate.confusion(torch.from_numpy(predictions), torch.from_numpy(masks), classes)
    assert np.array_equal(result, expected)


@pytest.mark.parametrize("purifier", [NONE, DIRECT], ids=lambda entry: entry["name"])
def test_every_column_by_hand(scenes, purifier):
    result = scenes.evaluated(purifier)
    points = [("clean", "default"), ("fgsm@toy", "default")]
    points += [("stepped@toy", "segpgd"), ("stepped@toy", "weak")]
    assert len(result) == COUNT * len(points)
    assert set(result["purifier"]) == {purifier["name"]} and set(result["draw"]) == {0}
    for threat, point in points:
        rows = result[(result["threat"] == threat) & (result["attack_point"] == point)]
        assert rows["id"].tolist() == scenes.batch.ids.tolist()
        change = torch.zeros_like(scenes.batch.images)
        if threat != "clean":
            change = perturbation(scenes.made(threat.partition("@")[0]), point)
        for place, row in enumerate(rows.to_dict("records")):
            image = scenes.batch.images[place]
            attacked_images = image + change[place]
            purified = (
                scenes.blur(attacked_images[None])[0].clamp(0, 1)
                if purifier is DIRECT
                else attacked_images
            )
            predicted = scenes.network(purified[None]).argmax(1)
            expected = evaluate.confusion(predicted, scenes.batch.labels[place][None], CLASSES)[0]
            # The folded network may take a pixel or two on a boundary for another class.
            assert np.abs(row["confusion"].reshape(CLASSES, CLASSES) - expected.numpy()).sum() <= 8
            labelled = (scenes.batch.labels[place] != IGNORED).sum()
            assert row["confusion"].sum() == labelled
            norms = {"l2": change[place].norm(), "linf": change[place].abs().max()}
            norms |= {"mse_before": change[place].square().mean()}
            norms |= {"mse_after": (purified - image).square().mean()}
            if purifier is DIRECT:
                norms["error_before"] = (
                    (attacked_images - scenes.blur(attacked_images[None])[0]).square().sum()
                )
            for name, value in norms.items():
                assert row[name] == pytest.approx(value.item(), rel=1e-3, abs=1e-7), name
    assert result["error_after"].notna().all() == (purifier is DIRECT)
    assert result["epsilon"].isna().sum() == COUNT


def test_the_batch_size_changes_no_count(scenes):
    whole = np.stack(scenes.evaluated(NONE)["confusion"])
    again = scenes.evaluated(NONE, batch=COUNT).sort_values(["threat", "attack_point", "id"])
    order = scenes.evaluated(NONE).sort_values(["threat", "attack_point", "id"])
    assert np.abs(np.stack(order["confusion"]) - np.stack(again["confusion"])).sum() <= 8
    assert whole.shape == (COUNT * 4, CLASSES**2)


def test_the_attack_lowers_the_share_of_right_pixels(scenes):
    result = scenes.evaluated(NONE)
    rights = {
        threat: np.trace(np.stack(rows["confusion"]).sum(0).reshape(CLASSES, CLASSES))
        for threat, rows in result.groupby("threat")
    }
    assert rights["fgsm@toy"] < 0.9 * rights["clean"]


# ---------------------------------------------------------------- examples and export


def test_examples_show_masks(scenes, tmp_path):
    settings = {
        "seed": 0,
        "threat": "stepped@toy",
        "attacks": {"stepped": {"name": "stepped"} | ATTACKS["stepped"]},
        "classifier": scenes.entry,
        "purifier": DIRECT,
        "denoiser": scenes.blur_entry,
        "images": 4,
        "superpixels": {},
        "maps": ["first"],
    }
    path, made = tmp_path / "x.h5", scenes.made("stepped")
    examples.run(settings, scenes.images, scenes.victim, path, made, scenes.denoiser)
    with open_hdf5(path, "examples") as file:
        assert set(file) == {"images", "masks", "ids", "segpgd", "weak"}
        assert np.array_equal(file["ids"][:], scenes.batch.ids[:4])
        assert file["masks"].dtype == np.uint8
        assert np.array_equal(file["masks"][:], scenes.batch.labels[:4])
        for point in ("segpgd", "weak"):
            group = file[f"{point}/default"]
            assert set(group) == {"seen", "purified", "prediction", "seen_prediction", "maps"}
            attacked_images = scenes.batch.images[:4] + perturbation(made, point)[:4]
            for name, shown in (
                ("seen_prediction", attacked_images),
                ("prediction", scenes.blur(attacked_images)),
            ):
                assert group[name].dtype == np.uint8 and group[name].shape == (4, SIDE, SIDE)
                expected = scenes.network(shown.clamp(0, 1)).argmax(1)
                assert np.mean(group[name][:] == expected.numpy()) > 0.999


def test_exported_images_have_masks(scenes, tmp_path):
    path = tmp_path / "x.h5"
    export.run({"threat": "fgsm@toy"}, scenes.images, path, scenes.made("fgsm"))
    with h5py.File(path) as file:
        group = file["default"]
        assert set(group) == {"images", "masks", "ids", "epsilon"}
        assert group["masks"].dtype == np.uint8
        assert np.array_equal(group["masks"][:], scenes.batch.labels)
