"""Tables of "DAPAS": mIoU of a segmenter under attack, before and behind denoising autoencoders."""

import math
from collections.abc import Iterator

from advdenoise.graph.threats import CLEAN
from advdenoise.reporting.cells import Cell, Cells
from advdenoise.reporting.measures import Miou, cell, spread_of
from advdenoise.reporting.read import Results

from .results import FGSM, I_FGSM, NONE, Attack, Group, Setting, group_by_setting

_MIOU = (
    "mIoU is that of one confusion matrix over all images, of which classes that are neither in "
    "masks nor in predictions are left out; over replicates it is the mean. Intervals resample "
    "images, those of ratios for both mIoU together."
)
_ROUNDED = (
    "The published ratios were taken from unrounded mIoU: they lie up to 0.15 beside the ratios of "
    "the published mIoU."
)
_STEPS = (
    "I-FGSM is the paper's: steps of 0.25/255, so few that above epsilon 0.002 they use only a "
    "part of the budget. Under a name of its own stands what takes other steps."
)
_KNOWS = "adaptive: the gradient passes through the denoiser, too."


def reduction(predictions: Results) -> Cells:
    """Table 1: mIoU of clean images with and without DAPAS, and its ratio (RatioRED)."""
    cells = []
    for setting in group_by_setting(predictions):
        for group in setting.groups:
            if group.attack.method != CLEAN:
                continue
            if group.noise == NONE:
                cells.append(_cell(group, NONE, "mIoU clean image", "mIoU_CO", group.miou))
            else:
                cells.append(_cell(group, group.noise, "mIoU after DAPAS", "mIoU_CP", group.miou))
                cells += _kept(setting, group, group.noise, "RatioRED", "RatioRED")
    return Cells(cells, [_MIOU, _ROUNDED])


def attacks(predictions: Results) -> Cells:
    """Table 2: mIoU under attack without a defence, and its ratio to the clean one (RatioATT).

    Rows are budgets, columns attacks; an attack without a budget has a row of its own.
    """
    cells = []
    for setting in group_by_setting(predictions):
        for group in setting.groups:
            attack = group.attack
            if group.noise == NONE and attack.method != CLEAN and not attack.corrupts:
                bounded = not math.isnan(attack.epsilon)
                row = attack.budget if bounded else attack.method
                column = f"{attack.method} " if bounded else ""
                cells += _pair(setting, group, row, column, "AO", "RatioATT")
    return Cells(cells, [_MIOU, _ROUNDED, _STEPS])


def robust_to_fgsm(predictions: Results) -> Cells:
    """Table 3: mIoU under FGSM behind each denoiser, and its ratio to the clean one (RatioROB).

    Rows are budgets, those of adaptive attacks among them; columns are noises.
    """
    return Cells(_robust(predictions, FGSM), [_MIOU, _ROUNDED, _KNOWS])


def robust_to_ifgsm(predictions: Results) -> Cells:
    """Table 4: mIoU under I-FGSM behind each denoiser, its ratio (RatioROB), and further attacks.

    What the paper does not try stands in rows of its own: other steps and other attacks, such as
    SegPGD, and attacks on the denoiser as well.
    """
    return Cells(_robust(predictions, I_FGSM), [_MIOU, _ROUNDED, _STEPS, _KNOWS])


def corruptions(predictions: Results) -> Cells:
    """mIoU on clean and corrupted images with and without each denoiser, and what is kept of it.

    Rows are corruptions, which need no model, columns noises; ratios are to the clean mIoU
    without a defence.
    """
    cells = []
    for setting in group_by_setting(predictions):
        for group in setting.groups:
            attack = group.attack
            if attack.method == CLEAN or attack.corrupts:
                cells += _pair(
                    setting, group, attack.method, f"{group.noise} ", "corrupted", "kept"
                )
    return Cells(cells, [_MIOU])


def _robust(predictions: Results, method: str) -> Iterator[Cell]:
    """Cells of Table 3, for FGSM, or of Table 4, for all other attacks."""
    for setting in group_by_setting(predictions):
        for group in setting.groups:
            attack = group.attack
            is_apart = attack.method == CLEAN or attack.corrupts or group.noise == NONE
            if not is_apart and (attack.method == FGSM) == (method == FGSM):
                row = _row(attack, method)
                yield from _pair(setting, group, row, f"{group.noise} ", "AP", "RatioROB")


def _row(attack: Attack, method: str) -> str:
    """The budget, and how the attack differs from the paper's."""
    own = [attack.method] if attack.method != method else []
    own += ["adaptive"] if attack.adaptive else []
    budget = [] if math.isnan(attack.epsilon) else [attack.budget]
    return " ".join([*budget, ", ".join(own)]).strip()


def _pair(
    setting: Setting, group: Group, row: str, column: str, what: str, name: str
) -> list[Cell]:
    """The cells of an mIoU and of its ratio to the clean one."""
    mean = _cell(group, row, f"{column}mIoU", f"mIoU_{what}", group.miou)
    return [mean, *_kept(setting, group, row, f"{column}{name}", name)]


def _kept(setting: Setting, group: Group, row: str, column: str, name: str) -> list[Cell]:
    kept = setting.kept(group)
    return [_cell(group, row, column, name, kept)] if kept else []


def _cell(group: Group, row: str, column: str, metric: str, miou: Miou) -> Cell:
    estimate = miou.estimate(miou.values)
    spread = spread_of(list(miou.of_replicates.values()))
    about = group.about | {"epsilon": group.attack.epsilon}
    return cell((row, column), metric, "%", estimate, spread, about)
