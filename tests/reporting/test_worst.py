"""The worst case of each image over all threats, against counts by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from advdenoise.reporting import measures
from advdenoise.reporting.read import Results
from advdenoise.reporting.tables import accuracy
from advdenoise.reporting.worst import cross_fitted
from advdenoise.statistics import wilson

PLACE = {"dataset": "digits", "split": "test", "classifier": "cnn", "purifier": "best"}
COLUMNS = accuracy._COLUMNS


def predictions(right: dict[str, np.ndarray], classes: int = 10, **place) -> pd.DataFrame:
    """Rows of threats (or `threat point`) from whether each image [N], or draw and image, is right.

    Wrong predictions stand at the rank 3.
    """
    parts = []
    for name, values in right.items():
        threat, _, point = name.partition(" ")
        for draw, row in enumerate(np.atleast_2d(values)):
            row = np.asarray(row, dtype=bool)
            rows = {"id": np.arange(len(row)), "threat": threat, "draw": draw, "seed": 0}
            rows |= {"attack_point": point or "default", "purifier_point": "default", "label": 1}
            rows |= {"prediction": np.where(row, 1, 2), "label_rank": np.where(row, 0, 3)}
            parts.append(pd.DataFrame(rows | {"classes": classes} | PLACE | place))
    return pd.concat(parts, ignore_index=True)


def results(frame, **keys) -> Results:
    """The rows with entries of their attacks, which may have further keys, and purifiers."""
    point = {"function": "gradient.fgsm", "settings": {}}
    points = dict.fromkeys(frame["attack_point"].unique(), point)
    attacks = {threat.partition("@")[0] for threat in frame["threat"]}
    fixed = {"default": {"function": "basic.direct", "settings": {}}}
    entries = {"attack": {name: {"points": points, **keys.get(name, {})} for name in attacks}}
    purifiers = {name: {"points": fixed} for name in frame["purifier"].unique()}
    return Results(frame, entries | {"purifier": purifiers}, [])


def cells(frame, **settings) -> dict[tuple[str, str], object]:
    made = accuracy.worst_case(results(frame), **settings)
    return {(cell.row, cell.column): cell for cell in made}


def columns(frame, row="digits, cnn: best", **settings) -> dict[str, object]:
    found = cells(frame, **settings)
    back = {text: name for name, text in COLUMNS.items()}
    return {back[column]: cell for (own, column), cell in found.items() if own == row}


RIGHT = {
    "clean": np.array([1, 1, 1, 1, 0]),
    "fgsm@cnn": np.array([0, 1, 1, 1, 1]),
    "pgd@cnn e1": np.array([1, 1, 0, 1, 1]),
    "pgd@cnn e2": np.array([1, 1, 0, 1, 0]),
    "bim@cnn+best": np.array([1, 0, 1, 1, 1]),
}


def test_an_attack_with_the_draws_of_the_evaluation_is_in_no_worst_case():
    frame = predictions(RIGHT | {"fixed@cnn+best": np.zeros(5)})
    without = [cell.estimate for cell in accuracy.worst_case(results(predictions(RIGHT)))]
    result = accuracy.worst_case(results(frame, fixed={"knows_draws": True}))
    assert [cell.estimate for cell in result] == without


def test_an_image_is_right_if_nothing_makes_it_wrong():
    found = columns(predictions(RIGHT))
    shares = {"clean": 4, "oblivious": 2, "adaptive": 3, "all": 1}  # of five
    assert {name: cell.estimate.value for name, cell in found.items()} == {
        name: pytest.approx(100 * count / 5) for name, count in shares.items()
    }
    for name, count in shares.items():
        estimate, expected = found[name].estimate, wilson(count, 5)
        assert estimate.n == 5
        assert (estimate.low, estimate.high) == pytest.approx(
            (100 * expected.low, 100 * expected.high)
        )
    assert found["clean"].metric == "clean accuracy"
    assert found["all"].metric == "robust accuracy"
    assert found["all"].about["hardest"] == "pgd@cnn e2" and found["all"].about["threats"] == 5


def test_it_is_no_better_than_any_threat():
    random = np.random.default_rng(0)
    right = {name: random.random((3, 40)) < 0.7 for name in RIGHT}
    found = columns(predictions(right))
    for name, values in right.items():
        assert found["all"].estimate.value <= 100 * values.mean()
        if name == "clean":
            assert found["clean"].estimate.value == pytest.approx(100 * values.mean())
    assert found["all"].estimate.value <= found["oblivious"].estimate.value
    assert found["all"].estimate.value <= found["adaptive"].estimate.value


def test_draws_are_averaged_before_the_worst_is_taken():
    """The attacker does not know the draw: two attacks that win at different draws win half."""
    right = {
        "clean": np.ones((2, 3)),
        "fgsm@cnn": np.array([[0, 1, 1], [1, 1, 1]]),
        "bim@cnn+best": np.array([[1, 1, 1], [0, 1, 0]]),
    }
    found = columns(predictions(right))
    assert found["all"].estimate.value == pytest.approx(100 * (0.5 + 1 + 0.5) / 3)
    assert found["all"].estimate.n == 3


def test_the_attack_of_an_image_is_chosen_on_half_of_the_draws():
    right = {
        "clean": np.ones((4, 3)),
        "fgsm@cnn": np.array([[0, 1, 1], [1, 0, 1], [0, 1, 1], [1, 0, 1]]),
        "bim@cnn+best": np.array([[1, 1, 0], [0, 1, 0], [1, 1, 1], [0, 1, 0]]),
    }
    frame = predictions(right)
    # On even and odd draws FGSM leaves 0, 1 and BIM 1, 0 of the first image, FGSM 1, 0 and BIM
    # 1, 1 of the second, where equal shares choose the first by name, and BIM 0.5, 0 of the third.
    expected = [(1 + 1) / 2, (1 + 1) / 2, (0 + 0.5) / 2]
    assert cross_fitted(frame).to_list() == expected
    found = columns(frame)
    assert found["all, cross-fitted"].estimate.value == pytest.approx(100 * np.mean(expected))
    assert found["all, cross-fitted"].about["threats"] == 3
    assert found["all"].estimate.value == pytest.approx(100 * (0.5 + 0.5 + 0.25) / 3)
    notes = accuracy.worst_case(results(frame)).notes
    assert "half of the draws" in notes[-1]


def test_without_several_draws_nothing_is_cross_fitted():
    assert "all, cross-fitted" not in columns(predictions(RIGHT))
    # Draws that agree are one draw.
    twice = {name: np.stack([right] * 2) for name, right in RIGHT.items()}
    found = columns(predictions(twice))
    assert found["all, cross-fitted"].estimate == found["all"].estimate


@pytest.mark.parametrize(
    ("p", "attacks", "draws", "expected"),
    [(0.7, 5, 5, 0.459), (0.7, 5, 20, 0.579), (0.9, 3, 20, 0.8429), (0.9, 3, 1, 0.729)],
)
def test_the_smallest_share_of_a_defence_that_ignores_its_input_is_too_low(
    p, attacks, draws, expected
):
    """E = sum_k P(Bin(R, p) >= k)^A / R for A attacks and R draws."""
    exact = sum(binom.sf(k - 1, draws, p) ** attacks for k in range(1, draws + 1)) / draws
    assert exact == pytest.approx(expected, abs=5e-4)
    random = np.random.default_rng(0)
    names = ["clean", *(f"attack{place}@cnn+best" for place in range(attacks - 1))]
    right = {name: random.random((draws, 1500)) < p for name in names}
    found = columns(predictions(right))
    assert found["all"].estimate.value == pytest.approx(100 * exact, abs=3)
    if draws > 1:
        estimate = found["all, cross-fitted"].estimate
        assert estimate.low < 100 * p < estimate.high


def test_a_defence_right_with_probability_nine_tenths_is_reported_so():
    """Whatever the input: after five attacks, each of which selects one of its 40 iterates.

    An attack selects by draws of its own; taking an iterate that failed once as a success would
    leave 0.9^41 of the images, and one failure among clean images and attacks 0.9^6.
    """
    random = np.random.default_rng(1)
    images, iterates, draws = 400, 40, 10
    right = {"clean": random.random((draws, images)) < 0.9}
    for attack in range(5):
        selection = random.random((10, images, iterates)) < 0.9
        selected = selection.mean(0).argmin(1)
        assert selection.mean(0)[np.arange(images), selected].mean() < 0.7
        defender = random.random((draws, images, iterates)) < 0.9
        judged = defender[:, np.arange(images), selected]
        right[f"attack{attack}@cnn+best"] = judged
    found = columns(predictions(right))
    estimate = found["all, cross-fitted"].estimate
    assert estimate.low <= 90 <= estimate.high
    assert found["all"].estimate.high < 90


def test_columns_are_those_of_the_attackers_that_there_are():
    oblivious = {name: right for name, right in RIGHT.items() if "+" not in name}
    assert set(columns(predictions(oblivious))) == {"clean", "oblivious", "all"}
    assert set(columns(predictions({"clean": RIGHT["clean"]}))) == {"clean"}
    adaptive = {name: RIGHT[name] for name in ("clean", "bim@cnn+best")}
    assert set(columns(predictions(adaptive))) == {"clean", "adaptive", "all"}


def test_only_images_count_that_met_every_threat():
    """Costly attacks stand in a split of fewer images, whose clean images are there once more."""
    many = predictions({name: RIGHT[name] for name in ("clean", "fgsm@cnn")})
    few = predictions({name: RIGHT[name][:3] for name in ("clean", "bim@cnn+best")}, split="few")
    found = columns(pd.concat([many, few], ignore_index=True))
    sizes = {name: cell.estimate.n for name, cell in found.items()}
    assert sizes == {"clean": 5, "oblivious": 5, "adaptive": 3, "all": 3}
    assert found["all"].estimate.value == pytest.approx(100 * 1 / 3)
    assert found["all"].about["split"] == "test and few"


def test_defences_stand_in_rows_with_what_each_met():
    other = predictions({"clean": RIGHT["clean"], "fgsm@cnn": RIGHT["fgsm@cnn"]}, purifier="none")
    frame = pd.concat([predictions(RIGHT), other], ignore_index=True)
    assert {row for row, _ in cells(frame)} == {"digits, cnn: best", "digits, cnn: none"}
    notes = accuracy.worst_case(results(frame)).notes
    assert notes == (
        "digits, cnn: best: 5 threats, clean, fgsm@cnn, pgd@cnn e1, pgd@cnn e2, bim@cnn+best.",
        "digits, cnn: none: 2 threats, clean, fgsm@cnn.",
    )


def test_replicates_are_pooled_and_their_spread_is_told():
    first, second = predictions(RIGHT), predictions({"clean": np.ones(5), **RIGHT}).assign(seed=1)
    second["prediction"] = second["label"]
    found = columns(pd.concat([first, second], ignore_index=True))["all"]
    assert found.estimate.n == 10 and found.estimate.value == pytest.approx(100 * (0.2 + 1) / 2)
    assert found.spread == pytest.approx(100 * np.std([0.2, 1.0], ddof=1))


@pytest.mark.parametrize(
    ("classes", "rank", "hit"),
    [(1000, 9, True), (1000, 10, False), (200, 1, True), (200, 2, False), (10, 1, False)],
)
def test_the_top_one_per_cent_of_classes_hits(classes, rank, hit):
    frame = predictions({"clean": np.zeros(4), "fgsm@cnn": np.zeros(4)}, classes)
    frame["label_rank"] = rank
    found = columns(frame, among_top=True)
    assert {cell.estimate.value for cell in found.values()} == {100.0 * hit}
    assert found["all"].metric == "robust accuracy among the top 1 % of classes"
    assert columns(frame)["all"].estimate.value == 0
    label = ("row", "column")
    by_threat = measures.accuracy(results(frame), lambda about: label, among_top=True)
    assert [cell.estimate.value for cell in by_threat] == [100.0 * hit] * 2


def test_of_one_class_at_the_top_the_prediction_counts():
    """Equal largest outputs: the rank is 0, and another class is predicted."""
    frame = predictions({"clean": np.zeros(4)}).assign(label_rank=0)
    assert columns(frame, among_top=True)["clean"].estimate.value == 0
