"""Stages by name: the built-in ones, and those that users register."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, get_type_hints

from pydantic import ConfigDict, create_model
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from logitlab.config.registry import Registry
from logitlab.config.validation import Configuration

#: What a stage of a user's returns: nested mappings of numbers.
StageFunction = Callable[..., Mapping[str, Any]]
AnyStage = TypeVar("AnyStage", bound=Callable[..., Any])

#: Stages of LogitLab itself; ``"ood"`` has a mechanism of its own, see ``logitlab.training.ood``.
BUILT_IN: Final = ("analyse", "fine_tune", "linear_probe", "ood", "shift", "timing")


def _fault(name: str, made: Any) -> str | None:
    """Say why a function cannot be a stage."""
    try:
        parameters = list(inspect.signature(made).parameters.values())
    except (TypeError, ValueError):
        return "its signature cannot be read"
    rest = parameters[1:]
    first = parameters[0] if parameters else None
    if first is None or first.kind not in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
        return "it must take the stage as its first argument, as in def mine(stage): …"
    wrong = [each.name for each in rest if each.kind not in (each.KEYWORD_ONLY, each.VAR_KEYWORD)]
    if wrong:
        return f"its options must be keyword-only, as in def mine(stage, *, {wrong[0]}=1): …"
    return None


STAGES: Final[Registry[StageFunction]] = Registry("stage", "register_stage", built_in=lambda: BUILT_IN, check=_fault)


def register_stage(name: str, *, overwrite: bool = False) -> Callable[[AnyStage], AnyStage]:
    """Make a stage of your own known by name: what a study does with every trained model.

    Args:
        name: how it is called in ``stages:`` and before its measures; lower-case letters, digits, underscores.
        overwrite: replace a stage that you registered under the same name before.

    Returns:
        A decorator for a function ``(stage: StageContext, *, option=default, …) -> mapping``. Its keyword-only
        parameters are the options that YAML may give; the mapping holds finite numbers, None where a number is
        undefined, and mappings of these.

    Raises:
        ParameterError: the name is taken, or the function does not have this form.

    >>> @register_stage("doctest_stage", overwrite=True)
    ... def norms(stage, *, part="test"):
    ...     outputs = stage.outputs(part)
    ...     return {"mean": float((outputs.features**2).sum(axis=1).mean())}
    >>> STAGES.forget("doctest_stage")
    """
    return STAGES.register(name, overwrite=overwrite)  # type: ignore[return-value]


def list_stages() -> list[str]:
    """Return the names of all stages, built-in and registered, sorted.

    >>> "linear_probe" in list_stages()
    True
    """
    return sorted([*BUILT_IN, *STAGES.names()])


def option_form(name: str) -> type[Configuration]:
    """Return the configuration class that the options of a user's stage must fit, from its signature.

    Args:
        name: of a registered stage. A parameter without annotation takes anything.
    """
    function = STAGES[name]
    signature = inspect.signature(function)
    try:
        annotations = get_type_hints(function)
    except Exception:  # names that exist for type checkers alone
        annotations = {}
    fields: dict[str, Any] = {}
    for key, parameter in list(signature.parameters.items())[1:]:
        if parameter.kind is not parameter.KEYWORD_ONLY:
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[key] = (_annotation(annotations.get(key, Any)), default)
    takes_any = any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())
    with warnings.catch_warnings():
        # An option may be called as some method of pydantic's is.
        warnings.simplefilter("ignore", UserWarning)
        return create_model(
            f"Options of {name}",
            __base__=_Loose if takes_any else Configuration,
            **fields,
        )


class _Loose(Configuration):
    """Options of a function that takes any."""

    model_config = ConfigDict(extra="allow")


def _annotation(annotation: Any) -> Any:
    """Return an annotation that pydantic understands; anything goes for the others."""
    try:
        create_model("Probe", __base__=Configuration, value=(annotation, ...))
    except (PydanticSchemaGenerationError, PydanticUserError, NameError):
        return Any
    return annotation
