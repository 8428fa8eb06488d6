"""What a job has to do, counted from its settings: passes through networks, fits, bytes.

A count is of uses of a `Thing`, each of which has a unit cost, measured once on a machine. Nothing
here knows an attack, a purifier or a training by name: the settings that say how often something is
repeated (`steps`, `restarts`, ...) multiply, and what a component is handed says what it repeats.
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

REPEATING = ("steps", "searches", "restarts", "draws", "queries", "iterations", "candidates")

# Uses of a network: a pass through what stands in inference, the same with the gradient of the
# images, that gradient taken of a network in training, the gradient of its weights, and, once a
# batch, the optimiser's step.
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
    """What has a cost: a component with its settings (JSON) and the size of what it works on.

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
DEVICE = Thing("device", "first")  # what the first use of the device costs a process


class NotMeasured(Exception):
    """A thing, named by its key, whose cost or whose facts were not measured."""


# A fact about a thing; raises NotMeasured.
Facts = Callable[[Thing, str], float]


class Work(NamedTuple):
    """How often a job uses what, how many bytes it writes before they are compressed.

    Jobs of the same stage and the same `functions` deviate alike from what is counted.
    """

    uses: Counter
    size: float
    functions: tuple[str, ...]


def repeats(kind: str, point: dict) -> int | None:
    """How often a component does over what it does: the product of all settings that say so.

    Defaults count as settings do. None where there is no such setting.
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
        """The work of a job. Raises NotMeasured where it hangs on a fact that is not known."""
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
        """The settings that the job is handed."""
        own = (
            {} if job.rule == job.stage else {"experiment": job.rule.removeprefix(f"{job.stage}_")}
        )
        return choices.at_most(self._flow.job(job.stage, own or job.wildcards).settings)

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
        return work._replace(uses=work.uses + self._look(s))

    def _look(self, s: dict) -> Counter:
        """Passes of the network that the step looks at, through denoised and clean images.

        Those of the clean images are taken once, as far as memory allows.
        """
        loop = s["denoiser"].get("training")
        if "network" not in s or not (epochs := _epochs(loop)):
            return Counter()
        network = self._network("classifiers", s["network"], s)
        images = self._extents.size(s["dataset"], loop.get("split", "train"))
        judged = 0 if s["threats"] else self._held_out(s)
        return Counter(
            {
                Use(network, GRADIENT): epochs * images,
                Use(network, FORWARD): epochs * judged + images + judged,
            }
        )

    def _calibrate(self, s: dict) -> Work:
        network = self._network("denoisers", s["denoiser"], s)
        images = self._extents.size(s["dataset"], "held_out")
        return Work(Counter({Use(network, FORWARD): images}), 0, ())

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
            if choice["setting"] == "steps" and "callback" in _handed("attacks", point):
                tried = [max(tried, key=lambda point: point["settings"]["steps"])]
            entries = [{**s["attack"], "points": {"tried": one}} for one in tried]
            return sum((self._perturb({**s, "attack": entry}, 1) for entry in entries), Counter())
        classify = Counter({Use(self._network("classifiers", s["victim"], s), FORWARD): 1})
        entries = [{**s["purifier"], "points": {"tried": one}} for one in tried]
        purified = [self._purify({**s, "purifier": entry}) for entry in entries]
        return _times(sum(purified, _times(classify, len(tried))), 2)  # clean and attacked

    def _perturb(self, s: dict, images: int) -> Counter:
        """What an attack on so many images takes; of one with a stop rule the most it can take."""
        entry = s["attack"]
        victim = self._network("classifiers", s["victim"], s)
        source = self._network("classifiers", s["surrogate"], s) if "surrogate" in s else victim
        through = entry.get("through", "full")
        uses: Counter = Counter()
        for point in entry["points"].values():
            handed = _handed("attacks", point)
            taken = (repeats("attacks", point) or 1) * _draws(s)
            once = Counter()
            if "predict" in handed:
                once += Counter({Use(source, GRADIENT): 1}) + self._purify(s, through)
            if "victim" in handed:
                once += Counter({Use(victim, FORWARD): 1}) + self._purify(s)
            if "classifier" in handed:
                once[Use(victim, GRADIENT)] += 1
            if {"denoise", "error"} & set(handed) and s["denoiser"]:
                once[Use(self._network("denoisers", s["denoiser"], s), GRADIENT)] += 1
            uses += _times(once, images * taken)
            # What is returned is judged, and labels may be predicted before.
            looks = 1 + (entry.get("labels") in ("predicted", "random_target"))
            seen = Counter({Use(victim, FORWARD): 1}) + self._purify(s)
            uses += _times(seen, images * looks)
        return uses

    def _evaluate(self, s: dict) -> Work:
        purifier, denoiser = s["purifier"], s["denoiser"]
        uses, judged = Counter(), 0
        for name, point in purifier["points"].items():
            once = self._purify({**s, "purifier": {"points": {name: point}}})
            once[Use(self._network("classifiers", s["classifier"], s), FORWARD)] += 1
            if denoiser:  # the reconstruction error before and after
                once[Use(self._network("denoisers", denoiser, s), FORWARD)] += 2
            draws = purifier.get("draws", 1) if "noise" in _handed("purifiers", point) else 1
            uses += _times(once, draws)
            judged += draws
        count = self._images_of(s) * self._met(s, s["threats"])
        extent = self._extents.of(s["dataset"])
        row = _ROW + (4 * extent.classes**2 if extent.dense else 0)  # a confusion matrix
        return Work(_times(uses, count), row * count * judged, _functions(purifier))

    def _distances(self, s: dict) -> Work:
        images = min(s["images"], self._extents.size(s["dataset"], s["split"]))
        forward = Counter({Use(self._network("classifiers", s["classifier"], s), FORWARD): 1})
        purifiers = {entry["name"]: entry for entry in s["purifiers"]}
        uses, maps = forward.copy(), 0
        for threat, name in s["pairs"]:
            entry = purifiers[name]
            met, points = self._met(s, [threat]), len(entry["points"])
            purify = self._purify({**s, "purifier": entry, "denoiser": entry["denoiser_entry"]})
            uses += _times(purify + _times(forward, points), met)
            maps += met * points
        return Work(_times(uses, images), _ROW * images * maps * len(s["taps"]), ())

    def _iqr(self, s: dict) -> Work:
        extent, entry = self._extents.of(s["dataset"]), s["attribution"]
        count = self._images_of(s) * self._met(s, [s["threat"]])
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
        asked = [r for r in s["detection"]["representations"] if r != "hidden" or s["has_hidden"]]
        rows = 2 * self._images_of(s)
        fits = self._met(s, s["threats"]) * len(s["attribution"]["points"])
        fits *= len(s["detection"]["protocols"]) * s["detection"]["split_seeds"]
        train = round(rows * (1 - _TEST_SHARE))
        uses = Counter(
            {
                Use(_thing("detectors", point, (widths[name],)), FIT, train): fits
                for point in s["detector"]["points"].values()
                for name in asked
            }
        )
        scored = fits * len(asked) * len(s["detector"]["points"]) * (rows - train)
        if s["detection"].get("transfer"):  # each scores every attack's rows
            scored *= self._met(s, s["threats"])
        return Work(uses, _ROW * scored, _functions(s["detector"]))

    def _examples(self, s: dict) -> Work:
        met = s["images"] * self._met(s, [s["threat"]])
        shown = met * len(s["purifier"]["points"])
        passes = met + shown * (4 if s["maps"] else 1)  # maps: of clean, seen and purified images
        uses = Counter({Use(self._network("classifiers", s["classifier"], s), FORWARD): passes})
        uses += _times(self._purify(s), 2 * met)
        return Work(uses, 8 * self._pixels(s) * shown, ())

    def _export(self, s: dict) -> Work:
        count = self._images_of(s) * self._met(s, [s["threat"]])
        return Work(Counter(), 4 * self._pixels(s) * count, ())

    def _table(self, s: dict) -> Work:
        return Work(Counter(), 0, ())

    def _rows(self, s: dict) -> Work:
        return Work(Counter(), 0, ())

    def _figures(self, s: dict) -> Work:
        return Work(Counter(), 0, ())

    # ------------------------------------------------------------ what methods share

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
            judged = self._held_out(s)
            uses += Counter({Use(network, FORWARD): judged, Use(network, INNER): inner * judged})
        if stop := loop.get(
            "stop"
        ):  # looked at after each epoch; how soon it is reached is not known
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
            masked = self._facts(thing, SEGMENTS) * (shape[0] if _apart(entry) else 1)
            passes[Use(network, FORWARD)] += round(masked + 1)
        return maps, passes

    def _purify(self, s: dict, gradient: str | None = None) -> Counter:
        """Passes of the denoiser while an image is purified, over all points of the purifier.

        `gradient` is how an attack goes through it: through a plain pass costs one pass, through an
        inner gradient four and a half (measured: `bench.purifiers`), one that goes by costs none.
        """
        purifier, denoiser = s["purifier"], s["denoiser"]
        if not purifier or not denoiser:
            return Counter()
        network = self._network("denoisers", denoiser, s)
        if gradient == "denoiser":
            return Counter({Use(network, GRADIENT): 1})
        uses: Counter = Counter()
        for point in purifier["points"].values():
            taken = repeats("purifiers", point)
            if gradient == "full":
                uses[Use(network, GRADIENT)] += 9 * taken // 2 if taken else 1
            else:
                uses[Use(network, GRADIENT if taken else FORWARD)] += taken or 1
        return uses

    def _met(self, s: dict, names: list[str]) -> int:
        """How many versions of an image these threats are: one for each point of an attack."""
        attacks = [name.partition("@")[0] for name in names]
        return sum(1 if a == CLEAN else len(s["attacks"][a]["points"]) for a in attacks)

    def _held_out(self, s: dict) -> int:
        """How many images are held out of training."""
        held = "held_out" in self._flow.config["datasets"][s["dataset"]]["splits"]
        return self._extents.size(s["dataset"], "held_out") if held else 0

    def _images_of(self, s: dict) -> int:
        return self._extents.size(s["dataset"], s["split"])

    def _pixels(self, s: dict) -> int:
        return math.prod(self._extents.of(s["dataset"]).shape)

    def _network(self, kind: str, entry: dict, s: dict) -> Thing:
        extent = self._extents.of(s["dataset"])
        return _thing(kind, entry, (*extent.shape, extent.classes))


def _thing(kind: str, entry: dict, size: tuple[int, ...]) -> Thing:
    settings = json.dumps(entry.get("settings", {}), sort_keys=True)
    return Thing(kind, entry["function"], settings, tuple(size))


def _epochs(loop: dict) -> int:
    """Of all phases of a training."""
    return sum(phase["epochs"] for phase in (loop, *loop.get("phases", ())))


def _draws(s: dict) -> int:
    """Over how many draws an attack takes its gradient; 1 behind what draws nothing."""
    points = s["purifier"]["points"].values() if s["purifier"] else ()
    drawn = any("noise" in _handed("purifiers", point) for point in points)
    return s["attack"].get("draws", 1) if drawn else 1


def _handed(kind: str, point: dict) -> tuple[str, ...]:
    return components.signature_of(kind, point).injected


def _apart(attribution: dict) -> bool:
    """Whether each channel of a superpixel is masked by itself."""
    return attribution.get("channels") == "apart"


def _functions(entry: dict) -> tuple[str, ...]:
    return tuple(sorted({point["function"] for point in entry["points"].values()}))


def _times(uses: Counter, number: int) -> Counter:
    return Counter({use: count * number for use, count in uses.items()})
