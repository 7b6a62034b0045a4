"""Heads and backbones as a user wrote them: read, checked by building them once, made ready to be recorded."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..config.errors import ConfigurationError, InputError, LogitLabError
from ..config.names import unknown_name
from ..config.specification import Specification, parse_specification
from ..config.trial import ComponentConfig
from .faults import Faults

if TYPE_CHECKING:
    from ..heads import Head


@dataclass(frozen=True)
class Shape:
    """What backbones and heads must fit.

    Attributes:
        channels: channels of an image.
        image_size: side of an image, in pixels.
        num_classes: C.
    """

    channels: int
    image_size: int
    num_classes: int


#: Stand in for the shape of data that could not be loaded. A fault counts only if both show it in the same words:
#: then it does not hang on the data.
_STAND_INS = (Shape(3, 224, 1000), Shape(1, 64, 10))

#: What a head is not asked for, and where a study takes it from.
_DERIVED = {"in_features": "backbone", "num_classes": "data"}


def nearest_preset(num_classes: int) -> str:
    """Return the setting of W whose number of classes is nearest to ``num_classes`` on a logarithmic scale.

    >>> nearest_preset(10), nearest_preset(43), nearest_preset(400)
    ('cifar10', 'cifar100', 'imagenet')
    """
    from ..heads import PRESET_CLASSES

    return min(PRESET_CLASSES, key=lambda name: abs(math.log(PRESET_CLASSES[name] / num_classes)))


def read_backbone(backbone: str | Specification, shape: Shape | None, faults: Faults) -> tuple[Any, int]:
    """Check a backbone by building it.

    Args:
        backbone: ``name`` or ``name:key=value``.
        shape: of the data; None when the data could not be loaded.
        faults: gains what is wrong.

    Returns:
        its :class:`~logitlab.config.trial.ComponentConfig` (None when it is wrong) and D, the length of its
        features (512 when it is not known).
    """
    from ..models import WEIGHT_FILE, create_backbone, weight_file_digest

    widths: list[int] = []

    def build(shape: Shape) -> None:
        try:
            built = create_backbone(
                specification.name,
                channels=shape.channels,
                image_size=shape.image_size,
                parameters=specification.parameters,
            )
        except (RuntimeError, MemoryError) as fault:  # layers too large for this machine
            raise ConfigurationError(
                f"The backbone '{specification}' cannot be built: {_first_sentence(fault)}. Take a smaller one, or "
                "smaller images."
            ) from fault
        widths.append(int(built.num_features))

    with faults:
        specification = _specification(backbone, "backbone")
        _check(build, shape)
        component = ComponentConfig(name=specification.name, parameters=specification.parameters)
        source = weight_file_digest(specification.parameters)
        if source is not None:
            # What the file holds makes the trial, wherever it lies.
            rest = {key: value for key, value in specification.parameters.items() if key != WEIGHT_FILE}
            component = component.model_copy(update={"source": source, "resolved": rest})
        return component, widths[0] if widths else 512
    return None, 512


def read_heads(
    heads: Sequence[str | Specification],
    in_features: int,
    shape: Shape | None,
    faults: Faults,
    *,
    mixed: bool = False,
) -> list[ComponentConfig]:
    """Check heads by building each of them.

    Args:
        heads: ``name`` or ``name:key=value``.
        in_features: D.
        shape: of the data; None when the data could not be loaded.
        faults: gains what is wrong, of every head.
        mixed: whether the recipe mixes labels, so that each head must take probabilities.

    Returns:
        the heads that are right, in their order; ``preset=auto`` is replaced by what it stands for.
    """
    from ..heads import canonical_parameters, create_head, head_module, head_name, head_source

    if isinstance(heads, (str, Specification)):
        heads = [heads]
    if not heads:
        faults.add("No head to compare. Give at least one.")
    found: list[ComponentConfig] = []
    for head in heads:
        with faults:
            specification = _resolved(_specification(head, "head"), shape)
            # An alias is written out, so that a record says what was trained, and no head is compared with itself.
            specification = replace(specification, name=head_name(specification.name))
            _check_derived(specification)

            def build(shape: Shape, specification: Specification = specification) -> None:
                head = create_head(specification.name, in_features, shape.num_classes, **specification.parameters)
                if mixed:
                    _check_soft_target(head, specification)

            try:
                _check(build, shape)
            except ConfigurationError as fault:
                raise ConfigurationError([_naming(specification, sentence) for sentence in fault.faults]) from fault
            except LogitLabError:
                raise
            except Exception as fault:  # a user's factory may raise anything
                raise ConfigurationError(
                    f"The head '{specification}' cannot be built: {type(fault).__name__}: {fault}."
                ) from fault
            component = ComponentConfig(
                name=specification.name,
                parameters=specification.parameters,
                module=head_module(specification.name, specification.parameters),
                source=head_source(specification.name, specification.parameters),
                resolved=canonical_parameters(specification.name, specification.parameters),
            )
            if component in found:
                raise ConfigurationError(f"The head '{specification}' is given twice. Give each head once.")
            twin = next((other for other in found if other.essence() == component.essence()), None)
            if twin is not None:
                written = Specification(twin.name, twin.parameters)
                raise ConfigurationError(f"'{written}' and '{specification}' are the same head. Give it once.")
            found.append(component)
    return found


def _check_soft_target(head: Head, specification: Specification) -> None:
    """See that the head takes what Mixup makes of the labels, before anything is trained.

    Raises:
        ConfigurationError: it does not.
    """
    import torch

    target = torch.full((2, head.num_classes), 1 / head.num_classes)
    try:
        head.eval()(torch.zeros(2, head.in_features), target)
    except InputError as fault:
        raise ConfigurationError(f"The head '{specification}' cannot train with Mixup. {fault}") from fault


def _naming(head: Specification, sentence: str) -> str:
    """Say which of many heads a sentence is about, where it does not say so itself."""
    return sentence if f"'{head.name}" in sentence else f"The head '{head}' is wrong. {sentence}"


def _check_derived(head: Specification) -> None:
    given = [name for name in _DERIVED if name in head.parameters]
    if given:
        raise ConfigurationError(
            [
                f"The head '{head.name}' gets '{name}' from the {_DERIVED[name]}. Leave it out of its parameters."
                for name in given
            ]
        )


def _specification(text: str | Specification, kind: str) -> Specification:
    return text if isinstance(text, Specification) else parse_specification(text, kind)


def _resolved(head: Specification, shape: Shape | None) -> Specification:
    """Replace ``preset="auto"``, which only a study with its data can resolve."""
    if head.parameters.get("preset") != "auto":
        return head
    preset = nearest_preset((shape or _STAND_INS[0]).num_classes)
    return Specification(head.name, {**head.parameters, "preset": preset})


def _check(build: Any, shape: Shape | None) -> None:
    """Build once for the data's shape, or for two stand-ins; leaves torch's random numbers as they were."""
    import torch

    with torch.random.fork_rng(devices=[]):
        if shape is not None:
            build(shape)
            return
        messages = []
        for stand_in in _STAND_INS:
            try:
                build(stand_in)
            except ConfigurationError as fault:
                messages.append(fault.faults)
        if len(messages) == len(_STAND_INS) and messages[0] == messages[1]:
            raise ConfigurationError(messages[0])


def check_executor(executor: str, known: Iterable[str]) -> None:
    """Raise ConfigurationError when ``executor`` is not among ``known``."""
    known = sorted(known)
    if executor not in known:
        raise ConfigurationError(unknown_name("executor", str(executor), known))


def read_device(device: str | None) -> str:
    """Return the device to train on: the user's, or the first GPU, or the CPU.

    Raises:
        ConfigurationError: torch knows no such device, or this machine has none.
    """
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
        # Compute on it: a name may be right and the device absent, or without values as "meta" is.
        torch.ones(1, device=found).add(1).item()
    except Exception as fault:  # each backend has its own way to say that it is not there
        raise ConfigurationError(
            f"The device '{device}' cannot be used: {_first_sentence(fault)}. Take 'cpu', or leave it out."
        ) from None
    return str(found)


def _first_sentence(fault: BaseException) -> str:
    """Cut torch's pages about a device or about memory to their first sentence, without its full stop."""
    text = str(fault).rpartition("DefaultCPUAllocator: ")[2].strip()
    return re.split(r"\.\s|\n", text, maxsplit=1)[0].rstrip(".:") or type(fault).__name__
