"""What a component is handed by name: its parameters that are not keyword-only.

Keyword-only parameters are settings, which the configuration gives.
"""

import functools
import inspect


def injected_parameters(function) -> tuple[str, ...]:
    """The names of the parameters of a (bound) component that are not settings."""
    return tuple(parameter.name for parameter in _positional(function))


def required_parameters(function) -> tuple[str, ...]:
    """Those of `injected_parameters` that have no default."""
    return tuple(p.name for p in _positional(function) if p.default is inspect.Parameter.empty)


def call_with(function, **available):
    """Call a component with those of `available` that it lists by name."""
    names = injected_parameters(function)
    return function(**{name: available[name] for name in names if name in available})


def _positional(function) -> list[inspect.Parameter]:
    # A `partial` makes keywords of all that follows what it binds.
    bound = function.keywords if isinstance(function, functools.partial) else {}
    plain = function.func if isinstance(function, functools.partial) else function
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
    parameters = inspect.signature(plain).parameters.values()
    return [p for p in parameters if p.kind in kinds and p.name not in bound]
