"""Attacks on image classifiers, purifiers against them, and detectors, on PyTorch.

`Attack`, `Purifier`, `LeaveOneOut`, `Detector` and `predict` work on your own networks, see
docs/library.md. Their functions are in `attacks`, `purifiers`, `attributions` and `detectors`,
networks in `classifiers` and `denoisers`, images in `datasets`, and rates in `metrics`. All are
imported at first use: `import advdenoise` itself imports no PyTorch.
"""

import importlib
import pkgutil
import sys
from collections.abc import Callable

__version__ = "0.2.0"

_API = (
    "Attack",
    "Classifier",
    "Denoiser",
    "Detector",
    "LeaveOneOut",
    "Purifier",
    "list_functions",
    "predict",
)
_MODULES = (
    "attacks",
    "attributions",
    "classifiers",
    "datasets",
    "denoisers",
    "detectors",
    "metrics",
    "purifiers",
)
__all__ = [*_API, *_MODULES]


def __getattr__(name: str):
    if name in _API:
        return getattr(importlib.import_module("advdenoise.api"), name)
    if name in _MODULES:
        return importlib.import_module(f"advdenoise.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def submodules(package: str) -> tuple[Callable, Callable]:
    """`__getattr__` and `__dir__` of a package whose public modules are imported at first use."""
    module = sys.modules[package]
    names = [m.name for m in pkgutil.iter_modules(module.__path__) if not m.name.startswith("_")]

    def get(name: str):
        if name in names:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get, lambda: sorted({*vars(module), *names})
