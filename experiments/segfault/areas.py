"""Areas under the ROC curve of many detections, and functions of them.

Areas are arrays [1 + resamples] as from `statistics.resampled_auc`: a function of them is computed
for all images and for every resample at once.
"""

from typing import NamedTuple

import numpy as np

from .labels import PIXELS

_SLIC = "slic "  # how its printed settings begin


class NotComputable(Exception):
    """Raised, with the reason, where a quantity cannot be computed."""


class Source(NamedTuple):
    """Areas by attack, superpixel setting and representation, and segments of an image by setting.

    All names are the printed ones, `n` counts images. Printed areas have no resamples.
    """

    areas: dict[tuple[str, str, str], np.ndarray]
    segments: dict[str, float]
    n: int

    @property
    def attacks(self) -> list[str]:
        return list(dict.fromkeys(attack for attack, _, _ in self.areas))


def gain(source: Source, attacks: list[str], more: str, fewer: str) -> np.ndarray:
    """Mean difference between the areas of two representations, over attacks and settings."""
    pairs = [
        source.areas[attack, setting, more] - area
        for (attack, setting, shown), area in source.areas.items()
        if attack in attacks and shown == fewer and (attack, setting, more) in source.areas
    ]
    return _mean(pairs, source, attacks)


def easier(source: Source, attack: str, other: str) -> np.ndarray:
    """Mean difference between the areas of two attacks, over settings and representations."""
    pairs = [
        source.areas[attack, setting, shown] - area
        for (name, setting, shown), area in source.areas.items()
        if name == other and (attack, setting, shown) in source.areas
    ]
    return _mean(pairs, source, [attack, other])


def correlation(source: Source, attacks: list[str]) -> np.ndarray:
    """Spearman's correlation of segments and areas over superpixel settings."""
    settings = _superpixels(source)
    if len(settings) < 3:
        raise NotComputable(f"{len(settings)} superpixel settings of known cost are fewer than 3")
    areas = _by_setting(source, settings, attacks)
    segments = np.array([source.segments[setting] for setting in settings])
    first, second = _ranks(segments[:, None]), _ranks(areas)
    first, second = (ranks - ranks.mean(axis=0) for ranks in (first, second))
    with np.errstate(invalid="ignore"):
        norms = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
        return (first * second).sum(axis=0) / norms


def slic_gain(source: Source, attacks: list[str]) -> np.ndarray:
    """Areas of SLIC less those of the other methods at as many segments, mean over its settings.

    Between two settings of the others areas are taken as linear in the logarithm of the number of
    segments, beyond the last as constant.
    """
    settings = _superpixels(source)
    slic = [setting for setting in settings if setting.startswith(_SLIC)]
    others = sorted((s for s in settings if s not in slic), key=source.segments.get)
    if not slic or not others:
        raise NotComputable("there are not both SLIC and other superpixels of known cost")
    areas = _by_setting(source, [*slic, *others], attacks)
    mine, theirs = areas[: len(slic)], areas[len(slic) :]
    at, places = (np.log([source.segments[name] for name in names]) for names in (slic, others))
    weights = np.stack([np.interp(at, places, row) for row in np.eye(len(others))], axis=1)
    return (mine - weights @ theirs).mean(axis=0)


def below_pixels(source: Source, attacks: list[str]) -> np.ndarray:
    """Areas of single pixels less the mean of all superpixel settings."""
    settings = {setting for _, setting, _ in source.areas}
    others = sorted(settings - {PIXELS})
    if not others or PIXELS not in settings:
        raise NotComputable("the same images do not have both pixels and superpixels")
    areas = _by_setting(source, [PIXELS, *others], attacks)
    return areas[0] - areas[1:].mean(axis=0)


def _superpixels(source: Source) -> list[str]:
    """Superpixel settings with areas and a known number of segments."""
    settings = dict.fromkeys(setting for _, setting, _ in source.areas)
    return [name for name in settings if name != PIXELS and name in source.segments]


def _by_setting(source: Source, settings: list[str], attacks: list[str]) -> np.ndarray:
    """Mean areas of each setting over the attacks and representations that all of them have."""
    wanted = dict.fromkeys((a, shown) for a, _, shown in source.areas if a in attacks)
    common = [(a, r) for a, r in wanted if all((a, s, r) in source.areas for s in settings)]
    means = [_mean([source.areas[a, s, r] for a, r in common], source, attacks) for s in settings]
    return np.stack(means)


def _mean(areas: list[np.ndarray], source: Source, attacks: list[str]) -> np.ndarray:
    if areas:
        return np.mean(areas, axis=0)
    if not source.areas:
        raise NotComputable("there are no scores of the paper's detector")
    for attack in attacks:
        if attack not in source.attacks:
            raise NotComputable(f"{attack} is not among the attacks")
    raise NotComputable("no setting has the representations that are compared")


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along the first axis, those of equal values averaged: [K, B]; NaN beside a NaN."""
    above = values[:, None] > values[None]
    equal = values[:, None] == values[None]
    ranks = above.sum(axis=1) + (equal.sum(axis=1) - 1) / 2
    return np.where(np.isnan(values).any(axis=0), np.nan, ranks)
