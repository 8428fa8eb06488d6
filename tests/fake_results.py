"""Result files with random rows, made of the settings that the jobs of a configuration have."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa

from scripts.advdenoise import configuration, store, threats
from scripts.advdenoise.schemas import DETECTION, DISTANCES, PREDICTIONS, iqr_schema
from scripts.advdenoise.workflow import Flow

PLACES = {
    "evaluate": "predictions/{suite}/{purifier}/{classifier}/{split}.parquet",
    "distances": "distances/{suite}/{classifier}/{split}.parquet",
    "detect": "detection/{suite}/{detector}/{attribution}/{classifier}/{split}.parquet",
    "iqr": "iqr/{threat}/{attribution}/{classifier}/{split}.parquet",
    "calibrate": "denoisers/{denoiser}.calibration.json",
}
IMAGES = 30
IDS = np.arange(100, 100 + IMAGES)


class Results:
    """Makes the files that a table or figure of a configuration reads."""

    def __init__(self, root: Path, config: dict):
        self.root = root
        self.flow = Flow(configuration.read(config))
        self.random = np.random.default_rng(0)

    def inputs(self, kind: str, paper: str, name: str) -> dict[str, list[Path]]:
        entry = self.flow.config["experiments"][paper][kind][name]
        inputs, _ = self.flow._product_inputs(paper, entry)
        return {stage: [self.make(file) for file in files] for stage, files in inputs.items()}

    def make(self, file: str) -> Path:
        path = self.root / file
        if not path.exists():
            for rule, place in PLACES.items():
                pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(place))
                place = r"/seed(?P<seed>\d+)/(?P<dataset>[^/]+)/"
                match = re.fullmatch(self.flow.root + place + pattern, file)
                if match:
                    settings = self.flow.job(rule, match.groupdict()).settings
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
            if name not in ("predicted", "probabilities", "hidden")
        }
        for name in set(schema.names) - set(columns):
            columns[name] = [list(x) for row in rows for x in row[name]]
        arrays = [
            pa.array(columns[f.name], f.type, from_pandas=pa.types.is_floating(f.type))
            for f in schema
        ]
        provenance = {"settings": settings}
        store.write_table(path, pa.Table.from_arrays(arrays, schema=schema), provenance)

    def _evaluate(self, path: Path, settings: dict) -> None:
        rows = []
        labels = self.random.integers(10, size=IMAGES)
        for threat in settings["threats"]:
            for name, point in self._points(settings, threat):
                cycle = point.get("epsilons", {}).get("cycle")
                epsilon = np.full(IMAGES, point["settings"].get("epsilon", np.nan))
                if cycle:
                    epsilon = np.array(cycle)[np.arange(IMAGES) % len(cycle)]
                for purifier_point in settings["purifier"]["points"]:
                    for draw in range(settings["purifier"].get("draws", 1)):
                        right = self.random.random(IMAGES) < 0.6
                        rows.append(
                            dict.fromkeys(PREDICTIONS.names, 0.5)
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
                            }
                        )
        self._write(path, rows, PREDICTIONS, settings)

    def _distances(self, path: Path, settings: dict) -> None:
        rows = []
        for threat, purifier in settings["meetings"]:
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
                            }
                        )
        self._write(path, rows, DISTANCES, settings)

    def _detect(self, path: Path, settings: dict) -> None:
        rows = []
        for threat in settings["threats"]:
            for place in np.ndindex(
                len(self._points(settings, threat)),
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
                        "threat": threat,
                        "attack_point": [n for n, _ in self._points(settings, threat)][place[0]],
                        "attribution_point": list(settings["attribution"]["points"])[place[1]],
                        "representation": settings["detection"]["representations"][place[2]],
                        "detector_point": list(settings["detector"]["points"])[place[3]],
                        "protocol": settings["detection"]["protocols"][place[4]],
                        "split_seed": place[5],
                        "id": chosen,
                        "is_adversarial": is_adversarial,
                        # Few distinct values, so that there are ties.
                        "score": np.round(self.random.random(12) + 0.4 * is_adversarial, 1),
                        "fit_seconds": 0.1,
                    }
                )
        self._write(path, rows, DETECTION, settings)

    def _iqr(self, path: Path, settings: dict) -> None:
        rows = []
        for point, _ in self._points(settings, settings["threat"]):
            for attribution in settings["attribution"]["points"]:
                vectors = self.random.random((IMAGES, 10))
                rows.append(
                    {
                        "id": IDS,
                        "attack_point": point,
                        "attribution_point": attribution,
                        "label": 1,
                        "prediction": 2,
                        "epsilon": np.nan,
                        "success": True,
                        "segments": 5,
                        "predicted": vectors[:, :1],
                        "probabilities": vectors,
                        "hidden": vectors,
                    }
                )
        self._write(path, rows, iqr_schema(10, 10), settings)

    def _calibrate(self, path: Path, settings: dict) -> None:
        value = {"mean": 4.0, "deviation": 1.5, "images": 100}
        store.write_json(path, value, {"settings": settings})
