"""Which heads can be split over ranks: those whose loss needs of the other ranks a few numbers a sample."""

from __future__ import annotations

from logitlab.temperature import AdaCos, LeastSquares, MaximumLikelihood, RuleOfThumb, Temperature

from ..head import Head

#: Temperatures whose rule is split along with the classes.
SPLIT = (AdaCos, LeastSquares, MaximumLikelihood, RuleOfThumb)


def find_obstacles(head: Head, num_ranks: int) -> list[str]:
    """Say why a head cannot be split; one sentence an obstacle.

    Args:
        head: the template.
        num_ranks: over how many ranks.
    """
    name = type(head).__name__
    faults = []
    if type(head).__module__.split(".")[0] != "logitlab" or type(head).forward is not Head.forward:
        faults.append(
            f"{name} has a forward pass of its own; a head that is split must be a Head, as create_head gives."
        )
    elif not head.loss_function.goes_by_gap:
        faults.append(
            f"{type(head.loss_function).__name__} needs the logits of every class, which no rank has. Softmax "
            "cross-entropy and focal loss, with any margin, can be split."
        )
    if head.normalize_logits:
        faults.append("Normalized logits need the length of all logits, which no rank has.")
    if head.num_classes < max(num_ranks, 2):
        faults.append(f"{head.num_classes} classes cannot be split over {num_ranks} ranks. Each needs one at least.")
    if head.temperature is not None:
        faults += temperature_obstacle(head.temperature)
    return faults


def temperature_obstacle(temperature: Temperature) -> list[str]:
    """Say why a temperature cannot choose κ where the classes are split; empty or one sentence."""
    name = type(temperature).__name__
    if isinstance(temperature, LeastSquares):
        known = temperature.split_search is not None
    elif temperature.adaptive or temperature.uses_target:
        known = type(temperature) in SPLIT
    else:
        # One κ for all, which is asked of no cosine.
        known = True
    if known:
        return []
    return [
        f"{name} chooses κ from the cosines of all classes, which no rank has. Use a fixed or trainable κ, "
        "LeastSquares, MaximumLikelihood, RuleOfThumb or AdaCos."
    ]
