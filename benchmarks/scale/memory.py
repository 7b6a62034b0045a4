"""Bytes that a rank needs at the peak of a step, the backbone left out."""

from __future__ import annotations

from .setting import BLOCK, FEWEST, LEVELS, Setting


def state(setting: Setting) -> float:
    """The weight of this rank, its gradient, and what the optimiser keeps; with sampling a copy of what was drawn."""
    each = 2 * setting.weight + setting.state * setting.state_width
    drawn = 0 if setting.share == 1 else 2 * setting.weight * setting.active
    return setting.features * (each * setting.own + drawn)


def scores(setting: Setting) -> float:
    """The scores, kept or as a block, and two blocks of coefficients: in float32 and in the dtype of the products."""
    block = setting.all_rows * setting.block
    held = setting.all_rows * setting.active if setting.kept else block
    return 4 * held + (4 + setting.operand) * block


def rows(setting: Setting) -> float:
    """Features of all samples, float32 matrices of their shape, and numbers; matrices of the home rows.

    How many matrices there are at once is counted from profiles: ``python -m benchmarks.scale --measure``.
    """
    matrices, home, numbers = (4, 5, 4 * 3 * LEVELS * 6) if setting.least_squares else (2, 2.4, 4 * 8)
    of_all = setting.all_rows * (setting.features * (setting.operand + 4 * matrices) + numbers)
    return of_all + 4 * home * setting.rows * setting.features


def peak(setting: Setting) -> float:
    return state(setting) + scores(setting) + rows(setting)


def largest_classes(setting: Setting, capacity: float) -> float:
    """The C at which ``peak`` reaches the capacity; scores that are not kept do not grow with C.

    Args:
        setting: its number of classes is not looked at; it must be one that does not keep the scores.
        capacity: bytes.
    """
    per_class = state(setting) / setting.classes
    fixed = rows(setting) + (8 + setting.operand) * max(BLOCK, FEWEST * setting.all_rows)
    return (capacity - fixed) / per_class


def partial_fc(setting: Setting) -> float:
    """PartialFC_V2 at its peak, read off its source: float32 but for the normalised weight and the first logits.

    Three times the logits in float32: what clamp keeps for its gradient, the probabilities that overwrite its result,
    and their gradient. With sampling a copy of the sampled rows, whose gradient goes into one of the whole weight.
    """
    features, active = setting.features, setting.share * setting.own
    weight = setting.own * features * (8 + 4 * setting.state)
    drawn = active * features * (2 if setting.share == 1 else 6)
    return weight + drawn + setting.all_rows * (12 * active + 8 * features)
