"""The distances stage: how far each layer's map is from that of the clean image.

One clean pass serves all threats and purifiers; its maps live as long as their batch.
"""

import time
from pathlib import Path

import torch
from tqdm import tqdm

from advdenoise.distances import Comparison, Distance, Taps, layer_distances
from advdenoise.errors import BadInput
from advdenoise.inference import capacity
from advdenoise.io.digests import ids_digest
from advdenoise.io.parquet import write_table
from advdenoise.io.provenance import collect_provenance
from advdenoise.io.schemas import DISTANCES
from advdenoise.noise import Noise
from advdenoise.ops.devices import full_precision
from advdenoise.outputs import finite_rows
from advdenoise.stages import models
from advdenoise.stages.columns import Columns
from advdenoise.stages.data import Batch, ImageSet, open_images
from advdenoise.stages.threats import ThreatBatch, open_threats


def run(
    settings: dict,
    images: Path,
    classifier: Path,
    adversarial: list[Path],
    output: Path,
    denoiser: list[Path] | None = None,
    calibration: list[Path] | None = None,
) -> None:
    """Write the distances for a suite's threats, without and with its purifiers.

    The classifier's entry is stored with its capacity and the `shapes` of its observed maps.
    """
    started = time.time()
    device = models.device()
    names = list(dict.fromkeys(threat for threat, _ in settings["pairs"]))
    with (
        open_images(images) as clean,
        open_threats(names, adversarial, clean) as threats,
    ):
        network = models.load_frozen("classifiers", classifier, settings["classifier"], clean)
        purifiers = _purifiers(settings, denoiser or [], calibration or [], clean)
        columns = Columns(DISTANCES)
        count = min(settings["images"], len(clean))
        batches = clean.batches(settings["batch"], device, count)
        compare = Comparison(settings["taps"][:-1] if settings["post_relu"] else ())
        # Not in inference mode: a purifier may take gradients of its own.
        with (
            Taps(network, settings["taps"], compare) as taps,
            torch.no_grad(),
            full_precision(),
        ):
            for batch in tqdm(batches, desc=f"distances {settings['suite']}", disable=None):
                compare.clean = None  # of the clean pass copies are kept
                compare.clean = maps = _observed(network, taps, batch.images)
                shapes = {name: list(map_.shape[1:]) for name, map_ in maps.items()}
                for threat_batch in threats.iter_batches(batch):
                    for entry, point, purify in _paired(settings, purifiers, threat_batch.threat):
                        noise = Noise(settings["seed"], batch.ids, entry["name"], "defender")
                        purified = purify(threat_batch.images, noise)
                        # Unchanged images need no second pass.
                        if purified is batch.images:
                            distances = layer_distances(maps, maps)
                        else:
                            distances = _observed(network, taps, purified)
                        _add(columns, batch, threat_batch, entry["name"], point, distances)
        entry = settings["classifier"] | capacity.capacity(network) | {"shapes": shapes}
        about = settings | {"classifier": entry, "ids": ids_digest(clean.ids[:count])}
        provenance = collect_provenance(about, started)
        write_table(output, columns.table(), provenance)


def _purifiers(settings: dict, denoisers: list[Path], calibrations: list[Path], clean: ImageSet):
    """Every point of every purifier of the suite, with its entry."""
    weights = {path.name.removesuffix(".safetensors"): path for path in denoisers}
    errors = {path.name.removesuffix(".calibration.json"): path for path in calibrations}
    functions = []
    for entry in settings["purifiers"]:
        name = entry.get("denoiser")
        autoencoder = models.denoiser(
            weights.get(name), errors.get(name), entry["denoiser_entry"], clean
        )
        points = models.purifiers(entry, autoencoder, clean, settings["seed"])
        functions += [(entry, point, purify) for point, purify in points.items()]
    return functions


def _paired(settings: dict, purifiers, threat: str):
    """The purifiers paired with a threat; an adaptive threat is paired with its own alone."""
    names = [purifier for other, purifier in settings["pairs"] if other == threat]
    return [entry_point for entry_point in purifiers if entry_point[0]["name"] in names]


def _observed(network: torch.nn.Module, taps: Taps, images: torch.Tensor) -> dict:
    """What the taps keep of a pass, by layer."""
    network(images)
    return taps.take()


def _add(
    columns: Columns,
    batch: Batch,
    threat_batch: ThreatBatch,
    purifier: str,
    point: str,
    distances: dict[str, Distance],
) -> None:
    for index, (layer, distance) in enumerate(distances.items()):
        finite = finite_rows(torch.stack([distance.l2, distance.cos_d], dim=1).float())
        if not bool(finite.all()):
            raise BadInput(
                f"distances: under {threat_batch.threat}, behind purifiers.{purifier}, the maps of "
                f"layer {layer} are not finite for {int((~finite).sum())} of {len(finite)} images; "
                "take the purifier out of this suite, or change it so that its images are finite"
            )
        columns.add(
            len(batch.ids),
            id=batch.ids,
            threat=threat_batch.threat,
            attack_point=threat_batch.point,
            purifier=purifier,
            purifier_point=point,
            layer_index=index,
            layer=layer,
            elements=distance.elements,
            l2=distance.l2.float(),
            ne_d=distance.ne_d.float(),
            ne_d_sqrt=distance.ne_d_sqrt.float(),
            cos_d=distance.cos_d.float(),
            ne_d_raw=distance.before_relu.ne_d.float(),
            cos_d_raw=distance.before_relu.cos_d.float(),
        )
