"""Tables of predicted masks that belong to no paper."""

from advdenoise.graph.threats import CLEAN
from advdenoise.reporting import labels
from advdenoise.reporting.cells import Cells
from advdenoise.reporting.read import Results
from advdenoise.reporting.worst import ADAPTIVE, ALL, OBLIVIOUS, threats_by_defence
from advdenoise.reporting.worst_masks import worst_case as worst

_ROWS = {
    CLEAN: "clean",
    OBLIVIOUS: "worst of the oblivious attacks",
    ADAPTIVE: "worst of the adaptive attacks",
    ALL: "worst of all attacks",
}
_MEASURES = (
    "mIoU is that of one confusion matrix over all images, of which each gets the attack that "
    "brings that mIoU down, chosen in turn until nothing is gained. Of the other measures each "
    "image has its smallest value over the attacks, and the mean is over images: they are exact "
    "minima. Micro IoU is that of all classes of an image together."
)


def worst_case(predictions: Results) -> Cells:
    """Pixel accuracy and mIoU of masks where each image meets the attack that is worst for it.

    Rows are defences and sets of attacks, columns measures: pixel accuracy, mIoU over all images,
    image-wise mIoU and micro IoU. Notes are the threats of each defence.
    """

    def label(about: dict) -> tuple[str, str]:
        names = [about[name] for name in ("dataset", "classifier", "purifier", "purifier_point")]
        return f"{_defence(*names)}, {_ROWS[about['attacker']]}", about["measure"]

    by_threats: dict[tuple[str, ...], list[str]] = {}
    for defence, threats in threats_by_defence(predictions).items():
        by_threats.setdefault(tuple(threats), []).append(_defence(*defence))
    notes = [
        f"{'; '.join(defences)}: {len(threats)} threats, {', '.join(threats)}."
        for threats, defences in by_threats.items()
    ]
    return Cells(worst(predictions, label), [_MEASURES, *notes])


def _defence(dataset: str, classifier: str, purifier: str, point: str) -> str:
    return f"{dataset}, {classifier}: {labels.with_point(purifier, point)}"
