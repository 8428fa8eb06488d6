"""The kinds of entries, the stages that cross them, and what an entry's function is handed."""

from advdenoise.graph import components

KINDS = (
    "datasets",
    "classifiers",
    "attacks",
    "denoisers",
    "purifiers",
    "attributions",
    "detectors",
)
KIND_OF = {
    "dataset": "datasets",
    "classifier": "classifiers",
    "suite": "suites",
    "purifier": "purifiers",
    "denoiser": "denoisers",
    "detector": "detectors",
    "attribution": "attributions",
}
BUILT_IN_SPLITS = ("train", "held_out", "test")
# What functions return whose images have masks, and who predicts these.
DENSE, SEGMENTER = "DenseSource", "Segmenter"
# What a function returns whose networks make images of codes, and a step that trains these.
GENERATOR, GENERATOR_UPDATE = "Generator", "GeneratorUpdate"
# What a purifier, or an attack that knows one, is handed of its denoiser.
OF_DENOISERS = {"denoise", "error", "calibration", "generate"}
# Keys of an entry that say how images and outputs are converted (`inference.adapters`).
CONVERSION = ("mean", "std", "size", "channels", "outputs")


def conversion(entry: dict) -> dict:
    """The keys of an entry that say what its network takes and gives."""
    return {key: entry[key] for key in CONVERSION if key in entry}


def point_key(key: str, entry: dict, name: str) -> str:
    """Where a point's settings are written: in the entry itself where it is the only one."""
    return key if list(entry["points"]) == ["default"] else f"{key}.points.{name}"


def looks_at_model(attack: dict) -> bool:
    """Whether an attack entry asks for any model (RANDOM and corruptions do not)."""
    return bool({"predict", "victim", "classifier", *OF_DENOISERS} & injected_names(attack))


def injected_names(attack: dict) -> set[str]:
    """What the functions of an attack entry are handed."""
    names: set[str] = set()
    for point in attack["points"].values():
        names |= {*components.signature_of("attacks", point).injected}
    return names


def returned(kind: str, entry: dict) -> str:
    """The annotation of what an entry's function returns."""
    return components.signature_of(kind, entry).returns
