"""What is claimed of several settings, from what was decided on each."""

from __future__ import annotations

from collections.abc import Sequence

from .decision import DOES_NOT, HOLDS, NOT_DECIDED, Decision


def decide_everywhere(decisions: Sequence[tuple[str, Decision]]) -> Decision:
    """Decide what is claimed of several settings from what was decided on each.

    *Holds* when it holds on all of them, *does not* when it does not on one.

    Args:
        decisions: of each setting, with its name; at least one.

    >>> settings = [("digits", Decision(HOLDS, "ρ = 1.")), ("faces", Decision(DOES_NOT, "ρ = -1."))]
    >>> found = decide_everywhere(settings)
    >>> found.verdict, found.evidence
    ('does not', 'digits (holds): ρ = 1. faces (does not): ρ = -1.')
    """
    if len(decisions) == 1:
        ((name, found),) = decisions
        evidence = f"{name}: {found.evidence}" if name else found.evidence
        return Decision(found.verdict, evidence, found.numbers, found.p)
    evidence = " ".join(f"{name} ({found.verdict}): {found.evidence}" for name, found in decisions)
    numbers = {f"{name}: {key}": value for name, found in decisions for key, value in found.numbers.items()}
    against = [found for _, found in decisions if found.verdict == DOES_NOT]
    deciding = [found.p for found in against or [each for _, each in decisions] if found.p is not None]
    if against:
        return Decision(DOES_NOT, evidence, numbers, min(deciding, default=None))
    whole = all(found.verdict == HOLDS for _, found in decisions)
    return Decision(HOLDS if whole else NOT_DECIDED, evidence, numbers, max(deciding, default=None))
