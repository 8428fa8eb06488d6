"""The claims that "Feature losses" makes in words, computed from our results and its own tables.

Differences of accuracies are paired by image. A published difference is that of two numbers of the
same printed table.
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
from advdenoise.reporting.claims import OTHER_IMAGES, Claim, Claims, Range, paired_difference
from advdenoise.reporting.examples import Examples, read_examples
from advdenoise.reporting.measures import chance, correct_shares
from advdenoise.reporting.read import Results, iter_groups
from advdenoise.reporting.write import is_copied
from advdenoise.statistics import Estimate

from .results import HGD, MADRY, OURS, UNSECURED, Case, LabelAssignment

if TYPE_CHECKING:
    import pandas as pd

PUBLISHED = Published(Path(__file__).parent / "published")
ATTACKS = ("FGSM", "PGD")
PLAIN = "plain MSE"
# The names of other entries of the two attacks than the paper's.
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

# Of each case the share of correct draws of its images, by seed and id, on a data set and split.
Measured = dict[Case, "pd.Series"]
# The printed accuracies in % on a data set, by attack and defence.
Printed = dict[tuple[str, str], float]


def claims(predictions: Results, examples: list[Path], distances: Results) -> Claims:
    """The paper's own claims, each judged by what was measured here.

    `examples` are images under a targeted attack, as Figures 1 and 2 show them, `distances` those
    of a classifier's maps with and without an autoencoder. A claim that the results cannot decide
    says why.
    """
    labeler = LabelAssignment(predictions)
    measured = _measured(predictions, labeler)
    attacked = {
        where: accuracies
        for where, accuracies in measured.items()
        if any(case.attack != CLEAN for case in accuracies)
    }
    level = chance(predictions)
    claims = Claims()
    for where, accuracies in attacked.items():
        printed = _printed(where[0])
        claims.add(
            f"{', '.join(where)}: " if len(attacked) > 1 else "",
            (
                *_of_clean_images(accuracies),
                *_of_others(accuracies, printed),
                *_of_attacks(accuracies, printed),
                *_of_iterations(accuracies),
                *_of_labels(accuracies),
                _of_training(accuracies),
                *_of_the_loss(accuracies),
                *_of_knowledge(accuracies, 100 * level[where]),
            ),
        )
    claims += _of_the_text(measured)
    claims += _of_maps(distances)
    claims += _of_confidence(read_examples(examples))
    claims.notes = (
        "Differences of accuracies are in points and paired image by image. Comparable is what "
        f"differs no more than the paper's own tables where it calls results so, by {_gap():.1f} "
        "points, and so is what an attacker does who gains nothing by knowing the defence; "
        f"unaffected or achieved is what differs by less than {_POINTS:g} point.",
        f"{PLAIN}: the same autoencoder, trained on the same images without a loss network.",
        *labeler.notes(),
    )
    return claims


# ---------------------------------------------------------------- measured and printed accuracies


def _measured(predictions: Results, labeler: LabelAssignment) -> dict[tuple[str, str], Measured]:
    """Of several groups of one case the first counts, as in the tables."""
    measured: dict[tuple[str, str], Measured] = {}
    ours: set[tuple] = set()
    groups = [(about, labeler.case(about), shares) for about, shares in correct_shares(predictions)]
    for about, case, shares in groups:
        here = measured.setdefault((about["dataset"], about["split"]), {})
        here.setdefault(case, shares)
        if labeler.is_plain_classifier(about) and case.attack != CLEAN:
            here.setdefault(case._replace(adaptive=True), shares)
        if case.defence == OURS:
            ours.add((case.attack, labeler.autoencoder(about)))
    for about, case, shares in groups:
        if labeler.compares_pixels(about) and (case.attack, labeler.autoencoder(about)) in ours:
            here = measured[about["dataset"], about["split"]]
            here.setdefault(case._replace(defence=PLAIN), shares)
    return measured


def _printed(dataset: str) -> Printed:
    """The tables' numbers for a data set, those left out that are another's."""
    name = labels.DATASETS.get(dataset)
    lines = [*PUBLISHED.lines("table1"), *PUBLISHED.lines("table2")]
    return {
        tuple(line["row"].split(" / ")): float(line["value"])
        for line in lines
        if line["dataset"] == name and not is_copied(line)
    }


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


def _of_clean_images(measured: Measured) -> Iterator[Claim]:
    for attack in ATTACKS:
        ours = Case(CLEAN, f"{OURS} ({attack})")
        quantity = f"clean accuracy of {OURS} (trained on {attack}) - {UNSECURED}"
        claimed = Range(-_POINTS, _POINTS)
        yield _difference(_UNAFFECTED, quantity, claimed, measured, ours, Case(CLEAN, UNSECURED))


def _of_others(measured: Measured, printed: Printed) -> Iterator[Claim]:
    for attack in ATTACKS:
        for other in (MADRY, HGD):
            ours, theirs = Case(attack, OURS), Case(attack, other)
            quantity = f"accuracy of {OURS} - {other}, {attack}"
            sentence = _COMPARABLE.format(other)
            claim = _difference(sentence, quantity, Range(-_gap()), measured, ours, theirs)
            yield replace(claim, published=_published(printed, ours, theirs))


def _of_attacks(measured: Measured, printed: Printed) -> Iterator[Claim]:
    strong, weak = Case("PGD", UNSECURED), Case("FGSM", UNSECURED)
    quantity = f"accuracy of {UNSECURED}, PGD - FGSM"
    claim = _difference(_POWERFUL, quantity, Range(most=0), measured, strong, weak)
    yield replace(claim, published=_published(printed, strong, weak))


def _of_iterations(measured: Measured) -> Iterator[Claim]:
    """PGD with the most iterations against the same with fewer, undefended and behind ours."""
    for defence, name in ((UNSECURED, UNSECURED), (OURS, f"{OURS} (PGD)")):
        others = [
            case
            for case in measured
            if (case.defence, case.adaptive) == (name, False)
            and re.fullmatch(_ITERATIONS, case.attack)
        ]
        if others:
            few = min(others, key=lambda case: int(re.fullmatch(_ITERATIONS, case.attack)[1]))
            quantity = f"accuracy of {defence} under PGD - under {few.attack}"
            many = Case("PGD", defence)
            yield _difference(_HARDENS, quantity, Range(most=0), measured, many, few)
        else:
            quantity = f"accuracy of {defence} under PGD - under PGD of fewer iterations"
            reason = "PGD was not run with another number of iterations"
            yield Claim(_HARDENS, quantity, Range(most=0), reason=reason)


def _of_labels(measured: Measured) -> Iterator[Claim]:
    """FGSM that ascends the loss of true labels against that of predicted ones."""
    for defence in (UNSECURED, MADRY):
        true, predicted = Case(_TRUE, defence), Case("FGSM", defence)
        quantity = f"accuracy of {defence} under FGSM with true labels - with predicted ones"
        yield _difference(_LEAKS, quantity, Range(0), measured, true, predicted)


def _of_training(measured: Measured) -> Claim:
    robust, plain = Case(CLEAN, MADRY), Case(CLEAN, UNSECURED)
    quantity = f"clean accuracy of {MADRY} - {UNSECURED}"
    return _difference(_IMPROVES, quantity, Range(0), measured, robust, plain)


def _of_maps(distances: Results) -> Iterator[Claim]:
    """COS-D of maps, which does not depend on their scale: along the layers, and behind ours."""
    frame, labeler = distances.frame, LabelAssignment(distances)
    names = ["dataset", "classifier", "threat", "attack_point"]
    for about, rows in iter_groups(frame[frame["threat"] != CLEAN], names):
        where = f"{about['dataset']}, {about['classifier']}, {labeler.case(_bare(about)).attack}"
        bare = _maps(rows[rows["purifier"] == NO_PURIFIER])
        grown = Claim(_GROW, f"COS-D of the last map / of the first, {where}", Range(1))
        if bare is None:
            yield replace(grown, reason="the maps were not observed without a purifier")
            continue
        means, n = statistics.resampled_means(bare.to_numpy(), _ids(bare))
        yield replace(grown, estimate=statistics.interval_of(means[-1] / means[0], n))
        for purifier, part in rows.groupby("purifier", sort=False):
            defence = labeler.case(_bare(about) | {"purifier": purifier}).defence
            if purifier != NO_PURIFIER and defence.startswith(OURS):
                yield _cleaned(bare, _maps(part), f"{where}, {defence}")


def _cleaned(bare: "pd.DataFrame", purified_maps: "pd.DataFrame", where: str) -> Claim:
    """The ratio of the mean COS-D over all maps behind an autoencoder to that without."""
    claim = Claim(
        _CLEANED, f"COS-D of maps behind ours / without, mean of all, {where}", Range(most=1)
    )
    bare, purified_maps = bare.align(purified_maps, join="inner")
    if bare.empty:
        return replace(claim, reason=OTHER_IMAGES)
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


def _of_the_loss(measured: Measured) -> Iterator[Claim]:
    for attack in ATTACKS:
        ours, plain = Case(attack, OURS), Case(attack, PLAIN)
        quantity = f"accuracy of {OURS} - {PLAIN}, {attack}"
        yield _difference(_VANILLA, quantity, Range(0), measured, ours, plain)


def _of_knowledge(measured: Measured, chance: float) -> Iterator[Claim]:
    """The gain of adaptive attacks over oblivious ones."""
    for attack in ATTACKS:
        adaptive = Case(attack, OURS, adaptive=True)
        quantity = f"adaptive accuracy of {OURS} - its accuracy, {attack}"
        oblivious = Case(attack, OURS)
        yield _difference(_HARD, quantity, Range(-_gap()), measured, adaptive, oblivious)
        yield _above_chance(_HARD, Range(0), measured, adaptive, chance)
        plain = Case(attack, PLAIN, adaptive=True)
        quantity = f"adaptive accuracy of {OURS} - {PLAIN}, {attack}"
        yield _difference(_HARD, quantity, Range(0), measured, adaptive, plain)
    for attack in ATTACKS:
        for other in (MADRY, HGD):
            case = Case(attack, other, adaptive=True)
            yield _above_chance(_BROKEN, Range(most=0), measured, case, chance)


def _of_the_text(measured: dict[tuple[str, str], Measured]) -> Iterator[Claim]:
    """Accuracies in the text for a data set, on its training and test images."""
    for line in PUBLISHED.lines("textnumbers"):
        if line["row"] == "baseline":
            sentence = _BASELINE.format(line["value"], line["dataset"])
            for split in ("train", "test"):
                quantity = f"clean accuracy of {UNSECURED} in %, {line['dataset']}, {split}"
                case, printed = Case(CLEAN, UNSECURED), float(line["value"])
                claimed = Range(printed - _POINTS, printed + _POINTS)
                yield _accuracy(sentence, quantity, claimed, measured, line, split, case)
    for line in (*PUBLISHED.lines("table1"), *PUBLISHED.lines("table2")):
        if line["row"] == f"PGD / {OURS}":
            sentence = _ACHIEVED.format(line["value"], line["dataset"])
            case = Case("PGD", OURS)
            split = _attacked_split(measured, line["dataset"], case)
            quantity = f"accuracy of {OURS} in %, {line['dataset']}, PGD, {split}"
            claimed = Range(float(line["value"]) - _POINTS)
            yield _accuracy(sentence, quantity, claimed, measured, line, split, case)


def _attacked_split(measured: dict[tuple[str, str], Measured], printed: str, case: Case) -> str:
    """The split of a printed data set with these results: the test images, or a part of them."""
    splits = [
        split
        for (dataset, split), here in measured.items()
        if labels.DATASETS.get(dataset) == printed and case in here
    ]
    return splits[0] if splits and "test" not in splits else "test"


def _of_confidence(shown: list[Examples]) -> Iterator[Claim]:
    """The target's confidence in each figure's images, all replicates together."""
    lines = {
        line["dataset"]: line
        for line in PUBLISHED.lines("textnumbers")
        if line["column"] == "target confidence"
    }
    # The same images before several purifiers are one.
    groups: dict[tuple, dict[int, Examples]] = {}
    for example in shown:
        if example.target is not None:
            names = ("dataset", "classifier", "threat", "attack_point")
            where = tuple(example.about[name] for name in names)
            groups.setdefault(where, {}).setdefault(example.about["seed"], example)
    for (dataset, classifier, threat, point), of_seed in groups.items():
        line = lines.get(labels.DATASETS.get(dataset))
        least = float((line or next(iter(lines.values())))["value"])
        shares = [
            100 * example.input_probabilities[:, example.target] for example in of_seed.values()
        ]
        lowest = float(np.concatenate(shares).min())  # NaN where one is not finite
        first = next(iter(of_seed.values()))
        attack = labels.threat(threat, point, classifier)
        yield Claim(
            _CONFIDENT.format(f"{least:g}"),
            f"least confidence in {first.classes[first.target]} in %, {dataset}, {classifier}, "
            f"{attack}",
            Range(least),
            Estimate.exact(lowest, sum(map(len, shares))),
            line["raw"] if line else "",
        )
    if not groups:
        yield Claim(
            _CONFIDENT.format(" or ".join(sorted({line["value"] for line in lines.values()}))),
            "least confidence in the target in %",
            Range(min(float(line["value"]) for line in lines.values())),
            reason="the example images are under no attack with one target",
        )


# ---------------------------------------------------------------- estimates


def _difference(
    sentence: str, quantity: str, claimed: Range, measured: Measured, first: Case, second: Case
) -> Claim:
    """Accuracy in the first case less that in the second, over the images that both have."""
    claim = Claim(sentence, quantity, claimed)
    for case in (first, second):
        if case not in measured:
            return replace(claim, reason=_why_missing(case))
    difference = paired_difference(measured[first], measured[second])
    return claim.measured(difference if isinstance(difference, str) else difference.scaled(100))


def _above_chance(
    sentence: str, claimed: Range, measured: Measured, case: Case, chance: float
) -> Claim:
    quantity = f"adaptive accuracy of {case.defence} - chance, {case.attack}"
    claim = Claim(sentence, quantity, claimed)
    if case not in measured:
        return replace(claim, reason=_why_missing(case))
    return replace(claim, estimate=_share(measured[case]).scaled(100, chance))


def _accuracy(
    sentence: str,
    quantity: str,
    claimed: Range,
    measured: dict[tuple[str, str], Measured],
    line: dict,
    split: str,
    case: Case,
) -> Claim:
    """An accuracy on the data set of a published line."""
    claim = Claim(sentence, quantity, claimed, published=line["value"])
    named = {labels.DATASETS.get(dataset): dataset for dataset, _ in measured}
    dataset = named.get(line["dataset"])
    if dataset is None:
        return replace(claim, reason=f"{line['dataset']} is not among the data sets")
    if case not in measured.get((dataset, split), {}):
        return replace(claim, reason=f"{_why_missing(case)}, split {split}")
    return replace(claim, estimate=_share(measured[dataset, split][case]).scaled(100))


def _why_missing(case: Case) -> str:
    if case.attack == CLEAN:
        return f"{case.defence} was not judged on clean images"
    adaptive = " by an adaptive attack" if case.adaptive else ""
    return f"{case.defence} was not attacked with {case.attack}{adaptive}"


def _share(right: "pd.Series") -> Estimate:
    return statistics.wilson(right.sum(), len(right))


def _published(printed: Printed, first: Case, second: Case) -> str:
    pair = [printed.get((case.attack, case.defence)) for case in (first, second)]
    return "" if None in pair else f"{pair[0] - pair[1]:.1f}"
