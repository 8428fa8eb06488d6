"""The export stage: an image set as plain arrays for people outside this project."""

import json
import time
from contextlib import ExitStack
from pathlib import Path

import torch

from advdenoise.io.hdf5 import add_array, create_hdf5
from advdenoise.io.provenance import collect_provenance
from advdenoise.stages.data import open_adversarial, open_images

_ROWS = 256


def run(settings: dict, images: Path, output: Path, adversarial: Path | None = None) -> None:
    """Write images (float32 [N,C,H,W] in [0,1]) and labels, gzip-compressed, for bare h5py.

    An adversarial set gives one group per point, each with `images`, `labels`, `ids` and, where
    the attack has one, the `epsilon` of each image; the clean images stand in the group `clean`.
    Of a dense image set `masks` (uint8 [N,H,W]) stand in the place of `labels`.
    """
    started = time.time()
    device = torch.device("cpu")
    with ExitStack() as files:
        clean = files.enter_context(open_images(images))
        attacked = adversarial and files.enter_context(open_adversarial(adversarial, clean))
        file = files.enter_context(
            create_hdf5(output, collect_provenance(settings, started), "exported"),
        )
        file.attrs["classes"] = json.dumps(clean.classes)
        for point in attacked.points if attacked else ["clean"]:
            group = file.create_group(point)
            shape = (len(clean), *clean.shape)
            stored = add_array(group, "images", shape=shape, dtype="f4", codec="gzip")
            for batch in clean.batches(_ROWS, device):
                shown = batch.images
                if attacked:
                    shown = shown + attacked.perturbation(point, batch)
                stored[batch.rows] = shown.numpy()
            name = "masks" if clean.dense else "labels"
            add_array(group, name, clean.labels, codec="gzip")
            add_array(group, "ids", clean.ids, codec="gzip")
            if attacked:
                add_array(group, "epsilon", attacked.epsilon(point), codec="gzip")
