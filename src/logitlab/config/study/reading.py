"""From YAML to a validated study: every fault at once, each with its line and the nearest right name."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from ..errors import ConfigurationError
from ..names import nearest_name, unknown_name
from .checks import check_definition
from .definition import MOST_SEEDS, NAME_PATTERN, StudyDefinition
from .extending import EXTENDS, Finder, extended, read_document
from .salvage import StudyFaultsError, salvage
from .yaml_file import Document, Place, parse_yaml

#: Keys of a file beside those of `StudyDefinition`.
SCALES, DEFAULT_SCALE = "scales", "default_scale"

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def read_study(
    source: Path | str | Mapping[str, Any], *, scale: str | None = None, find: Finder | None = None
) -> StudyDefinition:
    """Read a study.

    In YAML a data set, a head and a stage may be written as text alone; ``scales`` maps names to overrides that are
    merged over the rest (mappings merge, lists and single values replace), and ``default_scale`` says which is taken
    when none is asked for. ``extends`` names a study that this one is merged over in the same way.

    Args:
        source: a file, or what one holds as plain values.
        scale: which of its scales; None for its default.
        find: finds a study that ``extends`` names and that does not lie beside the file.

    Raises:
        ConfigurationError: every fault, a sentence each.
    """
    if isinstance(source, Mapping):
        document = extended(Document(_copied(source)), Path(), find)
    else:
        document = read_document(Path(source), find)
    return _define(document, scale)


def parse_study(
    text: str, name: str = "study.yaml", *, scale: str | None = None, find: Finder | None = None
) -> StudyDefinition:
    """Read a study from the text of a file called ``name``; see :func:`read_study`."""
    document = parse_yaml(text, name)
    document.values.setdefault("name", Path(name).stem)
    return _define(extended(document, Path(), find), scale)


def scales_of(source: Path | str, find: Finder | None = None) -> tuple[str, ...]:
    """Return the names of the scales of a file, the default first.

    Args:
        source: the file.
        find: as for :func:`read_study`.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    return scale_names(read_document(Path(source), find).values)


def scale_names(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the scales among the values of a study, the default first."""
    names = list(values.get(SCALES) or {})
    default = values.get(DEFAULT_SCALE)
    return tuple(sorted(names, key=lambda name: (name != default, names.index(name))))


def _define(document: Document, scale: str | None) -> StudyDefinition:
    document, faults = _at_scale(document, scale)
    values = _normalised(document)
    try:
        definition = StudyDefinition.model_validate(values)
    except ValidationError as fault:
        faults += _sentences(fault, document, values)
        # What can be checked without the rest is, so that all is told at once.
        faults += [sentence for sentence in check_definition(values, document.where) if sentence not in faults]
        raise StudyFaultsError(list(dict.fromkeys(faults)), salvage(values)) from None
    faults += check_definition(values, document.where)
    if faults:
        raise StudyFaultsError(list(dict.fromkeys(faults)), salvage(values))
    return definition


def _at_scale(document: Document, scale: str | None) -> tuple[Document, list[str]]:
    """Merge the overrides of a scale; leave the keys of scales out."""
    faults: list[str] = []
    scales = document.values.get(SCALES)
    default = document.values.get(DEFAULT_SCALE)
    if scales is None:
        scales = {}
    if not isinstance(scales, dict) or not all(value is None or isinstance(value, dict) for value in scales.values()):
        raise ConfigurationError(
            f"{document.where((SCALES,))}'scales' must map names to what they change, such as 'tiny: {{seeds: 2}}'. "
            f"Got {scales!r}."
        )
    for name, value in scales.items():
        for key in (SCALES, DEFAULT_SCALE, EXTENDS):
            if value and key in value:
                place = document.where((SCALES, name, key))
                faults.append(f"{place}'{key}' is no part of a scale. Write it at the top of the file, for all scales.")
                del value[key]
    wanted = scale if scale is not None else default
    strange = [name for name in scales if not re.fullmatch(NAME_PATTERN, name)]
    if strange:
        faults.append(
            f"{document.where((SCALES, strange[0]))}A scale is called by letters, digits, '-', '_' and '.'. Got "
            f"'{strange[0]}'."
        )
        wanted = None if wanted in strange else wanted
    if wanted is not None and not isinstance(wanted, str):
        faults.append(f"{document.where((DEFAULT_SCALE,))}'{DEFAULT_SCALE}' must name a scale. Got {wanted!r}.")
        wanted = None
    if wanted is not None and wanted not in scales:
        if not scales:
            faults.append(f"{document.where((DEFAULT_SCALE,))}The study has no scales. Got '{wanted}'; leave it out.")
        else:
            faults.append(document.where((DEFAULT_SCALE,)) + unknown_name("scale", str(wanted), scales))
        wanted = None
    elif wanted is None and scales and not strange:
        wanted = next(iter(scales))
    if wanted is not None:
        document.values[SCALES] = {name: value or {} for name, value in scales.items()}
        document = document.merged((SCALES, str(wanted)))
        document.values["scale"] = str(wanted)
    for key in (SCALES, DEFAULT_SCALE):
        document.values.pop(key, None)
    return document, faults


def _normalised(document: Document) -> dict[str, Any]:
    """Write out what may be written short."""
    values = dict(document.values)
    if isinstance(values.get("data"), str):
        values["data"] = {"name": values["data"]}
    for key in ("plugins", "heads", "stages"):
        if isinstance(values.get(key), (str, dict)):
            values[key] = [values[key]]
    if isinstance(values.get("heads"), list):
        values["heads"] = [{"head": head} if isinstance(head, str) else head for head in values["heads"]]
        for head in values["heads"]:
            if isinstance(head, dict) and isinstance(head.get("search"), dict):
                head["search"] = _search(head["search"])
    if isinstance(values.get("search"), dict):
        values["search"] = _search(values["search"])
    if isinstance(values.get("stages"), list):
        values["stages"] = [_stage(stage) for stage in values["stages"]]
    return values


def _search(search: dict[str, Any]) -> dict[str, Any]:
    """A list of values stands for a logarithmic axis."""
    parameters = search.get("parameters")
    if not isinstance(parameters, dict):
        return search
    return {
        **search,
        "parameters": {
            key: {"values": value} if isinstance(value, list) else value for key, value in parameters.items()
        },
    }


def _stage(stage: Any) -> Any:
    """``NAME`` and ``{NAME: {option: value}}`` are written out; what is written out stays."""
    if isinstance(stage, str):
        return {"name": stage}
    if isinstance(stage, dict) and len(stage) == 1 and "name" not in stage:
        ((name, options),) = stage.items()
        return {"name": name, "options": {} if options is None else options}
    return stage


def _sentences(fault: ValidationError, document: Document, values: dict[str, Any]) -> list[str]:
    """One sentence a fault, with its line; the branches of a union count as one."""
    found: dict[Place, list[Any]] = {}
    for error in fault.errors():
        found.setdefault(_place(error["loc"], values), []).append(error)
    sentences = []
    for place, errors in found.items():
        # A union complains of every branch; the one that got furthest into the value knows best. A list that has
        # nothing but faulty items is told to be empty.
        deeper = any(other[: len(place)] == place and len(other) > len(place) for other in found)
        if deeper and (len(errors) > 1 or errors[0]["type"] == "too_short"):
            continue
        error = max(errors, key=lambda each: len(each["loc"]))
        sentences.append(document.where(place) + _sentence(error, place))
    return sentences


def _place(location: tuple[Any, ...], values: Any) -> Place:
    """Leave out what pydantic adds to a path: names of branches, and ``[key]``."""
    place: list[str | int] = []
    at: Any = values
    last = len(location) - 1
    for index, part in enumerate(location):
        if (isinstance(at, dict) and part in at) or (
            isinstance(at, (list, tuple)) and isinstance(part, int) and part < len(at)
        ):
            at = at[part]
        elif index < last or not isinstance(at, dict) or not re.fullmatch(r"[A-Za-z_]\w*", str(part)):
            continue
        place.append(part)
    return tuple(place)


def _sentence(error: Any, place: Place) -> str:
    name = written(place)
    kind = error["type"]
    if kind == "extra_forbidden":
        nearest = nearest_name(str(place[-1]), _fields(place[:-1]))
        return f"Unknown option '{name}'{f'; did you mean {nearest!r}?' if nearest else '.'}"
    if kind == "missing":
        return f"'{name}' is missing; give it a value."
    got = error["input"]
    if place == ("seeds",) or (place[-1:] == ("seeds",) and "search" not in place):
        return f"'{name}' must be a number from 1 to {MOST_SEEDS:,}, or a list of numbers of at least 0. Got {got!r}."
    if isinstance(got, str) and _NUMBER.fullmatch(got) and ("float" in kind or "int" in kind):
        return f"'{name}' must be a number. Got the text '{got}'; write it without quotes."
    if (kind == "string_pattern_mismatch" and place and "." in str(place[-1])) or "[key]" in map(str, error["loc"]):
        return (
            f"'{name}' is no axis. Expected data, backbone, head.PARAMETER, training.FIELD, data.FIELD or "
            f"backbone.PARAMETER. Got '{got}'."
        )
    if kind == "too_short":
        return f"'{name}' is empty; give at least {error['ctx']['min_length']}."
    message = error["msg"].removeprefix("Value error, ")
    if kind == "value_error" and not isinstance(got, (str, int, float)):
        return f"{name + ': ' if name else ''}{message}"
    expected = message.removeprefix("Input ").replace("should be", "must be", 1).rstrip(".")
    if expected.startswith(("String should", "Tuple should", "Dictionary should")):
        expected = f"must {expected.split('should ', 1)[1]}"
    verb = "" if expected.startswith("must") else "is wrong: "
    return f"'{name}' {verb}{expected}. Got {got!r}{_word(error)}"


def _word(error: Any) -> str:
    """For a field that takes one of several words, the one that was probably meant."""
    if error["type"] != "literal_error" or not isinstance(error["input"], str):
        return "."
    nearest = nearest_name(error["input"], re.findall(r"'([^']*)'", error["ctx"]["expected"]))
    return f"; did you mean '{nearest}'?" if nearest else "."


def written(place: Place) -> str:
    """Write a place as users do.

    >>> written(("heads", 2, "training", "learning_rate"))
    'heads[2].training.learning_rate'
    """
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".")


def _fields(place: Place) -> list[str]:
    """Return the names of the fields of the configuration at ``place``."""
    kinds: list[Any] = [StudyDefinition]
    for part in place:
        inner: list[Any] = []
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                if isinstance(part, str) and part in kind.model_fields:
                    inner += _parts(kind.model_fields[part].annotation)
            elif get_origin(kind) in (tuple, list, dict):
                inner += _parts(get_args(kind)[-1 if get_origin(kind) is dict else 0])
        kinds = inner
    names = [
        name for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel) for name in kind.model_fields
    ]
    return [*names, *((SCALES, DEFAULT_SCALE, EXTENDS) if not place else ())]


def _parts(annotation: Any) -> list[Any]:
    """Take ``Annotated`` and unions apart."""
    if get_origin(annotation) is Annotated:
        return _parts(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [part for each in get_args(annotation) for part in _parts(each)]
    return [annotation]


def _copied(values: Any) -> Any:
    """Copy plain values, so that a caller's mapping stays as it is."""
    if isinstance(values, Mapping):
        return {key: _copied(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [_copied(value) for value in values]
    return values
