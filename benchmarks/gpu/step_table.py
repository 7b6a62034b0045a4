"""The table of the step (loss, gradients of features and weight) on a GPU: time, memory, agreement, and what is asked.

Every form is first compared with the formula in float64, weighed, and looked at once; each of these figures is printed
at once. Then all forms run in turn, each once a round, until the time of the table is up. Before each step the cache is
overwritten, and the clock is a pair of events around the step. "ratio" is to the eager step with a fixed κ, in the same
round; "±" what half of the rounds stay within; "MB" the most that torch had allocated at once above the inputs, in
units of 10^6 bytes, without what cuBLAS keeps for itself from its first product on; "differs by" the largest relative
difference of loss or gradients from the formula at the same inputs; "regret" how far the energy of κ* lies above the
least of the candidates. TFLOP/s count the products that the step cannot do without, 2BCD operations each: three for a
given κ or the surrogate, four for the exact least squares.

    python -m benchmarks.gpu.step_table [--seconds 240] [--only ours --only eager] [--graph] [--shape 512,93431,512]
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ..step.form import NotThere, Step
from ..step.problem import KAPPA, Shape
from .clock import LONGEST, Clock, captured, in_turn, peak_bytes
from .forms import EAGER, FORMS, GROUPS, Form, kappa_of
from .goals import MILLION, NINETY_THOUSAND, goals
from .inputs import Inputs
from .machine import describe, device_of, first_line, parser, say, wait
from .reference import Difference, difference, regret
from .table import Table

BFLOAT16, FLOAT32 = torch.bfloat16, torch.float32
SMALLER = (Shape(512, 8142, 512), Shape(512, 1000, 512), Shape(256, 1000, 2048))
#: What matters most first: a run may end before the last.
TABLES = (
    (MILLION, BFLOAT16),
    (NINETY_THOUSAND, BFLOAT16),
    (MILLION, FLOAT32),
    (NINETY_THOUSAND, FLOAT32),
    *((shape, BFLOAT16) for shape in SMALLER),
    *((shape, FLOAT32) for shape in SMALLER),
)
QUICK = ((Shape(32, 300, 32), FLOAT32), (Shape(16, 100, 24), BFLOAT16))

#: Largest difference of ours from the formula, and largest regret. A gradient in bfloat16 is rounded by 2^-9.
TOLERANCE = {FLOAT32: 1e-4, BFLOAT16: 1e-2}
REGRET = {FLOAT32: 2e-6, BFLOAT16: 1e-5}


def main() -> int:
    options = read()
    device = device_of(options)
    if options.tf32:
        torch.backends.cuda.matmul.allow_tf32 = True
    say(describe(device) + (", float32 products in TF32" if options.tf32 else ""))
    deadline = time.monotonic() + options.seconds
    wanted = [
        (shape, dtype)
        for shape, dtype in (QUICK if options.quick else TABLES)
        if (not options.dtype or str(dtype) == f"torch.{options.dtype}")
    ]
    if options.shape:
        wanted = [(shape, dtype) for shape in options.shape for dtype in dict.fromkeys(dtype for _, dtype in wanted)]
    groups = options.only or [group for group in GROUPS if not (options.quick and group == "compile")]
    forms = [form for form in FORMS if form.group in groups or form.name == EAGER]
    tables: list[Table] = []
    for index, (shape, dtype) in enumerate(wanted):
        left = deadline - time.monotonic()
        if left <= 0:
            say(f"(B, C, D) = {shape}, {dtype}: not run: the time is up")
            continue
        # Twice an equal share for what comes first.
        share = min(left, 2 * left / (len(wanted) - index + 1))
        try:
            # Tiny shapes are for seeing that all forms run: two rounds, however busy the machine is.
            rounds = 2 if options.quick else 50
            tables.append(measure(shape, dtype, device, forms, time.monotonic() + share, options.graph, rounds))
        except Exception as fault:  # the next table may be possible
            say(f"(B, C, D) = {shape}, {dtype}: failed: {first_line(fault)}")
        empty(device)
    if device.type == "cuda":
        say("\nWhat is asked in bfloat16" + (", of steps replayed from a graph" if options.graph else "") + ":")
        for goal in goals(tables):
            say(str(goal))
    found = [each for table in tables for each in faults(table)]
    for each in found:
        say(f"DISAGREEMENT: {each}")
    if tables and not found:
        say("Ours agree with their formulas.")
    return 1 if found or len(tables) < bool(wanted) else 0


def read() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--seconds", type=float, default=240, help="of all tables (default: 240)")
    made.add_argument("--only", action="append", choices=GROUPS, help="forms of this group, and eager; repeatable")
    made.add_argument("--shape", type=Shape.read, action="append", metavar="B,C,D", help="repeatable; default: five")
    made.add_argument("--dtype", choices=("bfloat16", "float32"), help="default: both")
    made.add_argument("--graph", action="store_true", help="time replays of the step from a CUDA graph")
    made.add_argument("--tf32", action="store_true", help="float32 products in TF32")
    return made.parse_args()


def measure(
    shape: Shape,
    dtype: torch.dtype,
    device: torch.device,
    forms: list[Form],
    deadline: float,
    graph: bool,
    most: int,
) -> Table:
    """One table: each form prepared and looked at, then all in turn."""
    begin = time.monotonic()
    inputs, clock, table = Inputs(shape, device, dtype), Clock(device), Table(shape, str(dtype).removeprefix("torch."))
    say(f"\n(B, C, D) = {shape}, {table.precision}: {deadline - begin:.0f} s")
    ready: dict[str, Callable[[], object]] = {}
    for form in forms:
        # A third of the time belongs to the rounds.
        if time.monotonic() > begin + 2 / 3 * (deadline - begin):
            table.absent[form.name] = "not run: the time is up"
        else:
            try:
                run = prepare(form, inputs, table, clock, graph)
                if run is not None:
                    ready[form.name] = run
            except NotThere as reason:
                table.absent[form.name] = f"not there: {reason}"
            except torch.OutOfMemoryError:
                table.absent[form.name] = "out of memory"
            except Exception as fault:  # one form that fails is a line of the table
                table.absent[form.name] = f"failed: {first_line(fault)}"
        if form.name in table.absent:
            say(f"  {form.name}: {table.absent[form.name]}")
        inputs.features.grad = inputs.weight.grad = None
        empty(device)
    table.times = in_turn(ready, clock, deadline, most=most)
    say(str(table))
    return table


def prepare(form: Form, inputs: Inputs, table: Table, clock: Clock, graph: bool) -> Callable[[], object] | None:
    """Build a form, compare, weigh and warm it up, and say what was seen; None if it is too slow for rounds."""
    begin = time.monotonic()
    step = form.build(inputs)
    outcome = step.outcome()  # compiles what must be compiled
    wait(inputs.device)
    first = time.monotonic() - begin
    compare(form, step, inputs, outcome, table)
    del outcome
    step.clear()
    empty(inputs.device)
    peak = peak_bytes(step, inputs.device)
    step.clear()
    if peak is not None:
        table.peaks[form.name] = peak
    run: Callable[[], object] = captured(step) if graph else step
    run()
    seconds = clock(run)
    parts = [
        f"first step {first:.1f} s",
        f"then {1e3 * seconds:.3f} ms",
        f"differs by {table.differences[form.name]:.1e}",
    ]
    parts += [f"regret {table.regrets[form.name]:.1e}"] if form.name in table.regrets else []
    parts += [] if peak is None else [f"peak {peak / 1e6:.1f} MB, {(peak - inputs.gradient_bytes) / 1e6:.1f} beyond dW"]
    parts += [] if step.head is None else [": ".join(step.head.path(inputs.features, inputs.target))]
    say(f"  {form.name}: {'; '.join(parts)}")
    if seconds > LONGEST:
        table.once[form.name] = seconds
        return None
    return run


def compare(form: Form, step: Step, inputs: Inputs, outcome: tuple[Tensor, Tensor, Tensor], table: Table) -> Difference:
    """Loss and gradients with the formula at the κ that the step used; κ* with all candidates."""
    kappa: float | Tensor = KAPPA
    if form.kind != "fixed":
        kappa = kappa_of(step)
        if form.kind == "exact":
            table.regrets[form.name] = regret(inputs.features, inputs.weight, kappa)
    found = difference(inputs.features, inputs.weight, inputs.target, kappa, outcome)
    table.differences[form.name] = max(found)
    return found


def faults(table: Table) -> list[str]:
    """What is wrong with ours; the others' differences stand in the table."""
    dtype = getattr(torch, table.precision)
    where = f"{table.shape}, {table.precision}"
    return [
        *(
            f"{where}: {name} differs from the formula by {value:.1e}"
            for name, value in table.differences.items()
            if name.startswith("ours") and not value <= TOLERANCE[dtype]
        ),
        *(
            f"{where}: κ* of {name} exceeds the least energy by {value:.1e}"
            for name, value in table.regrets.items()
            if not value <= REGRET[dtype]
        ),
        *(f"{where}: {name} {why}" for name, why in table.absent.items() if _broken(name, why)),
    ]


def _broken(name: str, why: str) -> bool:
    """Whether it is a fault that a form of ours is absent: our fused step must always run."""
    fits = "plain" in name and why == "out of memory"
    return name.startswith("ours") and not fits and not why.startswith("not run")


def empty(device: torch.device) -> None:
    """Give back what the last form has held, so that no form runs out of memory because of another."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    sys.exit(main())
