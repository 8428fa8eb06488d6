"""The rows stage: result files in, rows for programs out, as one Parquet. No torch."""

import time
from pathlib import Path

from advdenoise.calls import call_with
from advdenoise.io.parquet import write_table
from advdenoise.io.provenance import collect_provenance
from advdenoise.stages.table import prepared


def run(
    settings: dict,
    output: Path,
    predictions: list[Path] | None = None,
    distances: list[Path] | None = None,
    detection: list[Path] | None = None,
) -> None:
    """Join result files into one."""
    import pyarrow as pa

    started = time.time()
    files = {"predictions": predictions, "distances": distances, "detection": detection}
    function, read = prepared(settings, files)
    frame = call_with(function, **read).frame
    table = pa.Table.from_pandas(frame, preserve_index=False)
    large = [pa.types.is_large_string(field.type) for field in table.schema]
    fields = [
        f.with_type(pa.string()) if is_large else f
        for f, is_large in zip(table.schema, large, strict=True)
    ]
    table = table.cast(pa.schema(fields))
    write_table(output, table, collect_provenance(settings, started))
