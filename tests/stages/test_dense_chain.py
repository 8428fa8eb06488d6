"""From scenes to confusion matrices with the workflow's own networks, by its own jobs."""

import numpy as np
import pytest
import torch
import yaml

from advdenoise.graph import configuration
from advdenoise.graph.flow import Flow
from advdenoise.io.parquet import read_table
from advdenoise.io.schemas import segmentation_schema
from advdenoise.metrics import miou
from advdenoise.stages.data import open_images
from tests.stages.conftest import World

CONFIGURATION = """
scale: tiny
seeds: [0]
batch: 4
datasets:
  scenes:
    function: embedded.scenes
    settings: {train: 40, test: 6, size: 65, digits: 2}
    splits: {held_out: {size: 8}}
classifiers:
  small:
    function: segmentation.small
    settings: {width: 8}
    training: &learn
      function: plain.segment
      epochs: 40
      batch: 8
      optimiser: {name: adam, lr: 0.01}
attacks:
  fgsm: {function: gradient.fgsm, settings: {epsilon: 0.032}}
  stepped:
    settings: {epsilon: 0.032, alpha: 0.01, steps: 5}
    points:
      bim: {function: gradient.bim}
      segpgd: {function: gradient.segpgd}
  aimed:
    function: gradient.bim
    settings: {epsilon: 0.032, alpha: 0.01, steps: 5}
    labels: {target: background}
  bim: {function: gradient.bim, settings: {epsilon: 0.032, alpha: 0.01, steps: 5}}
  corrupted:
    points:
      noise: {function: corruptions.gaussian_noise, settings: {severity: 2}}
      blur: {function: corruptions.gaussian_blur, settings: {severity: 2}}
      jpeg: {function: corruptions.jpeg, settings: {severity: 2}}
  bimodal: {function: noise.bimodal, settings: {mode: 0.024, sigma: 0.004}}
denoisers:
  strided:
    function: autoencoders.elu_skips
    settings: {channels: [8, 8, 8, 8, 8]}
    trained_on: [{threat: clean, share: 0.5}, {noise: bimodal, share: 0.5}]
    training:
      {function: plain.reconstruct, epochs: 20, batch: 8, optimiser: {name: adam, lr: 0.01}}
purifiers: {direct: {function: basic.direct, denoiser: strided}}
suites:
  met: {threats: [clean, fgsm, stepped, aimed, corrupted], purifiers: [none, direct]}
  known: {threats: [clean, bim, bim+], purifiers: [direct]}
experiments: {}
"""


class Dense(World):
    def __init__(self, root):
        self.root = root
        self.flow = Flow(configuration.read(yaml.safe_load(CONFIGURATION)))


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Dense(tmp_path_factory.mktemp("chain"))
    torch.set_num_threads(threads)


def overlaps(chain, suite: str, purifier: str) -> dict:
    """The mIoU of each threat and point, after a look at the rows' counts."""
    path = chain.make(f"seed0/scenes/predictions/{suite}/{purifier}/small/test.parquet")
    rows = read_table(path, segmentation_schema(3)).to_pandas()
    with open_images(chain.make("images/scenes/test.h5")) as scenes:
        assert scenes.dense and len(rows) % len(scenes) == 0
        true = [np.bincount(mask.ravel(), minlength=3) for mask in scenes.labels[:]]
        for image, counts in zip(rows["id"], rows["confusion"], strict=True):
            place = scenes.ids.tolist().index(image)
            assert np.array_equal(counts.reshape(3, 3).sum(1), true[place])
    sums = rows.groupby(["threat", "attack_point"])["confusion"].sum()
    return {key: float(miou(counts.reshape(3, 3))) for key, counts in sums.items()}


def test_attacks_corruptions_and_purifiers_meet_on_masks(chain):
    result = overlaps(chain, "met", "none")
    clean = result["clean", "default"]
    assert len(result) == 8 and clean > 0.5
    for key in (("fgsm@small", "default"), ("stepped@small", "bim"), ("stepped@small", "segpgd")):
        assert result[key] < 0.8 * clean
    # All that is aimed at the background becomes background, whose own overlap stays.
    assert result["aimed@small", "default"] < 0.8 * clean
    assert len(overlaps(chain, "met", "direct")) == 8


def test_who_knows_the_denoiser_does_more_harm_behind_it(chain):
    result = overlaps(chain, "known", "direct")
    assert result["bim@small+direct", "default"] < result["bim@small", "default"]
    assert result["bim@small+direct", "default"] < result["clean", "default"]
