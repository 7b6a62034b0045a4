"""The parameters of a head: their ranges, and which combinations mean something."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from logitlab.config.names import unknown_name
from logitlab.config.parameters import Range, parameter_fault
from logitlab.functional.long_tail import class_counts_fault
from logitlab.losses import Loss
from logitlab.losses.logit_adjustment import not_softmax
from logitlab.margins import Margin
from logitlab.temperature import NUMBERED, TEMPERATURES, Temperature, number_refused

#: Numbers, with the interval in which each must lie.
RANGES: dict[str, Range] = {
    "in_features": Range(1, integer=True),
    "num_classes": Range(1, integer=True),
    "keep_probability": Range(0, 1, low_included=False),
    "alpha": Range(0, 1, high_included=False),
    "beta": Range(0),
    "weight_penalty": Range(0),
    "loss_scale": Range(0, low_included=False),
    "kappa": Range(0, low_included=False, optional=True),
    "tau": Range(0, low_included=False, optional=True),
    "target_weight": Range(0, low_included=False, optional=True),
    "target_value": Range(0, low_included=False, optional=True),
    "gamma": Range(0, optional=True),
    "adjustment": Range(0),
    "ignore_index": Range(integer=True),
    "centers": Range(1, integer=True),
}

#: Words, with what each may be.
CHOICES: dict[str, tuple[str, ...]] = {
    "classifier": ("linear", "cosine", "unit_weight"),
    "loss": ("softmax", "sigmoid", "squared_error", "focal"),
    "inference_kappa": ("mean", "per_sample"),
}


def find_faults(owner: str, values: dict[str, Any]) -> list[str]:
    """Check every parameter of a head alone, then their combination.

    Args:
        owner: the class that declares them, for the messages.
        values: all parameters of ``Head``.

    Returns:
        One sentence a fault; empty when all is well.
    """
    faults = [RANGES[name].fault(owner, name, values[name]) for name in RANGES]
    faults += [_choice_fault(owner, name, values[name]) for name in CHOICES]
    faults += [
        _temperature_fault(owner, values["temperature"]),
        _margin_fault(owner, values["margin"]),
        _bool_fault(owner, "bias", values["bias"], optional=True),
        _fused_fault(owner, values["fused"]),
        _bool_fault(owner, "normalize_logits", values["normalize_logits"], optional=False),
        _class_weight_fault(owner, values["class_weight"], values["num_classes"]),
        _class_counts_fault(owner, values["class_counts"], values["num_classes"]),
    ]
    found = [fault for fault in faults if fault]
    # A combination is judged only when its parts are sound: one mistake, one message.
    return found or _combination_faults(owner, values)


def class_weight_tensor(class_weight: Tensor | Sequence[float] | None) -> Tensor | None:
    """The class weight as a tensor of its own."""
    if class_weight is None:
        return None
    if isinstance(class_weight, Tensor):
        return class_weight.detach().clone()
    # On the CPU even while a model is built on the meta device: the values are checked.
    return torch.tensor(list(class_weight), dtype=torch.get_default_dtype(), device="cpu")


def _fused_fault(owner: str, value: Any) -> str | None:
    if isinstance(value, bool) or (isinstance(value, str) and value == "auto"):
        return None
    return parameter_fault(owner, "fused", "true, false or 'auto'", value)


def _choice_fault(owner: str, name: str, value: Any) -> str | None:
    if name == "loss" and isinstance(value, Loss):
        return None
    if isinstance(value, str):
        return None if value in CHOICES[name] else unknown_name(f"{name} of {owner}", value, CHOICES[name])
    expected = " or ".join(f"'{choice}'" for choice in CHOICES[name])
    if name == "loss":
        expected += ", or a logitlab.losses.Loss"
    return parameter_fault(owner, name, expected, value)


def _temperature_fault(owner: str, value: Any) -> str | None:
    if value is None or isinstance(value, Temperature):
        return None
    if isinstance(value, str):
        return None if value in TEMPERATURES else unknown_name("temperature", value, TEMPERATURES)
    expected = "a temperature or the name of one; a number goes in as 'kappa' or as 'tau' (= 1/kappa)"
    return parameter_fault(owner, "temperature", expected, value)


def _margin_fault(owner: str, value: Any) -> str | None:
    if value is None or isinstance(value, Margin):
        return None
    expected = "a logitlab.margins.Margin or None; create_head takes the number of a margin head ('arcface', ...)"
    return parameter_fault(owner, "margin", expected, value)


def _margin_faults(owner: str, values: dict[str, Any]) -> list[str]:
    """What does not go together with a margin, or with several centers a class."""
    faults: list[str] = []
    margin, cosine = values["margin"], values["classifier"] == "cosine"
    if values["centers"] > 1 and not cosine:
        faults.append(f"{owner} takes several 'centers' a class with classifier='cosine' only.")
    if margin is None:
        return faults
    name = type(margin).__name__
    if values["normalize_logits"]:
        faults.append(f"{owner} cannot take {name} with normalized logits: it bends a cosine. Use classifier='cosine'.")
    elif not cosine and not margin.bends_linear:
        faults.append(f"{name} lowers a cosine. {owner} needs classifier='cosine' and a temperature with it.")
    if values["loss"] == "squared_error":
        faults.append(f"{owner} cannot take {name} with squared error, which has a target value instead of a margin.")
    return faults


def _bool_fault(owner: str, name: str, value: Any, *, optional: bool) -> str | None:
    if isinstance(value, bool) or (optional and value is None):
        return None
    return parameter_fault(owner, name, "true, false or none" if optional else "true or false", value)


def _class_weight_fault(owner: str, value: Any, num_classes: Any) -> str | None:
    if value is None:
        return None
    expected = f"{num_classes} positive numbers, one a class"
    try:
        weight = class_weight_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        return parameter_fault(owner, "class_weight", expected, value)
    sound = (
        weight is not None
        and weight.is_floating_point()
        and weight.shape == (num_classes,)
        and bool((weight > 0).all())
        and bool(weight.isfinite().all())
    )
    return None if sound else parameter_fault(owner, "class_weight", expected, value)


def _class_counts_fault(owner: str, value: Any, num_classes: Any) -> str | None:
    if value is None or num_classes not in RANGES["num_classes"]:
        return None
    return class_counts_fault(owner, value, int(num_classes))


def _combination_faults(owner: str, values: dict[str, Any]) -> list[str]:
    faults: list[str] = []
    cosine, normalized = values["classifier"] == "cosine", values["normalize_logits"]
    temperature = values["temperature"]
    has_number = values["kappa"] is not None or values["tau"] is not None
    squared = values["loss"] == "squared_error"
    if values["kappa"] is not None and values["tau"] is not None:
        faults.append(f"{owner} takes 'kappa' or 'tau' (= 1/kappa), not both.")
    if isinstance(temperature, Temperature) and has_number:
        faults.append(
            f"{owner} got a temperature and a number ('kappa' or 'tau'). Give the number to the temperature, "
            "as in Fixed(kappa=20), or leave the temperature out."
        )
    if temperature == "fixed" and not has_number:
        faults.append("The temperature 'fixed' needs its number: give 'kappa' or 'tau' (= 1/kappa).")
    if isinstance(temperature, str) and has_number and temperature not in NUMBERED:
        faults.append(number_refused(temperature))
    if squared and has_number:
        faults.append(
            "Squared error has no temperature: W's κ and M are 'target_weight' and 'target_value' here, because "
            "'kappa' always means the inverse temperature."
        )
    elif (temperature is not None or has_number) and not (cosine or normalized):
        faults.append(
            f"{owner} got a temperature, but unnormalized logits choose their own scale. Use classifier='cosine' or "
            "normalize_logits=True with it, or leave it out."
        )
    elif (cosine or normalized) and temperature is None and not has_number:
        faults.append(
            f"{owner} needs a temperature for {'cosines' if cosine else 'normalized logits'}, which lie in [-1, 1]. "
            "Give 'kappa', 'tau', or temperature='least_squares' or 'trainable'."
        )
    loss = values["loss"]
    if values["alpha"] and isinstance(loss, Loss) and not loss.soft_targets:
        faults.append(
            f"{owner} cannot smooth the target of {type(loss).__name__}, which takes class indices only. "
            "Leave 'alpha' out."
        )
    if cosine and normalized:
        faults.append(
            f"{owner} got classifier='cosine' and normalize_logits=True: the second normalization undoes the "
            "temperature of the first. Use one of them."
        )
    # By name or as an object: those that are defined on cosines alone.
    made = TEMPERATURES[temperature]() if isinstance(temperature, str) and temperature != "fixed" else temperature
    adaptive = isinstance(made, Temperature) and (made.adaptive or made.uses_target)
    if adaptive and normalized and not cosine:
        faults.append(
            f"{owner} cannot choose κ of normalized logits by {type(made).__name__}, which is defined on cosines. Use "
            "classifier='cosine', or 'kappa', 'tau' or temperature='trainable'."
        )
    if normalized and values["beta"]:
        faults.append(
            f"{owner} got normalize_logits=True and beta={values['beta']:g}: normalized logits have a constant "
            "length, a penalty on it does nothing. Set one of them."
        )
    faults += _squared_error_faults(owner, values, squared)
    faults += _focal_faults(owner, values)
    faults += _adjustment_faults(owner, values)
    faults += _margin_faults(owner, values)
    if values["classifier"] == "unit_weight" and normalized:
        faults.append(f"{owner} cannot normalize logits of classifier='unit_weight'. Use classifier='linear'.")
    if squared and (cosine or normalized):
        faults.append(
            f"{owner} got squared error with normalized logits or cosines, which cannot reach a target value "
            "freely. Use classifier='linear' without normalize_logits."
        )
    return faults


def _squared_error_faults(owner: str, values: dict[str, Any], squared: bool) -> list[str]:
    names = ("target_weight", "target_value")
    missing = [name for name in names if values[name] is None]
    if squared and missing:
        return [
            f"Squared error has no default that suits every number of classes; {owner} lacks "
            f"{' and '.join(repr(name) for name in missing)} (W's κ and M). Give values, or "
            "preset='imagenet' (9, 60), 'cifar10' (8, 0.83) or 'cifar100' (6, 12)."
        ]
    if not squared and len(missing) < len(names):
        return [f"{owner} takes 'target_weight' and 'target_value' with loss='squared_error' only."]
    return []


def _focal_faults(owner: str, values: dict[str, Any]) -> list[str]:
    if values["gamma"] is not None and values["loss"] != "focal":
        return [f"{owner} takes 'gamma' with loss='focal' only."]
    return []


def _adjustment_faults(owner: str, values: dict[str, Any]) -> list[str]:
    if not values["adjustment"]:
        if values["class_counts"] is None:
            return []
        return [
            f"{owner} takes 'class_counts' with 'adjustment' only (1 in the paper). For margins by them take the head "
            "'ldam', or margins.LabelDistributionMargin."
        ]
    loss = values["loss"]
    link = loss.link if isinstance(loss, Loss) else "softmax" if loss in ("softmax", "focal") else "another"
    return [] if link == "softmax" else [not_softmax(loss if isinstance(loss, str) else type(loss).__name__)]
