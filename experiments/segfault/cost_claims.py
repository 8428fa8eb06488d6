"""What "Segmentation Fault" says of seconds and bytes."""

from dataclasses import replace

import numpy as np

from advdenoise.reporting.claims import Claim, Range
from advdenoise.statistics import Estimate

from .areas import NotComputable
from .costs import Cost, over_runs
from .labels import HIDDEN, ONE, PIXELS, REPRESENTATIONS, TEN
from .printed import PUBLISHED, printed_costs, published_text

_ABOUT = 0.05  # of a round number of the text

_FASTEST = "10-D is consistently the fastest to execute."
_MEMORY = "{} requires {} times more memory than {}."
_CHEAPER = "Superpixels reduce processing and memory requirements by a ratio of {} to {}."


def claims(costs: list[Cost]) -> list[Claim]:
    ours: dict[tuple[str, str], Cost] = {}
    for each in costs:
        ours.setdefault((each.setting, REPRESENTATIONS[each.representation]), each)
    return [_about_speed(ours), *_about_memory(ours), *_about_pixels(ours)]


def _about_speed(ours: dict[tuple[str, str], Cost]) -> Claim:
    quantity = f"seconds of {TEN} / seconds of the faster other, greatest of all settings"
    published = published_text(float(_slowest(printed_costs("time"))))
    claim = Claim(_FASTEST, quantity, Range(most=1), published=published)
    seconds = {key: cost.seconds for key, cost in ours.items()}
    try:
        return replace(claim, estimate=over_runs(np.atleast_1d(_slowest(seconds))))
    except NotComputable as reason:
        return replace(claim, reason=str(reason))


def _slowest(seconds: dict[tuple[str, str], np.ndarray | float]) -> np.ndarray:
    """The greatest ratio over settings of 10-D's seconds to those of the faster other."""
    ratios = [
        seconds[setting, TEN] / np.minimum(seconds[setting, ONE], seconds[setting, HIDDEN])
        for setting in dict.fromkeys(setting for setting, _ in seconds)
        if {(setting, ONE), (setting, TEN), (setting, HIDDEN)} <= seconds.keys()
    ]
    if not ratios:
        raise NotComputable("no setting's cost was measured for all three representations")
    return np.max(ratios, axis=0)


def _about_memory(ours: dict[tuple[str, str], Cost]) -> list[Claim]:
    numbers = PUBLISHED.numbers("textnumbers")
    claims = []
    for more, fewer in ((TEN, ONE), (HIDDEN, TEN)):
        line = numbers["memory", f"{more} / {fewer}"]
        printed = float(line["value"])
        claim = Claim(
            _MEMORY.format(more, line["raw"], fewer),
            f"bytes of {more} / bytes of {fewer}, all attributions at once",
            Range(printed * (1 - _ABOUT), printed * (1 + _ABOUT)),
            published=line["value"],
        )
        pairs = [
            (cost, ours[setting, fewer])
            for (setting, shown), cost in ours.items()
            if shown == more and (setting, fewer) in ours
        ]
        if not pairs:
            reason = f"no setting's cost was measured for {more} and {fewer}"
            claims.append(replace(claim, reason=reason))
            continue
        large, _ = pairs[0]
        wanted = float(numbers["26-layer CNN", f"{more} values"]["value"])
        ratio = float(np.mean([cost.array_bytes / other.array_bytes for cost, other in pairs]))
        other = f"{more} has {large.values} values here, and not {wanted:g}"
        reason = other if large.values != wanted else ""
        claims.append(replace(claim, estimate=Estimate.exact(ratio, large.images), reason=reason))
    return claims


def _about_pixels(ours: dict[tuple[str, str], Cost]) -> list[Claim]:
    """The ratio of the cost of single pixels to that of each setting, for 10-D."""
    time, memory = printed_costs("time"), printed_costs("memory")
    settings = dict.fromkeys(setting for setting, _ in [*time, *ours] if setting != PIXELS)
    whole = ours.get((PIXELS, TEN))
    claims = []
    for setting in settings:
        part = ours.get((setting, TEN))
        seconds, size = _cheaper(setting, "seconds", time), _cheaper(setting, "bytes", memory)
        if part is None or whole is None:
            reason = f"the cost of {PIXELS if whole is None else setting} was not measured"
            claims += [replace(claim, reason=reason) for claim in (seconds, size)]
            continue
        ratio = Estimate.exact(whole.array_bytes / part.array_bytes, part.images)
        claims.append(replace(seconds, estimate=over_runs(whole.seconds / part.seconds)))
        claims.append(replace(size, estimate=ratio))
    return claims


def _cheaper(setting: str, what: str, printed: dict[tuple[str, str], float]) -> Claim:
    """The claim about one setting, without our own estimate."""
    numbers = PUBLISHED.numbers("textnumbers")
    bounds = [numbers["superpixels", f"{end} reduction"] for end in ("least", "greatest")]
    whole, part = printed[PIXELS, TEN], printed.get((setting, TEN))
    return Claim(
        _CHEAPER.format(*(line["raw"] for line in bounds)),
        f"{what} of {PIXELS} / {what} of {setting}, {TEN}",
        Range(*(float(line["value"]) for line in bounds)),
        published=published_text(whole / part) if part else "",
    )
