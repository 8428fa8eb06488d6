"""The iqr stage: spread of leave-one-out attributions, all points and representations at once."""

import time
from pathlib import Path

from torch import nn
from tqdm import tqdm

from advdenoise.attributions._loo import LeaveOneOut, representations
from advdenoise.io.digests import ids_digest
from advdenoise.io.parquet import write_table
from advdenoise.io.provenance import collect_provenance
from advdenoise.io.schemas import iqr_schema
from advdenoise.stages import models
from advdenoise.stages.columns import Columns
from advdenoise.stages.data import Batch, open_images
from advdenoise.stages.leave_one_out import hidden_nodes, leave_one_out_of, segments
from advdenoise.stages.threats import ThreatBatch, open_threats


def run(
    settings: dict,
    images: Path,
    classifier: Path,
    output: Path,
    adversarial: Path | None = None,
) -> None:
    """Write the interquartile ranges of one threat's images under one attribution entry."""
    started = time.time()
    device = models.device()
    paths = [adversarial] if adversarial else []
    with (
        open_images(images) as clean,
        open_threats([settings["threat"]], paths, clean) as threats,
    ):
        network = models.load_frozen("classifiers", classifier, settings["classifier"], clean)
        (first,) = clean.batches(1, device, 1)
        nodes = hidden_nodes(settings, network, first.images)
        leave_one_out = leave_one_out_of(settings, network, nodes, first.images)
        columns = Columns(iqr_schema(len(clean.classes), len(nodes) + len(clean.classes)))
        begin = time.perf_counter()
        batches = clean.batches(settings["batch"], device)
        for batch in tqdm(batches, desc=f"iqr {settings['threat']}", disable=None):
            for threat_batch in threats.iter_batches(batch):
                _add(columns, batch, threat_batch, settings, network, leave_one_out)
        about = {
            "nodes": nodes.indices,
            "classes": len(clean.classes),
            "ids": ids_digest(clean.ids),
            "seconds": time.perf_counter() - begin,  # of superpixels and features alone
        }
        provenance = collect_provenance(settings | about, started)
        write_table(output, columns.table(), provenance)


def _add(
    columns: Columns,
    batch: Batch,
    threat_batch: ThreatBatch,
    settings: dict,
    network: nn.Module,
    leave_one_out: LeaveOneOut,
) -> None:
    """The rows of one batch under one threat, for every point of the attribution."""
    entry = settings["attribution"]
    inputs = threat_batch.images
    for point, settled in entry["points"].items():
        labels = segments(settled, network, inputs)
        whole, spread = leave_one_out.features(
            inputs, labels, entry["masking"], entry["quantile"], entry.get("channels") == "apart"
        )
        columns.add(
            len(batch.ids),
            id=batch.ids,
            attack_point=threat_batch.point,
            attribution_point=point,
            label=batch.labels,
            prediction=whole.argmax(1),
            epsilon=threat_batch.epsilon,
            success=threat_batch.success,
            segments=labels.flatten(1).amax(1) + 1,
            **representations(whole, spread),
        )
