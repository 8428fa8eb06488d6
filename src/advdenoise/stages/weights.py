"""Networks whose weights come from a file: read, checked and stored like those trained here."""

import time
from pathlib import Path

from advdenoise.graph.components import without_first_weights
from advdenoise.graph.sources import existing
from advdenoise.io.checkpoints import load_checkpoint
from advdenoise.io.parquet import write_table
from advdenoise.io.provenance import collect_provenance
from advdenoise.io.schemas import HISTORY
from advdenoise.io.weights import write_weights
from advdenoise.stages import models
from advdenoise.stages.columns import Columns
from advdenoise.stages.data import open_images


def read(
    kind: str, entry: dict, settings: dict, images: Path, weights: Path, history: Path
) -> None:
    """Write the weights of the file that an entry names, and a history without epochs.

    `images` is an image set like those that the network will be given. Raises BadInput where
    weights and network do not fit each other or these images, DamagedFile for an unreadable file.
    """
    started = time.time()
    with open_images(images) as sample:
        network = models.build(
            kind, without_first_weights(kind, entry), sample.shape, len(sample.classes)
        )
    key = f"{kind}.{entry['name']}.weights"
    load_checkpoint(network, existing(entry["weights"]), key, f"the network of {entry['function']}")
    provenance = collect_provenance(settings, started)
    write_table(history, Columns(HISTORY).table(), provenance)
    write_weights(weights, network.state_dict(), provenance)
