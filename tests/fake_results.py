"""Result files with random rows, made of the settings that the jobs of a configuration have."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa

from advdenoise.graph import configuration, threats
from advdenoise.graph.components import signature
from advdenoise.graph.flow import Flow
from advdenoise.io.hdf5 import add_array, create_hdf5
from advdenoise.io.json_files import write_json
from advdenoise.io.parquet import write_table
from advdenoise.io.schemas import (
    COST,
    DETECTION,
    DISTANCES,
    FACTS,
    PREDICTIONS,
    iqr_schema,
    segmentation_schema,
)
from advdenoise.stages.command import with_choices

PLACES = {
    "evaluate": "predictions/{suite}/{purifier}/{classifier}/{split}.parquet",
    "distances": "distances/{suite}/{classifier}/{split}.parquet",
    "detect": "detection/{suite}/{detector}/{attribution}/{classifier}/{split}.parquet",
    "iqr": "iqr/{threat}/{attribution}/{classifier}/{split}.parquet",
    "cost": "cost/{attribution}/{classifier}/{split}.parquet",
    "choose": "chosen/{entry}/{classifier}.json",
    "examples": "examples/{threat}/{purifier}/{classifier}/{split}.h5",
    "calibrate": "denoisers/{denoiser}.calibration.json",
}
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
SHAPES = dict.fromkeys(("digits", "mnist", "cifar10_grey"), (1, 28, 28))
DENSE = {"voc2012": 6, "camvid": 4, "scenes": 5}  # data sets with masks, and how many classes
SIDES = (33, 65)  # of their images
IMAGES = 30
IDS = np.arange(100, 100 + IMAGES)


def draws(purifier: dict, point: str) -> int:
    """As often as `evaluate` judges a point."""
    function = purifier["points"][point]["function"]
    random = "noise" in signature("purifiers", "purifiers", function).injected
    return purifier.get("draws", 1) if random else 1


class Results:
    """Makes the files that a table or figure of a configuration reads."""

    def __init__(self, root: Path, config: dict):
        self.root = root
        self.flow = Flow(configuration.read(config))
        self.random = np.random.default_rng(0)

    def inputs(self, kind: str, paper: str, name: str) -> dict[str, list[Path]]:
        entry = self.flow.config["experiments"][paper][kind][name]
        inputs, _ = self.flow.entries.product_inputs(paper, entry)
        return {stage: [self.make(file) for file in files] for stage, files in inputs.items()}

    def make(self, file: str) -> Path:
        path = self.root / file
        if not path.exists():
            for rule, place in PLACES.items():
                pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(place))
                place = r"/seed(?P<seed>\d+)/(?P<dataset>[^/]+)/"
                match = re.fullmatch(self.flow.root + place + pattern, file)
                if match:
                    job = self.flow.job(rule, match.groupdict())
                    result = map(self.make, job.inputs.get("chosen", []))
                    settings = with_choices(job.settings, list(result))
                    settings["digest"] = self.flow.digest(file)
                    getattr(self, f"_{rule}")(path, settings)
        return path

    def _points(self, settings: dict, threat: str):
        """Name and settings of every point of a threat's attack."""
        parsed = threats.parse(threat)
        if parsed.is_clean:
            return [("default", {"settings": {}})]
        return settings["attacks"][parsed.attack]["points"].items()

    def _write(self, path: Path, rows: list[dict], schema: pa.Schema, settings: dict) -> None:
        columns = {
            name: np.concatenate([np.broadcast_to(row[name], len(row["id"])) for row in rows])
            for name in schema.names
            if not pa.types.is_fixed_size_list(schema.field(name).type)
        }
        for name in set(schema.names) - set(columns):
            columns[name] = [list(x) for row in rows for x in row[name]]
        arrays = [
            pa.array(columns[f.name], f.type, from_pandas=pa.types.is_floating(f.type))
            for f in schema
        ]
        provenance = {"settings": settings}
        write_table(path, pa.Table.from_arrays(arrays, schema=schema), provenance)

    def _evaluate(self, path: Path, settings: dict) -> None:
        rows = []
        classes = DENSE.get(settings["dataset"])
        labels = self.random.integers(10, size=IMAGES)
        for threat in settings["threats"]:
            for name, point in self._points(settings, threat):
                cycle = point.get("epsilons", {}).get("cycle")
                epsilon = np.full(IMAGES, point["settings"].get("epsilon", np.nan))
                if cycle:
                    epsilon = np.array(cycle)[np.arange(IMAGES) % len(cycle)]
                for purifier_point in settings["purifier"]["points"]:
                    for draw in range(draws(settings["purifier"], purifier_point)):
                        right = self.random.random(IMAGES) < 0.6
                        rows.append(
                            dict.fromkeys(PREDICTIONS.names, 0.5)
                            | dict.fromkeys(FACTS.names)
                            | {
                                "id": IDS,
                                "threat": threat,
                                "attack_point": name,
                                "purifier": settings["purifier"]["name"],
                                "purifier_point": purifier_point,
                                "draw": draw,
                                "label": labels,
                                "prediction": np.where(right, labels, (labels + 1) % 10),
                                "label_rank": np.where(right, 0, 1),
                                "epsilon": epsilon.astype(np.float32),
                                "linf": np.nan_to_num(epsilon),
                            }
                        )
                        if classes:
                            rows[-1]["confusion"] = self._confusion(classes)
        schema = segmentation_schema(classes) if classes else PREDICTIONS
        self._write(path, rows, schema, settings | {"classes": classes or 10})

    def _confusion(self, classes: int) -> np.ndarray:
        """Of each image a matrix whose predictions are right for the most part."""
        counts = self.random.integers(20, size=(IMAGES, classes, classes))
        return (counts + 400 * np.eye(classes, dtype=int)).reshape(IMAGES, -1)

    def _distances(self, path: Path, settings: dict) -> None:
        rows = []
        for threat, purifier in settings["pairs"]:
            (entry,) = (e for e in settings["purifiers"] if e["name"] == purifier)
            for point, _ in self._points(settings, threat):
                for purifier_point in entry["points"]:
                    for index, layer in enumerate(settings["taps"]):
                        l2 = self.random.random(IMAGES)
                        rows.append(
                            {
                                "id": IDS,
                                "threat": threat,
                                "attack_point": point,
                                "purifier": purifier,
                                "purifier_point": purifier_point,
                                "layer_index": index,
                                "layer": layer,
                                "elements": 16,
                                "l2": l2,
                                "ne_d": l2 / 16,
                                "ne_d_sqrt": l2 / 4,
                                "cos_d": self.random.random(IMAGES) / 50,
                                "ne_d_raw": l2 / 8,
                                "cos_d_raw": self.random.random(IMAGES) / 40,
                            }
                        )
        shapes = {layer: [4, 2, 2] for layer in settings["taps"]}
        facts = {"parameters": 1_500_000, "layers": 5, "shapes": shapes}
        entry = settings["classifier"] | facts
        self._write(path, rows, DISTANCES, settings | {"classifier": entry})

    def _detect(self, path: Path, settings: dict) -> None:
        rows = []
        attacks = [(t, p) for t in settings["threats"] for p, _ in self._points(settings, t)]
        transfer = settings["detection"].get("transfer", False)
        for attack, fitted in itertools.product(attacks, attacks):
            if fitted != attack and not transfer:
                continue
            for place in np.ndindex(
                len(settings["attribution"]["points"]),
                len(settings["detection"]["representations"]),
                len(settings["detector"]["points"]),
                len(settings["detection"]["protocols"]),
                settings["detection"]["split_seeds"],
            ):
                chosen = self.random.permutation(IDS)[:12]
                is_adversarial = np.arange(12) % 2 == 0
                rows.append(
                    {
                        "threat": attack[0],
                        "attack_point": attack[1],
                        "fitted_threat": fitted[0],
                        "fitted_point": fitted[1],
                        "attribution_point": list(settings["attribution"]["points"])[place[0]],
                        "representation": settings["detection"]["representations"][place[1]],
                        "detector_point": list(settings["detector"]["points"])[place[2]],
                        "protocol": settings["detection"]["protocols"][place[3]],
                        "split_seed": place[4],
                        "id": chosen,
                        "is_adversarial": is_adversarial,
                        # Few distinct values, so that there are ties.
                        "score": np.round(self.random.random(12) + 0.4 * is_adversarial, 1),
                        "fit_seconds": 0.1,
                    }
                )
        hidden = 10 + 19 * self.flow.config["hidden"]["per_layer"]
        lengths = {"predicted": 1, "probabilities": 10, "hidden": hidden}
        self._write(path, rows, DETECTION, settings | {"lengths": lengths})

    def _iqr(self, path: Path, settings: dict) -> None:
        rows = []
        for point, _ in self._points(settings, settings["threat"]):
            for place, (attribution, entry) in enumerate(settings["attribution"]["points"].items()):
                vectors = self.random.random((IMAGES, 10))
                are_pixels = entry["function"] == "superpixels.pixels"
                rows.append(
                    {
                        "id": IDS,
                        "attack_point": point,
                        "attribution_point": attribution,
                        "label": 1,
                        "prediction": 2,
                        "epsilon": np.nan,
                        "success": True,
                        "segments": 1024 if are_pixels else 10 * (place + 1),
                        "predicted": vectors[:, :1],
                        "probabilities": vectors,
                        "hidden": vectors,
                    }
                )
        seconds = 0.5 * sum(len(row["id"]) for row in rows)
        self._write(path, rows, iqr_schema(10, 10), settings | {"seconds": seconds})

    def _choose(self, path: Path, settings: dict) -> None:
        """The second candidate of each setting is the best."""
        choice_values = []
        for choice in settings["choices"]:
            of_attack = settings["kind"] == "attacks"
            names = ("MSE",) if of_attack else ("clean accuracy", "robust accuracy")
            candidates = []
            for place, value in enumerate(choice["candidates"]):
                score = -abs(place - 1.0)
                measured = {"mean": 1 + score / 99, "deviation": 0.1, "images": IMAGES}
                measures = dict.fromkeys(names, measured)
                candidates.append({"value": value, "score": score, "measures": measures})
            names = {key: choice[key] for key in ("point", "setting", "by", "wanted")}
            choice_values.append(
                names | {"value": choice["candidates"][1], "candidates": candidates}
            )
        names = {"entry": settings["entry"], "classifier": settings["victim"]["name"]}
        value = names | {"images": IMAGES, "choices": choice_values}
        write_json(path, value, {"settings": settings})

    def _cost(self, path: Path, settings: dict) -> None:
        """An image of the point at place p has 10 (p + 1) segments."""
        sizes = {"predicted": 1, "probabilities": 10, "hidden": 10 + 19 * settings["per_layer"]}
        rows = []
        for place, point in enumerate(settings["attribution"]["points"]):
            for representation, values in sizes.items():
                passes = 10 * (place + 1)
                rows.append(
                    {
                        "id": np.arange(settings["repetitions"]),  # for the number of rows
                        "attribution_point": point,
                        "representation": representation,
                        "repetition": np.arange(settings["repetitions"]),
                        "images": settings["images"],
                        "values": values,
                        "passes": passes,
                        "most_passes": passes + 2,
                        "array_bytes": (passes + 2) * settings["images"] * values * 4 + 110,
                        "peak_bytes": 1e6,
                        "segmentation_seconds": 0.5,
                        "passes_seconds": passes * self.random.random(settings["repetitions"]),
                        "features_seconds": passes,
                    }
                )
        size = {"modules": 26, "parameters": 308_394, "statistics": 896}
        about = settings | {"classifier": settings["classifier"] | size}
        self._write(path, rows, COST, about)

    def _examples(self, path: Path, settings: dict) -> None:
        """An image of each class in turn; the superpixels of that at place p are p + 1 rows.

        Images with masks are of class 1 on their left, predicted to be of class 2, and of class 3
        where they are purified.

        Without a purifier all are taken for the target (or 9) with a confidence of 0.995, behind
        one the first two are, with 0.75.
        """
        if settings["dataset"] in DENSE:
            self._scenes(path, settings)
            return
        count, shape = settings["images"], SHAPES.get(settings["dataset"], (3, 32, 32))
        with create_hdf5(path, {"settings": settings}, "examples") as file:
            named = CIFAR10 if settings["dataset"] == "cifar10" else None
            classes = named or [f"class{label}" for label in range(10)]
            file.attrs["classes"] = json.dumps(classes)
            labels = np.arange(count) % 10
            add_array(file, "images", self.random.random((count, *shape), dtype=np.float32))
            add_array(file, "labels", labels)
            add_array(file, "ids", IDS[:count])
            target = 9
            for attack in settings["attacks"].values():
                if isinstance(attack.get("labels"), dict):
                    target = attack["labels"]["target"]
                    target = classes.index(target) if target in classes else int(target)
                    file.attrs["target"] = target
            before = np.full((count, 10), 0.005 / 9, np.float32)
            before[:, target] = 0.995
            for point, _ in self._points(settings, settings["threat"]):
                for purifier_point in settings["purifier"]["points"]:
                    group = file.create_group(f"{point}/{purifier_point}")
                    for name in ("seen", "purified"):
                        pictures = self.random.random((count, *shape), dtype=np.float32)
                        add_array(group, name, pictures)
                    wrong = np.arange(count) < 2
                    add_array(group, "prediction", np.where(wrong, target, labels))
                    add_array(group, "confidence", np.full(count, 0.75, np.float32))
                    add_array(group, "seen_probabilities", before)
                    for module in settings["maps"]:
                        maps = group.create_group(f"maps/{module}")
                        add_array(maps, "channels", np.tile([5, 2, 0, 7], (count, 1)))
                        for name in ("clean", "seen", "purified"):
                            values = self.random.random((count, 4, 6, 6), dtype=np.float32)
                            add_array(maps, name, values)
            for name, entry in settings["superpixels"].items():
                for point in entry["points"]:
                    row = np.broadcast_to(np.arange(32)[:, None], (32, 32))
                    labels = np.stack([np.minimum(row, place) for place in range(count)])
                    group = file.require_group(f"superpixels/{name}")
                    add_array(group, point, labels, dtype=np.int32)

    def _scenes(self, path: Path, settings: dict) -> None:
        count = settings["images"]
        left = np.broadcast_to(np.arange(SIDES[1]) < SIDES[1] // 2, (count, *SIDES))
        pictures = np.random.default_rng(0).random((count, 3, *SIDES), dtype=np.float32)
        with create_hdf5(path, {"settings": settings}, "examples") as file:
            classes = [f"class{label}" for label in range(DENSE[settings["dataset"]])]
            file.attrs["classes"] = json.dumps(classes)
            add_array(file, "images", pictures)
            add_array(file, "masks", left.astype(np.uint8))
            add_array(file, "ids", IDS[:count])
            is_clean = threats.parse(settings["threat"]).is_clean
            for point, _ in self._points(settings, settings["threat"]):
                for purifier_point in settings["purifier"]["points"]:
                    group = file.create_group(f"{point}/{purifier_point}")
                    attacked_pictures = (
                        pictures if is_clean else (0.9 * pictures).astype(np.float32)
                    )
                    add_array(group, "seen", attacked_pictures)
                    add_array(group, "purified", (0.5 + 0 * attacked_pictures).astype(np.float32))
                    for name, label in (("seen_prediction", 2), ("prediction", 3)):
                        add_array(group, name, (label * left).astype(np.uint8))

    def _calibrate(self, path: Path, settings: dict) -> None:
        sizes = {"kernel": 3, "padding": 1, "parameters": 60}
        layers = [
            {"layer": "Conv2d+Relu+BatchNorm2d", "stride": 2, "filters": 64, **sizes},
            *[{"layer": "Conv2d+Relu+BatchNorm2d", "stride": 1, "filters": 64, **sizes}] * 3,
            *[{"layer": "DeConv2d+Relu+BatchNorm2d", "stride": 1, "filters": 64, **sizes}] * 3,
            {"layer": "DeConv2d", "stride": 2, "filters": 3, **sizes},
        ]
        value = {"mean": 4.0, "deviation": 1.5, "images": 100, "layers": layers}
        write_json(path, value, {"settings": settings})


def rows(frame, **names) -> np.ndarray:
    """Which rows have these values (one, or any of several) in these columns; there are some."""
    chosen = np.ones(len(frame), dtype=bool)
    for name, value in names.items():
        chosen &= frame[name].isin([value] if np.isscalar(value) else value).to_numpy()
    assert chosen.any()
    return chosen
