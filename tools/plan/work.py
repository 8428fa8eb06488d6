"""The work of a job, counted from its settings: passes through networks, fits, bytes.

Counts are of uses of a `Thing`, each with a unit cost measured once on a machine. No attack,
purifier or training is named here: the settings that repeat something (`steps`, `restarts`, ...)
multiply, and a component's injected parameters say what it repeats.
"""

import json
import math
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from advdenoise.attacks._kurakin import kurakin_steps
from advdenoise.graph import choices, components
from advdenoise.graph.flow import Flow
from advdenoise.graph.threats import CLEAN
from tools.plan.extents import Extents
from tools.plan.listing import PlannedJob

REPEATING = (
    *("steps", "searches", "restarts", "targets", "draws", "queries", "iterations", "candidates"),
)

# Uses of a network: a forward pass, one with the gradient of the images, that gradient in training,
# the gradient of the weights, and, once a batch, the optimiser's step.
FORWARD, GRADIENT, INNER, UPDATE = "forward", "gradient", "inner gradient", "update"
STEP = "step"
PASSING = (FORWARD, GRADIENT, INNER, UPDATE, STEP)
# Other uses: of superpixels an image, of a detector a fit on so many rows, of a script its start,
# of the disk a byte.
MAPS, FIT, START, BYTE = "maps", "fit", "start", "byte"
# Facts about things: parameters of a network, superpixels of an image.
PARAMETERS, SEGMENTS = "parameters", "segments"

_TEST_SHARE = 0.2  # of the rows of a detector
_ROW = 60  # bytes of a row of numbers and names


class Thing(NamedTuple):
    """Something with a unit cost: a component with its settings (JSON) and the size of its inputs.

    The size is the shape of images and the number of classes, or the length of a feature vector.
    """

    kind: str
    function: str
    settings: str = "{}"
    size: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        size = "x".join(map(str, self.size))
        return " ".join(filter(None, [self.kind, self.function, self.settings, size]))


class Use(NamedTuple):
    """One use of a thing; `rows` where its cost depends on them."""

    thing: Thing
    what: str
    rows: int = 0


DISK = Thing("disk", "write")
DEVICE = Thing("device", "first")  # the first use of the device in a process


class NotMeasured(Exception):
    """A thing, named by its key, whose cost or whose facts were not measured."""


# A fact about a thing; raises NotMeasured.
Facts = Callable[[Thing, str], float]


class Work(NamedTuple):
    """The number of uses in a job, and its bytes before they are compressed.

    Jobs of the same stage and the same `functions` deviate alike from their counts.
    """

    uses: Counter
    size: float
    functions: tuple[str, ...]


def repeats(kind: str, point: dict) -> int | None:
    """How often a component repeats its work: the product of its repeating settings.

    Defaults count as settings do. None without such a setting.
    """
    settings = components.signature_of(kind, point).defaults | point.get("settings", {})
    counts = [
        _number(value, point)
        for name, value in settings.items()
        if (name in REPEATING or name.endswith("_steps")) and value is not None
    ]
    return math.prod(counts) if counts else None


def _number(value, point: dict) -> int:
    if value != "kurakin":
        return int(value)
    epsilons = point.get("epsilons", {}).get("cycle") or [point["settings"]["epsilon"]]
    return max(map(kurakin_steps, epsilons))


class Counting:
    """Counts the work of jobs: one method a stage, named as it is."""

    def __init__(self, flow: Flow, extents: Extents, facts: Facts):
        self._flow, self._extents, self._facts = flow, extents, facts

    def of(self, job: PlannedJob) -> Work:
        """The work of a job. Raises NotMeasured where it depends on a fact that is not known."""
        count = getattr(self, f"_{job.stage}", None)
        if count is None:
            raise NotMeasured(f"rule {job.stage}, whose work is not counted: known once it has run")
        work = count(self.settings(job))
        always = Counter({Use(Thing("scripts", job.stage), START): 1})
        always[Use(DISK, BYTE)] = round(work.size)
        if job.gpus:
            always[Use(DEVICE, START)] = 1
        return work._replace(uses=work.uses + always)

    def settings(self, job: PlannedJob) -> dict:
        """The settings of the job."""
        names = job.wildcards
        if job.rule != job.stage:
            names = {"experiment": job.rule.removeprefix(f"{job.stage}_")}
        return choices.at_most(self._flow.job(job.stage, names).settings)

    # ------------------------------------------------------------ one method per stage

    def _images(self, s: dict) -> Work:
        extent = self._extents.of(s["dataset"])
        masks = math.prod(extent.shape[1:]) if extent.dense else 0
        size = self._images_of(s) * (self._pixels(s) + masks)
        return Work(Counter(), size, (s["entry"]["function"],))

    def _train_classifier(self, s: dict) -> Work:
        return self._train("classifiers", s["classifier"], s, held_out=True)

    def _train_denoiser(self, s: dict) -> Work:
        work = self._train("denoisers", s["denoiser"], s, held_out=not s.get("threats"))
        return work._replace(uses=work.uses + self._guide(s))

    def _guide(self, s: dict) -> Counter:
        """Passes of the network in the loss: of denoised images, and once of the clean ones."""
        loop = s["denoiser"].get("training")
        if "network" not in s or not (epochs := _epochs(loop)):
            return Counter()
        images = self._extents.size(s["dataset"], loop.get("split", "train"))
        held_out = 0 if s["threats"] else self._held_out(s)
        guide = ("classifiers", s["network"], s)
        forward = self._passes(*guide, number=epochs * held_out + images + held_out)
        return forward + self._passes(*guide, GRADIENT, epochs * images)

    def _calibrate(self, s: dict) -> Work:
        images = self._extents.size(s["dataset"], "held_out")
        return Work(self._passes("denoisers", s["denoiser"], s, number=images), 0, ())

    def _attack(self, s: dict) -> Work:
        images, points = self._images_of(s), len(s["attack"]["points"])
        size = 4 * images * self._pixels(s) * points
        return Work(self._perturb(s, images), size, _functions(s["attack"]))

    def _choose(self, s: dict) -> Work:
        images = min(s["images"], self._images_of(s))
        uses: Counter = Counter()
        if s["kind"] == "purifiers":
            uses += self._perturb({**s, "purifier": None, "denoiser": None}, images)
        for choice in s["choices"]:
            uses += _times(self._try(s, choice), images)
        return Work(uses, 0, _functions(s["attack"]))

    def _try(self, s: dict, choice: dict) -> Counter:
        """What all candidates of a setting take of an image."""
        kind = s["kind"].removesuffix("s")
        point, candidates = s[kind]["points"][choice["point"]], choice["candidates"]
        tried = [
            {**point, "settings": point["settings"] | {choice["setting"]: value}}
            for value in candidates
        ]
        if kind == "attack":
            if choice["setting"] == "steps" and "callback" in _injected("attacks", point):
                tried = [max(tried, key=lambda point: point["settings"]["steps"])]
            entries = [{**s["attack"], "points": {"tried": one}} for one in tried]
            return sum((self._perturb({**s, "attack": entry}, 1) for entry in entries), Counter())
        classify = self._passes("classifiers", s["victim"], s)
        entries = [{**s["purifier"], "points": {"tried": one}} for one in tried]
        purified = [self._purify({**s, "purifier": entry}) for entry in entries]
        return _times(sum(purified, _times(classify, len(tried))), 2)  # clean and attacked

    def _perturb(self, s: dict, images: int) -> Counter:
        """The uses of an attack on some images; with a stop rule the largest possible number."""
        entry, victim = s["attack"], ("classifiers", s["victim"], s)
        source = ("classifiers", s.get("surrogate", s["victim"]), s)
        predict = self._passes(*victim) + self._purify(s)
        uses: Counter = Counter()
        for point in entry["points"].values():
            injected = {*_injected("attacks", point)}
            once = Counter()
            if "predict" in injected:
                once += self._passes(*source, GRADIENT)
                other = {"purifier": s.get("through"), "denoiser": s.get("through_denoiser")}
                once += self._purify(s, entry.get("through", "full"))
                once += self._purify({**s, **other}, "full")
            if "victim" in injected:
                once += predict
            if "classifier" in injected:
                once += self._passes(*victim, GRADIENT)
            if {"denoise", "error"} & injected and s["denoiser"]:
                once += self._passes("denoisers", s["denoiser"], s, GRADIENT)
            uses += _times(once, images * (repeats("attacks", point) or 1) * _draws(s))
            # The result is predicted, and labels may be predicted before.
            labelled = entry.get("labels") in ("predicted", "random_target")
            uses += _times(predict, images * (1 + labelled))
        return uses

    def _evaluate(self, s: dict) -> Work:
        purifier, denoiser = s["purifier"], s["denoiser"]
        uses, predicted = Counter(), 0
        for name, point in purifier["points"].items():
            once = self._purify({**s, "purifier": {"points": {name: point}}})
            once += self._passes("classifiers", s["classifier"], s)
            if denoiser:  # the reconstruction error before and after
                once += self._passes("denoisers", denoiser, s, number=2)
            draws = purifier.get("draws", 1) if "noise" in _injected("purifiers", point) else 1
            uses += _times(once, draws)
            predicted += draws
        count = self._images_of(s) * self._versions(s, s["threats"])
        extent = self._extents.of(s["dataset"])
        row = _ROW + (4 * extent.classes**2 if extent.dense else 0)  # a confusion matrix
        return Work(_times(uses, count), row * count * predicted, _functions(purifier))

    def _distances(self, s: dict) -> Work:
        images = min(s["images"], self._extents.size(s["dataset"], s["split"]))
        forward = self._passes("classifiers", s["classifier"], s)
        purifiers = {entry["name"]: entry for entry in s["purifiers"]}
        uses, maps = forward.copy(), 0
        for threat, name in s["pairs"]:
            entry = purifiers[name]
            versions, points = self._versions(s, [threat]), len(entry["points"])
            purify = self._purify({**s, "purifier": entry, "denoiser": entry["denoiser_entry"]})
            uses += _times(purify + _times(forward, points), versions)
            maps += versions * points
        return Work(_times(uses, images), _ROW * images * maps * len(s["taps"]), ())

    def _iqr(self, s: dict) -> Work:
        extent, entry = self._extents.of(s["dataset"]), s["attribution"]
        count = self._images_of(s) * self._versions(s, [s["threat"]])
        maps, passes = self._leave_one_out(s)
        row = _ROW + 4 * (2 * extent.classes + len(s["taps"]) * s["per_layer"])
        size = row * count * len(entry["points"])
        return Work(_times(maps + passes, count), size, _functions(entry))

    def _cost(self, s: dict) -> Work:
        maps, passes = self._leave_one_out(s)
        ways = 3 if s["taps"] else 2  # representations, each alone
        once = _times(maps, 1 + s["repetitions"])
        once += _times(passes, ways * (1 + 2 * s["repetitions"]))  # with and without the reduction
        return Work(_times(once, s["images"]), 0, _functions(s["attribution"]))

    def _detect(self, s: dict) -> Work:
        classes = self._extents.of(s["dataset"]).classes
        hidden = self._flow.config["hidden"]
        nodes = len(hidden["taps"].get(s["classifier"]["name"], [])) * hidden["per_layer"]
        widths = {"predicted": 1, "probabilities": classes, "hidden": classes + nodes}
        names = [r for r in s["detection"]["representations"] if r != "hidden" or s["has_hidden"]]
        rows = 2 * self._images_of(s)
        fits = self._versions(s, s["threats"]) * len(s["attribution"]["points"])
        fits *= len(s["detection"]["protocols"]) * s["detection"]["split_seeds"]
        train = round(rows * (1 - _TEST_SHARE))
        uses = Counter(
            {
                Use(_thing("detectors", point, (widths[name],)), FIT, train): fits
                for point in s["detector"]["points"].values()
                for name in names
            }
        )
        scored = fits * len(names) * len(s["detector"]["points"]) * (rows - train)
        if s["detection"].get("transfer"):  # each scores every attack's rows
            scored *= self._versions(s, s["threats"])
        return Work(uses, _ROW * scored, _functions(s["detector"]))

    def _examples(self, s: dict) -> Work:
        attacked = s["images"] * self._versions(s, [s["threat"]])
        purified = attacked * len(s["purifier"]["points"])
        # Maps are of clean, attacked and purified images.
        passes = attacked + purified * (4 if s["maps"] else 1)
        uses = self._passes("classifiers", s["classifier"], s, number=passes)
        uses += _times(self._purify(s), 2 * attacked)
        return Work(uses, 8 * self._pixels(s) * purified, ())

    def _export(self, s: dict) -> Work:
        count = self._images_of(s) * self._versions(s, [s["threat"]])
        return Work(Counter(), 4 * self._pixels(s) * count, ())

    def _table(self, s: dict) -> Work:
        """Little more than the start of its process."""
        return Work(Counter(), 0, ())

    _rows = _figures = _table

    # ------------------------------------------------------------ helpers

    def _train(self, kind: str, entry: dict, s: dict, held_out: bool) -> Work:
        network = self._network(kind, entry, s)
        size = 4 * self._facts(network, PARAMETERS)
        if "weights" in entry:
            return Work(Counter(), size, ())
        loop = entry["training"]
        s = s | {"dataset": loop.get("dataset", s["dataset"])}
        images = self._extents.size(s["dataset"], loop.get("split", "train"))
        inner = repeats("training", loop) or 0
        steps = math.ceil(images / loop["batch"])
        uses = Counter({Use(network, UPDATE): images, Use(network, STEP): steps})
        uses[Use(network, INNER)] += inner * images
        if held_out:
            count = self._held_out(s)
            uses += Counter({Use(network, FORWARD): count, Use(network, INNER): inner * count})
        if stop := loop.get("stop"):  # measured after each epoch, of which all are counted
            on_train = stop["measured_on"] == "train"
            uses[Use(network, FORWARD)] += images if on_train else self._held_out(s)
        return Work(_times(+uses, _epochs(loop)), size, (loop["function"],))

    def _leave_one_out(self, s: dict) -> tuple[Counter, Counter]:
        """Superpixel maps of an image, and passes of it whole and without each superpixel."""
        shape, entry = self._extents.of(s["dataset"]).shape, s["attribution"]
        network = self._network("classifiers", s["classifier"], s)
        maps: Counter = Counter()
        passes: Counter = Counter()
        for point in entry["points"].values():
            thing = _thing("attributions", point, shape)
            maps[Use(thing, MAPS)] += 1
            channels = shape[0] if entry.get("channels") == "apart" else 1
            masked = self._facts(thing, SEGMENTS) * channels
            passes[Use(network, FORWARD)] += round(masked + 1)
        return maps, passes

    def _purify(self, s: dict, gradient: str | None = None) -> Counter:
        """Passes of the denoiser while an image is purified, over all points of the purifier.

        `gradient` is an attack's `through`: a plain pass costs one pass with gradient, an inner
        gradient four and a half (measured: `bench.purifiers`).
        """
        purifier, denoiser = s["purifier"], s["denoiser"]
        if not purifier or not denoiser:
            return Counter()
        network = self._network("denoisers", denoiser, s)
        if gradient == "denoiser":
            return Counter({Use(network, GRADIENT): 1})
        uses: Counter = Counter()
        for point in purifier["points"].values():
            steps = repeats("purifiers", point)
            if gradient == "full":
                uses[Use(network, GRADIENT)] += 9 * steps // 2 if steps else 1
            else:
                uses[Use(network, GRADIENT if steps else FORWARD)] += steps or 1
        return uses

    def _versions(self, s: dict, names: list[str]) -> int:
        """The number of versions of an image under these threats: one for each point."""
        attacks = [name.partition("@")[0] for name in names]
        return sum(1 if a == CLEAN else len(s["attacks"][a]["points"]) for a in attacks)

    def _held_out(self, s: dict) -> int:
        """The number of images held out of training."""
        splits = self._flow.config["datasets"][s["dataset"]]["splits"]
        return self._extents.size(s["dataset"], "held_out") if "held_out" in splits else 0

    def _images_of(self, s: dict) -> int:
        return self._extents.size(s["dataset"], s["split"])

    def _pixels(self, s: dict) -> int:
        return math.prod(self._extents.of(s["dataset"]).shape)

    def _network(self, kind: str, entry: dict, s: dict) -> Thing:
        extent = self._extents.of(s["dataset"])
        return _thing(kind, entry, (*extent.shape, extent.classes))

    def _passes(self, kind: str, entry: dict, s: dict, what: str = FORWARD, number=1) -> Counter:
        """Uses of a network."""
        return Counter({Use(self._network(kind, entry, s), what): number})


def _thing(kind: str, entry: dict, size: tuple[int, ...]) -> Thing:
    settings = json.dumps(entry.get("settings", {}), sort_keys=True)
    return Thing(kind, entry["function"], settings, tuple(size))


def _epochs(loop: dict) -> int:
    """Of all phases of a training."""
    return sum(phase["epochs"] for phase in (loop, *loop.get("phases", ())))


def _draws(s: dict) -> int:
    """The draws that an attack averages its gradient over; 1 without a random purifier."""
    points = s["purifier"]["points"].values() if s["purifier"] else ()
    drawn = any("noise" in _injected("purifiers", point) for point in points)
    return s["attack"].get("draws", 1) if drawn else 1


def _injected(kind: str, point: dict) -> tuple[str, ...]:
    return components.signature_of(kind, point).injected


def _functions(entry: dict) -> tuple[str, ...]:
    return tuple(sorted({point["function"] for point in entry["points"].values()}))


def _times(uses: Counter, number: int) -> Counter:
    return Counter({use: count * number for use, count in uses.items()})
