"""The configuration: read, completed, converted to one unit, and checked before any job starts.

Every mistake ends in `BadInput` with one sentence: the key, what is wrong, what would be right.
"""

import copy
import os
from pathlib import Path

from advdenoise.errors import BadInput
from advdenoise.graph import components
from advdenoise.graph.completion import complete
from advdenoise.graph.crossings import check_products
from advdenoise.graph.entries import check_entries
from advdenoise.graph.names import check_knowledge, check_names
from advdenoise.graph.schema import check_schema, leave_out_nulls, with_numbers
from advdenoise.ops.files import why_not_listable


def read(raw: dict) -> dict:
    """The effective configuration of what Snakemake has merged from the files.

    Fractions such as `8/255` become numbers, another `epsilon_unit` becomes pixels of [0,1],
    `everywhere` is put into the crossings, every entry holds its points in full. Raises `BadInput`.
    """
    if "include" in raw:
        raise BadInput("include: is read in a configuration file only; write it in one")
    config = with_numbers(copy.deepcopy(raw), "")
    leave_out_nulls(config)
    check_schema(config)
    complete(config)
    check_entries(config)
    check_names(config)
    check_knowledge(config)
    check_products(config)
    return config


def uses_data_root(config: dict, dataset: str) -> bool:
    """Whether a data set is read from the user's data root."""
    return "root" in components.signature_of("datasets", config["datasets"][dataset]).injected


def check_data_root(config: dict, datasets) -> None:
    """Refuse a start whose data sets need a data root that is not there."""
    needed = sorted(name for name in datasets if uses_data_root(config, name))
    if not needed:
        return
    root = config["data_root"]
    if root is None:
        raise BadInput(
            f"data_root: not set, but data set {needed[0]!r} is read from it; "
            "give your image folder with `--config data_root=FOLDER`"
        )
    if reason := why_not_listable(Path(os.path.expanduser(root))):
        raise BadInput(
            f"data_root: {root!r} {reason}, but data set {needed[0]!r} is read from it; give the "
            "folder that holds your images"
        )
