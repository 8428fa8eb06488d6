"""Arguments that components get by name: their parameters that are not keyword-only.

Keyword-only parameters are settings from the configuration.
"""

import functools
import inspect


def injected_parameters(function) -> tuple[str, ...]:
    """The names of the parameters of a component, or a partial of one, that are not settings."""
    return tuple(parameter.name for parameter in _positional(function))


def required_parameters(function) -> tuple[str, ...]:
    """Those of `injected_parameters` that have no default."""
    return tuple(p.name for p in _positional(function) if p.default is inspect.Parameter.empty)


def call_with(function, **available):
    """Call a component with those of `available` that are its parameters."""
    names = injected_parameters(function)
    return function(**{name: available[name] for name in names if name in available})


def _positional(function) -> list[inspect.Parameter]:
    # The signature of a `partial` has all parameters after a bound one as keyword-only.
    bound = function.keywords if isinstance(function, functools.partial) else {}
    original = function.func if isinstance(function, functools.partial) else function
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
    parameters = inspect.signature(original).parameters.values()
    return [p for p in parameters if p.kind in kinds and p.name not in bound]
