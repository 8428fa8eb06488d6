"""What tables and figures cross: names, splits, and that the entries fit each other."""

from advdenoise.errors import BadInput, suggest
from advdenoise.graph import choices, stages
from advdenoise.graph.combinations import combinations
from advdenoise.graph.kinds import BUILT_IN_SPLITS, DENSE, KIND_OF, SEGMENTER, returned
from advdenoise.graph.names import check_threat, known
from advdenoise.graph.stages import crossings


def check_products(config: dict) -> None:
    """Refuse tables and figures that cannot be made, and names of experiments that rules have."""
    figures = {f"figures_{name}" for name in config["experiments"]}
    for name, experiment in config["experiments"].items():
        if name in {"all", *stages.stages(), *figures}:
            raise BadInput(
                f"experiments.{name}: {name!r} is the name of a rule, and an experiment has a rule "
                "of its own name; take another name"
            )
        for part in ("tables", "figures"):
            for product_name, product in experiment[part].items():
                _check_product(config, f"experiments.{name}.{part}.{product_name}", product)


def _check_product(config: dict, key: str, product: dict) -> None:
    if "on_demand" in product and ".figures." in key:
        raise BadInput(f"{key}.on_demand: figures are drawn in one job; take it out")
    read = [stage for stage in crossings() if stage in product]
    for stage in read:
        for crossing in product[stage]:
            _check_crossing(config, f"{key}.{stage}", stage, crossing)
    combined, left_out = combinations(config, product)
    for stage in read:
        if stage not in combined:
            reason = f" ({left_out[0]})" if left_out else " (the suite has no purifiers)"
            raise BadInput(f"{key}.{stage}: nothing is left of it{reason}; cross other entries")


def _check_crossing(config: dict, key: str, stage: str, crossing: dict) -> None:
    wanted = crossings()[stage]
    for name in crossing:
        if name not in (*wanted, "dataset"):
            raise BadInput(
                f"{key}.{name}: does not belong to {stage}; {suggest(name, (*wanted, 'dataset'))}"
            )
    for name in wanted:
        if not crossing.get(name) and (name, stage) != ("purifier", "predictions"):
            raise BadInput(f"{key}: the key {name!r} is missing; add it")
    for name, kind in KIND_OF.items():
        for item in crossing.get(name, []):
            known(config, kind, item, f"{key}.{name}")
    for text in crossing.get("threat", []):
        threat = check_threat(config, text, f"{key}.threat")
        if threat.purifier == "" and "purifier" not in wanted:
            raise BadInput(f"{key}.threat: {text!r} names no purifier; write it after the +")
    for name in crossing.get("entry", []):
        if name not in (there := choices.choosing(config)):
            raise BadInput(f"{key}.entry: {name!r} chooses nothing; {suggest(name, there)}")
    for dataset in crossing["dataset"]:
        for classifier in crossing.get("classifier", []):
            _check_segments(config, f"{key}.classifier", dataset, classifier)
        splits = {*BUILT_IN_SPLITS, *config["datasets"][dataset]["splits"]}
        for split in crossing.get("split", []):
            if split not in splits:
                raise BadInput(
                    f"{key}.split: data set {dataset!r} has no split {split!r}; "
                    f"{suggest(split, splits)}"
                )
        if stage == "calibration" and "held_out" not in config["datasets"][dataset]["splits"]:
            raise BadInput(
                f"{key}.dataset: data set {dataset!r} holds nothing out to calibrate on; add "
                f"datasets.{dataset}.splits.held_out or take it out here"
            )
    if stage == "detection" and "detection" not in config:
        raise BadInput(f"detection: the key is missing, but {key} needs it; say how to judge")
    for classifier in crossing["classifier"] if stage == "distances" else []:
        if classifier not in config["distances"]["taps"]:
            raise BadInput(
                f"distances.taps: classifier {classifier!r} has no taps, but {key} asks for its "
                "layers; name the modules to observe"
            )


def _check_segments(config: dict, key: str, dataset: str, classifier: str) -> None:
    """A segmenter meets images with masks, any other classifier images with labels."""
    entry = config["classifiers"][classifier]
    if dataset not in entry.get("datasets", [dataset]):
        return
    dense = returned("datasets", config["datasets"][dataset]) == DENSE
    if dense != (returned("classifiers", entry) == SEGMENTER):
        has, needs = ("masks", "a segmenter") if dense else ("labels", "another classifier")
        raise BadInput(
            f"{key}: {classifier!r} ({entry['function']}) does not fit data set {dataset!r}, whose "
            f"images have {has}; take {needs}"
        )
