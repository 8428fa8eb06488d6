"""Where the files of each rule lie below `results/{scale}/`, and which rule a file is of."""

import functools
import re

# As the rules name their outputs.
OUTPUTS = {
    "images": ["images/{dataset}/{split}.h5"],
    "train_classifier": [
        "seed{seed}/{dataset}/classifiers/{classifier}.safetensors",
        "seed{seed}/{dataset}/classifiers/{classifier}.history.parquet",
    ],
    "train_denoiser": [
        "seed{seed}/{dataset}/denoisers/{denoiser}.safetensors",
        "seed{seed}/{dataset}/denoisers/{denoiser}.history.parquet",
    ],
    "calibrate": ["seed{seed}/{dataset}/denoisers/{denoiser}.calibration.json"],
    "attack": ["seed{seed}/{dataset}/adversarial/{threat}/{split}.h5"],
    "choose": ["seed{seed}/{dataset}/chosen/{entry}/{classifier}.json"],
    "evaluate": [
        "seed{seed}/{dataset}/predictions/{suite}/{purifier}/{classifier}/{split}.parquet"
    ],
    "distances": ["seed{seed}/{dataset}/distances/{suite}/{classifier}/{split}.parquet"],
    "iqr": ["seed{seed}/{dataset}/iqr/{threat}/{attribution}/{classifier}/{split}.parquet"],
    "cost": ["seed{seed}/{dataset}/cost/{attribution}/{classifier}/{split}.parquet"],
    "detect": [
        "seed{seed}/{dataset}/detection/{suite}/{detector}/{attribution}/{classifier}/{split}.parquet"
    ],
    "examples": ["seed{seed}/{dataset}/examples/{threat}/{purifier}/{classifier}/{split}.h5"],
    "export": ["seed{seed}/{dataset}/exported/{threat}/{split}.h5"],
    "rows": ["tables/{paper}/{rows}.parquet"],
    "table": [f"tables/{{paper}}/{{table}}.{suffix}" for suffix in ("csv", "md", "tex")],
    "figures": ["figures/{paper}/{figure}.svg"],
}


def maker(place: str) -> tuple[str, dict[str, str]] | None:
    """The rule of a file, given from below `results/{scale}/`, and its wildcards.

    None of a file that no rule makes. Names are not looked up in a configuration.
    """
    for rule, pattern in _patterns().get(place.count("/"), []):
        match = pattern.fullmatch(place)
        if match:
            return rule, match.groupdict()
    return None


@functools.cache
def _patterns() -> dict[int, list[tuple[str, re.Pattern]]]:
    """Rules and patterns by the depth of their files."""
    patterns: dict[int, list[tuple[str, re.Pattern]]] = {}
    for rule, places in OUTPUTS.items():
        for place in places:
            pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(place))
            patterns.setdefault(place.count("/"), []).append((rule, re.compile(pattern)))
    return patterns
