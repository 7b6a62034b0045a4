"""Options that two commands share have one home: the command that had them first."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


def with_options_from(lender: Callable[..., Any], *names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command options of another command, with their help, ranges and defaults.

    The decorated function's parameter ``shared``, a mapping, receives their values by name.

    Args:
        lender: a command.
        *names: of its parameters, in the order of the help.
    """
    lent = inspect.signature(lender).parameters
    # Evaluated where the lender stands: its module postpones annotations.
    evaluated = inspect.signature(lender, eval_str=True).parameters

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(command, eval_str=True)
        own = [parameter for parameter in signature.parameters.values() if parameter.name != "shared"]
        borrowed = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=lent[name].default,
                annotation=evaluated[name].annotation,
            )
            for name in names
        ]

        @functools.wraps(command)
        def wrapper(**values: Any) -> Any:
            shared = {name: values.pop(name) for name in names}
            return command(**values, shared=shared)

        parameters = [*own, *borrowed]
        wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return wrapper

    return decorate
