"""A step of our heads beside everybody else's: loss, and gradients of features and weight, in time and memory.

All forms run in turn in one process, each once a round after a round that warms up, so that a busy machine slows all
of them. Their order changes; one that takes more than three times as long as the eager head joins every third round.
Ratios are medians of the ratios within a round. With one thread the clock is the processor time of that thread. Peak
memory above the inputs is measured in a process of its own a form. Before the clock starts, losses and gradients must
agree with the formula in float64, and κ* with an exhaustive search in float64.

    uv run python -m benchmarks --quick                      seconds: small shapes, two rounds
    uv run python -m benchmarks --check --save               all shapes; what is asked, and whether it is reached
    uv run python -m benchmarks --check --runs 5 --save      medians of five runs, each a process of its own
"""

from __future__ import annotations

import argparse
import json
import sys

import torch

from .step import memory
from .step.measuring import SECTIONS
from .step.problem import FAMILIES, Problem, Shape
from .step.report import RESULTS, one_run, report


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--quick", action="store_true", help="small shapes, two rounds, memory of two forms")
    made.add_argument("--check", action="store_true", help="say what is asked; exit code 1 where it is not reached")
    made.add_argument("--save", nargs="?", const=RESULTS, metavar="FILE", help=f"write what is printed ({RESULTS})")
    made.add_argument("--shape", type=Shape.read, action="append", metavar="B,C,D", help="repeatable; default: six")
    made.add_argument("--only", action="append", default=[], metavar="WORD", help="forms whose names contain it")
    made.add_argument("--family", choices=FAMILIES, default="trained", help="of features (default: trained)")
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--rounds", type=int, help="at least so many of a shape (default: 9)")
    made.add_argument("--seconds", type=float, help="more rounds until these have passed (default: 5)")
    made.add_argument("--runs", type=int, default=1, help="medians of so many runs, a process each")
    made.add_argument("--no-memory", action="store_true")
    made.add_argument("--memory", nargs=2, metavar=("SECTION", "FORM"), help=argparse.SUPPRESS)
    made.add_argument("--json", help=argparse.SUPPRESS)
    return made


def main() -> int:
    options = parser().parse_args()
    torch.set_num_threads(options.threads)
    if options.memory:
        section, name = options.memory
        form = next(form for form in SECTIONS[section] if form.name == name)
        print(json.dumps(memory.measure(form, Problem(options.shape[0], options.family))))
        return 0
    if options.json:
        one_run(options)
        return 0
    return report(options)


if __name__ == "__main__":
    sys.exit(main())
