"""Run the checks over a head and tell what they found, all at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from logitlab.config.errors import ParameterError
from logitlab.config.names import unknown_name

from . import checks  # noqa: F401 - fills the catalogue
from .case import Case, Factory, in_features
from .catalogue import CHECKS, NotApplicable
from .checks.generated import has_hypothesis
from .report import CheckFailed, HeadCheckError, HeadReport
from .traits import HeadTraits, traits_of


def check_head(
    factory: Factory,
    *,
    traits: HeadTraits | None = None,
    only: Sequence[str] | None = None,
    skip: Sequence[str] = (),
    seed: int = 0,
    inductor: bool = False,
) -> HeadReport:
    """Check that a head does what every head must; see docs/check_head.md for the contract and each check.

    Every check runs, whatever the others found. Traits that the head declares, or that are given here, switch single
    checks. It runs on the CPU in some seconds; a check without a counterpart there (GPU) runs where there is one. Two
    processes are another function's: ``check_heads_distributed``.

    Args:
        factory: from D and C to a head, a new one at each call; for a head with other parameters
            ``functools.partial(create_head, "arcface", margin=0.3)``. It draws from torch's generator alone.
        traits: instead of those that the head declares or that follow from its parts.
        only: names of the checks to run; None for all. ``CHECKS`` lists them.
        skip: names of checks to leave out.
        seed: of weights and inputs.
        inductor: also compile with the backend inductor, which needs a C++ compiler and half a minute.

    Returns:
        What ran, and what a trait switched off.

    Raises:
        HeadCheckError: the head fails; each failed check with its reason and how to run it again.
        ParameterError: an unknown name of a check.

    >>> from functools import partial
    >>> from logitlab.heads import create_head
    >>> report = check_head(partial(create_head, "cosine"), only=["reduction", "kappa_detached"])
    >>> report.ran, report.switched_off
    (('reduction',), {'kappa_detached': 'adaptive_kappa=False'})
    """
    _known([*(only or ()), *skip])
    shown, found = _first_look(factory, traits)
    case = Case(factory, found, seed)
    ran, off, failures = [], {}, {}
    for name, each in CHECKS.items():
        wanted = name in only if only is not None else not each.optional or (name == "inductor" and inductor)
        if not wanted or name in skip:
            continue
        reason = each.off(found)
        if reason is not None:
            off[name] = reason
            continue
        try:
            with torch.random.fork_rng(devices=[]), torch.enable_grad():
                torch.default_generator.manual_seed(seed)
                each.run(case)
        except NotApplicable as error:
            off[name] = str(error)
        except CheckFailed as error:
            failures[name] = str(error)
        except Exception as error:
            failures[name] = f"raised {type(error).__name__}: {_first_line(error)}"
        else:
            ran.append(name)
    if failures:
        given = "" if traits is None else ", traits=traits"
        again = f"check_head(factory, only=[{{name!r}}], seed={seed}{given})"
        raise HeadCheckError(shown, failures, again)
    return HeadReport(shown, tuple(ran), off, tuple(skip), has_hypothesis())


def _first_look(factory: Factory, traits: HeadTraits | None) -> tuple[str, HeadTraits]:
    """How the head shows itself, and its traits."""
    with torch.random.fork_rng(devices=[]):
        head = factory(in_features(traits or HeadTraits()), 11)
    return f"{type(head).__name__}({head.extra_repr()})", traits_of(head) if traits is None else traits


def _known(names: Iterable[str]) -> None:
    faults = [unknown_name("check", name, CHECKS) for name in names if name not in CHECKS]
    if faults:
        raise ParameterError(faults)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:240] if lines else ""
