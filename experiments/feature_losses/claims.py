"""What "Feature losses" says in words, computed from our results and from its own tables.

Where two accuracies are compared, they are so image by image: the difference is paired. A published
difference is that of two numbers of the same printed table.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from advdenoise import statistics
from advdenoise.graph.threats import CLEAN, NO_PURIFIER
from advdenoise.io.published import Published
from advdenoise.reporting import labels
from advdenoise.reporting.claims import Claim, Claims, Range
from advdenoise.reporting.examples import Seen, read_seen
from advdenoise.reporting.measures import chance, correct
from advdenoise.reporting.read import Results
from advdenoise.reporting.write import is_copied
from advdenoise.statistics import Estimate

from .results import HGD, MADRY, OURS, UNSECURED, Defences, Place

if TYPE_CHECKING:
    import pandas as pd

PUBLISHED = Published(Path(__file__).parent / "published")
ATTACKS = ("FGSM", "PGD")
PLAIN = "plain MSE"
# How other entries of the two attacks are told apart from the paper's.
_ITERATIONS, _TRUE = r"PGD, (\d+) iterations", "FGSM, true labels"
# The text gives no bound for "does not affect", and rounds its numbers.
_POINTS = 1.0

_UNAFFECTED = "Training on adversarial samples alone does not affect accuracy on clean samples."
_COMPARABLE = "We achieve results comparable to {}."
_ACHIEVED = "We achieve {} % accuracy on {} using a powerful attack."
_BASELINE = "The baseline architecture gives {} % accuracy on {}."
_POWERFUL = "PGD is a more powerful attack than FGSM."
_VANILLA = "Vanilla autoencoders suffer from error amplification, which feature losses prevent."
_HARD = "The loss network makes it very difficult to attack the defense end to end."
_BROKEN = "The defenses compared with have been broken by slightly modified objectives."
_GROW = "Perturbations grow when passed through a deep network."
_CLEANED = "The denoised output generates similar feature maps."
_IMPROVES = "Adversarial training improves accuracy on clean images of small data sets."
_HARDENS = "Images of PGD get more difficult to defend as the iterations proceed."
_LEAKS = "Using the true labels leads to the label leaking effect."
_CONFIDENT = "Images of all classes are classified as the target with more than {} % confidence."

# Of a data set and split: for each place its images' shares of right draws by seed and id.
Measured = dict[Place, "pd.Series"]
# From attack and defence to the accuracy in % that the paper prints for a data set.
Printed = dict[tuple[str, str], float]


def claims(predictions: Results, examples: list[Path], distances: Results) -> Claims:
    """The paper's own claims, each judged by what was measured here.

    `examples` are images under a targeted attack, as Figures 1 and 2 show them, `distances` those
    of a classifier's maps with and without an autoencoder. A claim that the results cannot decide
    says why.
    """
    defences = Defences(predictions)
    measured = _measured(predictions, defences)
    attacked = {
        where: found
        for where, found in measured.items()
        if any(place.attack != CLEAN for place in found)
    }
    level = chance(predictions)
    found = Claims()
    for where, accuracies in attacked.items():
        dataset, split = where
        told = f"{dataset}, {split}: " if len(attacked) > 1 else ""
        printed = _printed(dataset)
        for claim in (
            *_of_clean_images(accuracies),
            *_of_others(accuracies, printed),
            *_of_attacks(accuracies, printed),
            *_of_iterations(accuracies),
            *_of_labels(accuracies),
            _of_training(accuracies),
            *_of_the_loss(accuracies),
            *_of_knowledge(accuracies, 100 * level[where]),
        ):
            found.append(replace(claim, quantity=told + claim.quantity))
    found += _of_the_text(measured)
    found += _of_maps(distances)
    found += _of_confidence(read_seen(examples))
    found.notes = (
        "Differences of accuracies are in points and paired image by image. Comparable is what "
        f"differs no more than the paper's own tables where it calls results so, by {_gap():.1f} "
        "points, and so is what an attacker does who gains nothing by knowing the defence; "
        f"unaffected or achieved is what differs by less than {_POINTS:g} point.",
        f"{PLAIN}: the same autoencoder, trained on the same images without a loss network.",
        *defences.notes(),
    )
    return found


# ---------------------------------------------------------------- what was measured and printed


def _measured(predictions: Results, defences: Defences) -> dict[tuple[str, str], Measured]:
    """Of several groups of one place the first counts, as in the tables."""
    found: dict[tuple[str, str], Measured] = {}
    ours: dict[tuple, None] = {}
    groups = [(about, defences.place(about), right) for about, right in correct(predictions)]
    for about, place, right in groups:
        here = found.setdefault((about["dataset"], about["split"]), {})
        here.setdefault(place, right)
        if defences.is_plain_classifier(about) and place.attack != CLEAN:
            here.setdefault(place._replace(adaptive=True), right)
        if place.defence == OURS:
            ours[place.attack, defences.autoencoder(about)] = None
    for about, place, right in groups:
        trained = (place.attack, defences.autoencoder(about))
        if defences.compares_pixels(about) and trained in ours:
            here = found[about["dataset"], about["split"]]
            here.setdefault(place._replace(defence=PLAIN), right)
    return found


def _printed(dataset: str) -> Printed:
    """The tables' numbers for a data set, those left out that are another's."""
    name = labels.DATASETS.get(dataset)
    lines = [*PUBLISHED.lines("table1"), *PUBLISHED.lines("table2")]
    found = {}
    for line in lines:
        if line["dataset"] == name and not is_copied(line):
            attack, defence = line["row"].split(" / ")
            found[attack, defence] = float(line["value"])
    return found


def _gap() -> float:
    """The largest difference between results that the paper calls comparable, in points."""
    tables = [_printed(dataset) for dataset in labels.DATASETS]
    return max(
        printed[attack, other] - printed[attack, OURS]
        for printed in tables
        for attack in ATTACKS
        for other in (MADRY, HGD)
        if (attack, other) in printed
    )


# ---------------------------------------------------------------- the claims


def _of_clean_images(found: Measured) -> Iterator[Claim]:
    for attack in ATTACKS:
        ours = Place(CLEAN, f"{OURS} ({attack})")
        quantity = f"clean accuracy of {OURS} (trained on {attack}) - {UNSECURED}"
        claimed = Range(-_POINTS, _POINTS)
        yield _difference(_UNAFFECTED, quantity, claimed, found, ours, Place(CLEAN, UNSECURED))


def _of_others(found: Measured, printed: Printed) -> Iterator[Claim]:
    for attack in ATTACKS:
        for other in (MADRY, HGD):
            ours, theirs = Place(attack, OURS), Place(attack, other)
            quantity = f"accuracy of {OURS} - {other}, {attack}"
            sentence = _COMPARABLE.format(other)
            claim = _difference(sentence, quantity, Range(-_gap()), found, ours, theirs)
            yield replace(claim, published=_published(printed, ours, theirs))


def _of_attacks(found: Measured, printed: Printed) -> Iterator[Claim]:
    strong, weak = Place("PGD", UNSECURED), Place("FGSM", UNSECURED)
    quantity = f"accuracy of {UNSECURED}, PGD - FGSM"
    claim = _difference(_POWERFUL, quantity, Range(most=0), found, strong, weak)
    yield replace(claim, published=_published(printed, strong, weak))


def _of_iterations(measured: Measured) -> Iterator[Claim]:
    """PGD with the most iterations against the same with fewer, undefended and behind ours."""
    for defence, name in ((UNSECURED, UNSECURED), (OURS, f"{OURS} (PGD)")):
        others = [
            place
            for place in measured
            if (place.defence, place.adaptive) == (name, False)
            and re.fullmatch(_ITERATIONS, place.attack)
        ]
        if others:
            few = min(others, key=lambda place: int(re.fullmatch(_ITERATIONS, place.attack)[1]))
            quantity = f"accuracy of {defence} under PGD - under {few.attack}"
            many = Place("PGD", defence)
            yield _difference(_HARDENS, quantity, Range(most=0), measured, many, few)
        else:
            quantity = f"accuracy of {defence} under PGD - under PGD of fewer iterations"
            reason = "PGD was not run with another number of iterations"
            yield Claim(_HARDENS, quantity, Range(most=0), lacking=reason)


def _of_labels(measured: Measured) -> Iterator[Claim]:
    """FGSM that ascends the loss of true labels against that of predicted ones."""
    for defence in (UNSECURED, MADRY):
        true, predicted = Place(_TRUE, defence), Place("FGSM", defence)
        quantity = f"accuracy of {defence} under FGSM with true labels - with predicted ones"
        yield _difference(_LEAKS, quantity, Range(0), measured, true, predicted)


def _of_training(measured: Measured) -> Claim:
    robust, plain = Place(CLEAN, MADRY), Place(CLEAN, UNSECURED)
    quantity = f"clean accuracy of {MADRY} - {UNSECURED}"
    return _difference(_IMPROVES, quantity, Range(0), measured, robust, plain)


def _of_maps(distances: Results) -> Iterator[Claim]:
    """COS-D of maps, which no scale of theirs changes: along the layers, and behind ours."""
    frame, places = distances.frame, Defences(distances)
    names = ["dataset", "classifier", "threat", "attack_point"]
    attacked = frame[frame["threat"] != CLEAN]
    for values, rows in attacked.groupby(names, sort=False):
        about = dict(zip(names, values, strict=True))
        where = f"{about['dataset']}, {about['classifier']}, {places.place(_bare(about)).attack}"
        bare = _maps(rows[rows["purifier"] == NO_PURIFIER])
        grown = Claim(_GROW, f"COS-D of the last map / of the first, {where}", Range(1))
        if bare is None:
            yield replace(grown, lacking="the maps were not observed without a purifier")
            continue
        means, n = statistics.resampled_means(bare.to_numpy(), _ids(bare))
        yield replace(grown, estimate=statistics.interval_of(means[-1] / means[0], n))
        for purifier, part in rows.groupby("purifier", sort=False):
            defence = places.place(_bare(about) | {"purifier": purifier}).defence
            if purifier != NO_PURIFIER and defence.startswith(OURS):
                yield _cleaned(bare, _maps(part), f"{where}, {defence}")


def _cleaned(bare: "pd.DataFrame", purified_maps: "pd.DataFrame", where: str) -> Claim:
    """The mean COS-D over all maps behind an autoencoder beside that without."""
    claim = Claim(
        _CLEANED, f"COS-D of maps behind ours / without, mean of all, {where}", Range(most=1)
    )
    bare, purified_maps = bare.align(purified_maps, join="inner")
    if bare.empty:
        return replace(claim, lacking="the images are not the same")
    pairs = np.stack([purified_maps.mean(axis=1), bare.mean(axis=1)], axis=1)
    (purified, attacked), n = statistics.resampled_means(pairs, _ids(bare))
    return replace(claim, estimate=statistics.interval_of(purified / attacked, n))


def _maps(rows: "pd.DataFrame") -> "pd.DataFrame | None":
    """COS-D of each image (rows) and map (columns, input to output); None without rows."""
    if rows.empty:
        return None
    return rows.pivot_table(index=["seed", "id"], columns="layer_index", values="cos_d")


def _ids(maps: "pd.DataFrame") -> np.ndarray:
    return maps.index.get_level_values("id").to_numpy()


def _bare(about: dict) -> dict:
    return about | {"purifier": NO_PURIFIER, "purifier_point": "default"}


def _of_the_loss(found: Measured) -> Iterator[Claim]:
    for attack in ATTACKS:
        ours, plain = Place(attack, OURS), Place(attack, PLAIN)
        quantity = f"accuracy of {OURS} - {PLAIN}, {attack}"
        yield _difference(_VANILLA, quantity, Range(0), found, ours, plain)


def _of_knowledge(found: Measured, chance: float) -> Iterator[Claim]:
    """What an attacker gains by knowing the defence."""
    for attack in ATTACKS:
        known = Place(attack, OURS, adaptive=True)
        quantity = f"adaptive accuracy of {OURS} - its accuracy, {attack}"
        unaware = Place(attack, OURS)
        yield _difference(_HARD, quantity, Range(-_gap()), found, known, unaware)
        yield _above_chance(_HARD, Range(0), found, known, chance)
        plain = Place(attack, PLAIN, adaptive=True)
        quantity = f"adaptive accuracy of {OURS} - {PLAIN}, {attack}"
        yield _difference(_HARD, quantity, Range(0), found, known, plain)
    for attack in ATTACKS:
        for other in (MADRY, HGD):
            known = Place(attack, other, adaptive=True)
            yield _above_chance(_BROKEN, Range(most=0), found, known, chance)


def _of_the_text(measured: dict[tuple[str, str], Measured]) -> Iterator[Claim]:
    """Accuracies that the text gives for a data set, on both sides of its images."""
    for line in PUBLISHED.lines("textnumbers"):
        if line["row"] == "baseline":
            sentence = _BASELINE.format(line["value"], line["dataset"])
            for split in ("train", "test"):
                quantity = f"clean accuracy of {UNSECURED} in %, {line['dataset']}, {split}"
                place, printed = Place(CLEAN, UNSECURED), float(line["value"])
                claimed = Range(printed - _POINTS, printed + _POINTS)
                yield _accuracy(sentence, quantity, claimed, measured, line, split, place)
    for line in (*PUBLISHED.lines("table1"), *PUBLISHED.lines("table2")):
        if line["row"] == f"PGD / {OURS}":
            sentence = _ACHIEVED.format(line["value"], line["dataset"])
            place = Place("PGD", OURS)
            split = _attacked(measured, line["dataset"], place)
            quantity = f"accuracy of {OURS} in %, {line['dataset']}, PGD, {split}"
            claimed = Range(float(line["value"]) - _POINTS)
            yield _accuracy(sentence, quantity, claimed, measured, line, split, place)


def _attacked(measured: dict[tuple[str, str], Measured], printed: str, place: Place) -> str:
    """The split of a printed data set with these results: the test images, or a part of them."""
    splits = [
        split
        for (dataset, split), here in measured.items()
        if labels.DATASETS.get(dataset) == printed and place in here
    ]
    return splits[0] if splits and "test" not in splits else "test"


def _of_confidence(shown: list[Seen]) -> Iterator[Claim]:
    """The target's confidence in each figure's images, all replicates together."""
    lines = {
        line["dataset"]: line
        for line in PUBLISHED.lines("textnumbers")
        if line["column"] == "target confidence"
    }
    # The same images before several purifiers are one.
    groups: dict[tuple, dict[int, Seen]] = {}
    for seen in shown:
        if seen.target is not None:
            names = ("dataset", "classifier", "threat", "attack_point")
            where = tuple(seen.about[name] for name in names)
            groups.setdefault(where, {}).setdefault(seen.about["seed"], seen)
    for (dataset, classifier, threat, point), of_seed in groups.items():
        line = lines.get(labels.DATASETS.get(dataset))
        least = float((line or next(iter(lines.values())))["value"])
        shares = [100 * seen.seen_probabilities[:, seen.target] for seen in of_seed.values()]
        lowest = float(np.concatenate(shares).min())  # NaN where one is not finite
        first = next(iter(of_seed.values()))
        attack = labels.threat(threat, point, classifier)
        yield Claim(
            _CONFIDENT.format(f"{least:g}"),
            f"least confidence in {first.classes[first.target]} in %, {dataset}, {classifier}, "
            f"{attack}",
            Range(least),
            Estimate(lowest, lowest, lowest, sum(map(len, shares))),
            line["raw"] if line else "",
        )
    if not groups:
        yield Claim(
            _CONFIDENT.format(" or ".join(sorted({line["value"] for line in lines.values()}))),
            "least confidence in the target in %",
            Range(min(float(line["value"]) for line in lines.values())),
            lacking="the example images are under no attack with one target",
        )


# ---------------------------------------------------------------- estimates


def _difference(
    sentence: str, quantity: str, claimed: Range, found: Measured, first: Place, second: Place
) -> Claim:
    """Accuracy at the first place less that at the second, over the images that both have."""
    claim = Claim(sentence, quantity, claimed)
    for place in (first, second):
        if place not in found:
            return replace(claim, lacking=_lacking(place))
    one, other = found[first].align(found[second], join="inner")
    images = one.index.get_level_values("id").to_numpy()
    estimate = statistics.bootstrap_difference(one.to_numpy(), other.to_numpy(), images)
    lacking = "" if len(one) else "the images are not the same"
    return replace(claim, estimate=_in_points(estimate), lacking=lacking)


def _above_chance(
    sentence: str, claimed: Range, found: Measured, place: Place, chance: float
) -> Claim:
    quantity = f"adaptive accuracy of {place.defence} - chance, {place.attack}"
    claim = Claim(sentence, quantity, claimed)
    if place not in found:
        return replace(claim, lacking=_lacking(place))
    return replace(claim, estimate=_in_points(_share(found[place]), chance))


def _accuracy(
    sentence: str,
    quantity: str,
    claimed: Range,
    measured: dict[tuple[str, str], Measured],
    line: dict,
    split: str,
    place: Place,
) -> Claim:
    """An accuracy on the data set of a published line."""
    claim = Claim(sentence, quantity, claimed, published=line["value"])
    named = {labels.DATASETS.get(dataset): dataset for dataset, _ in measured}
    dataset = named.get(line["dataset"])
    if dataset is None:
        return replace(claim, lacking=f"{line['dataset']} is not among the data sets")
    if place not in measured.get((dataset, split), {}):
        return replace(claim, lacking=f"{_lacking(place)}, split {split}")
    return replace(claim, estimate=_in_points(_share(measured[dataset, split][place])))


def _lacking(place: Place) -> str:
    if place.attack == CLEAN:
        return f"{place.defence} was not judged on clean images"
    knowing = " by one who knows it" if place.adaptive else ""
    return f"{place.defence} was not attacked with {place.attack}{knowing}"


def _share(right: "pd.Series") -> Estimate:
    return statistics.wilson(right.sum(), len(right))


def _in_points(share: Estimate, less: float = 0.0) -> Estimate:
    value, low, high = (100 * bound - less for bound in share[:3])
    return Estimate(value, low, high, share.n)


def _published(printed: Printed, first: Place, second: Place) -> str:
    pair = [printed.get((place.attack, place.defence)) for place in (first, second)]
    return "" if None in pair else f"{pair[0] - pair[1]:.1f}"
