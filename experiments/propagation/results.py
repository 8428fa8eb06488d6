"""The set, denoiser and network of "propagation" that a result belongs to, and means over images.

Means that are compared share their resamples: an array [1 + resamples] holds the mean over all
images and those over resampled ones, and a function of several means is computed elementwise.
"""

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from advdenoise import statistics
from advdenoise.graph.threats import CLEAN, parse
from advdenoise.reporting import labels
from advdenoise.reporting.read import Results

from .labels import DENOISERS, LABELS

if TYPE_CHECKING:
    import pandas as pd

SETS = tuple(LABELS.sets.values())
ALL = "all sets"
NONE, FN, UN = "w/o DN", "w/ FN", "w/ UN"
_SETTINGS = {"FusionNet": FN, "U-Net": UN}
MEASURES = {"ne_d": "NE-D", "ne_d_sqrt": "NE-D/sqrt(n)", "cos_d": "COS-D"}
PIXELS = 255**2  # squared differences are printed on the scale 0..255
# What identifies a denoised image, whichever classifier predicts it.
IMAGE = ["dataset", "split", "seed", "threat", "attack_point", "purifier", "purifier_point", "id"]
# The layers that the last is compared with: [layers, resamples] -> [resamples].
EARLIER = {
    "the layer before": lambda values: values[-1],
    "the mean of all before": lambda values: values.mean(axis=0),
}
_NAMES = ["dataset", "split", "classifier", "threat", "attack_point", "purifier", "purifier_point"]


class LabelAssignment(labels.LabelAssignment):
    """Labels the set, the denoiser and the network of each group of results.

    A set is identified by its attack's method and by whether the victim gives the gradient too (v1)
    or another network does (v2). Of several entries that a printed name fits the first has it; the
    others have their own, as has what no printed name fits.
    """

    def adversarial_set(self, about: dict) -> str:
        """The set's printed name, `clean` of clean images."""
        threat, point = parse(about["threat"]), about["attack_point"]
        if threat.is_clean:
            return CLEAN
        own = labels.threat(about["threat"], point, about["classifier"])
        entry = self._results.attack(threat.attack)
        printed = LABELS.adversarial_set(entry, about["threat"], point)
        if printed is None or threat.purifier is not None:
            return own
        where = (about["dataset"], about["classifier"])
        return self.assign(printed, own, f"{threat} {point}", *where)

    def surrogate(self, about: dict) -> str:
        """The name of the classifier that gives the gradient."""
        victim = parse(about["threat"]).victim
        return self._results.attack(about["threat"]).get("surrogate", victim)

    def setting(self, about: dict) -> str:
        """`w/o DN`, `w/ FN`, `w/ UN`, or `w/` and a purifier's own name."""
        own, function = labels.purifier(about), self.function(about)
        if function == "basic.none":
            return NONE
        if function != "basic.direct":
            return f"w/ {own}"
        denoiser = self.denoiser_entry(about)
        printed = _SETTINGS.get(DENOISERS.get(denoiser["function"]))
        return self.assign(printed, own, own, about["dataset"]) if printed else f"w/ {own}"

    def network(self, about: dict) -> str:
        """The classifier's printed name."""
        name = about["classifier"]
        printed = LABELS.classifier(self._results.entry("classifier", name))
        return self.assign(printed, name, name, about["dataset"], about["split"])

    def labelled(self) -> "pd.DataFrame":
        """The rows with their `network`, `set` and `setting`."""
        import pandas as pd

        labels = {"network": self.network, "set": self.adversarial_set, "setting": self.setting}
        groups = self._results.distinct(_NAMES)
        columns = {name: list(map(label, groups)) for name, label in labels.items()}
        return self._results.frame.merge(pd.DataFrame(groups).assign(**columns), on=_NAMES)


class Means(NamedTuple):
    """Means over the same images by any key: arrays [1 + resamples]; `ids` are of the images."""

    values: dict[tuple, np.ndarray]
    ids: tuple

    def estimate(self, values: np.ndarray) -> statistics.Estimate:
        """The estimate of a function [1 + resamples] of some of the means."""
        return statistics.interval_of(values, len({image for _, image in self.ids}))

    def over(self, keys: Iterable[tuple]) -> np.ndarray:
        """The mean of several means."""
        return np.mean([self.values[key] for key in keys], axis=0)


def means(frame: "pd.DataFrame", columns: list[str], value: str) -> Means:
    """Means of `value` for each combination of `columns`, over the images that all of them have.

    Frames with equal `ids` share their resamples, so that their means may be combined. A value that
    is not finite makes the mean NaN; its image is not left out.
    """
    frame = frame.assign(**{value: frame[value].fillna(math.inf)})
    wide = frame.pivot_table(index=["seed", "id"], columns=columns, values=value, sort=False)
    wide = wide.dropna()
    ids = wide.index.get_level_values("id")
    if wide.empty:
        return Means({}, ())
    with np.errstate(invalid="ignore"):
        values, _ = statistics.resampled_means(wide.to_numpy(float), ids.to_numpy())
    values[~np.isfinite(values[:, 0])] = np.nan
    return Means(dict(zip(wide.columns, values, strict=True)), tuple(sorted(wide.index)))


class Curves(NamedTuple):
    """Mean distances of one network, by measure, set, setting and layer's index."""

    means: Means
    layers: tuple[int, ...]
    sets: tuple[str, ...]
    settings: tuple[str, ...]

    def at(self, measure: str, layer: int, setting: str, sets: Iterable[str] = ()) -> np.ndarray:
        """The mean over `sets`, by default all."""
        return self.means.over((measure, one, setting, layer) for one in tuple(sets) or self.sets)

    @property
    def last(self) -> int:
        return self.layers[-1]

    @property
    def before(self) -> int:
        """The layer before the last."""
        return self.layers[-2]

    def earlier(self, measure: str, setting: str, sets: Iterable[str] = ()) -> np.ndarray:
        """The means of all layers but the last: [layers - 1, 1 + resamples]."""
        sets = tuple(sets)
        return np.stack([self.at(measure, layer, setting, sets) for layer in self.layers[:-1]])


def curves(distances: Results) -> dict[tuple[str, str, str], Curves]:
    """The curves of each data set, split and network, over the printed sets in its results.

    A setting without results on all of these sets is left out.
    """
    frame = LabelAssignment(distances).labelled()
    frame = frame[frame["set"].isin(SETS)]
    long = frame.melt(
        id_vars=["dataset", "split", "network", "seed", "id", "set", "setting", "layer_index"],
        value_vars=list(MEASURES),
        var_name="measure",
    )
    curves = {}
    for key, rows in long.groupby(["dataset", "split", "network"], sort=False):
        sets = tuple(name for name in SETS if (rows["set"] == name).any())
        counts = rows.groupby("setting", sort=False)["set"].nunique()
        settings = tuple(counts.index[counts == len(sets)])
        rows = rows[rows["setting"].isin(settings)]
        layers = tuple(sorted(rows["layer_index"].unique()))
        if len(layers) > 1:
            values = means(rows, ["measure", "set", "setting", "layer_index"], "value")
            curves[key] = Curves(values, layers, sets, settings)
    return curves


def jump(
    curves: Curves, measure: str, setting: str, earlier: Callable, sets: Iterable[str] = ()
) -> np.ndarray:
    """The ratio of a distance at the last layer to that at the `earlier` ones."""
    last = curves.at(measure, curves.last, setting, sets)
    return statistics.ratio(last, earlier(curves.earlier(measure, setting, sets)))


def share(by_n: np.ndarray, by_root: np.ndarray) -> np.ndarray:
    """The share of the logarithm of a jump by n that the jump by the root of n does not have.

    NaN where there is no jump.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(by_n > 1, 1 - np.log(by_root) / np.log(by_n), np.nan)
