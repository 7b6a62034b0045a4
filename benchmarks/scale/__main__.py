"""What a step costs where C classes are split over R ranks: bytes a rank sends, memory of a rank, time.

Traffic, products and memory are checked by ``--measure``. TIMES ARE ESTIMATES: a roofline over assumptions about an
H200 and its network, which are options here; nothing overlaps, nothing was measured on a GPU.

    uv run python -m benchmarks.scale                 the tables of docs/scale.md
    uv run python -m benchmarks.scale --write         put them and the picture there
    uv run python -m benchmarks.scale --setting 64,512,1000000 --least-squares      one step, term by term
    uv run python -m benchmarks.scale --measure       2, 3 and 4 gloo ranks: what they hand over, multiply and allocate
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from . import memory, page, protocol, tables
from .roofline import products, times
from .setting import GIB, Machine, Setting

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scale.md"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--write", action="store_true", help="put what is printed into docs/scale.md, and its picture there"
    )
    made.add_argument("--measure", action="store_true", help="run gloo ranks; exit code 1 where they differ")
    made.add_argument("--setting", metavar="R,N,C", help="one step: ranks, samples a rank, classes")
    made.add_argument("--least-squares", action="store_true", help="with --setting: search for κ*")
    step = made.add_argument_group("the step")
    step.add_argument("--features", type=int, default=512, help="D (default: 512)")
    step.add_argument("--operand", type=int, choices=(2, 4), default=2, help="bytes of what is multiplied (default: 2)")
    step.add_argument("--weight", type=int, choices=(2, 4), default=2, help="bytes of a number of W (default: 2)")
    step.add_argument(
        "--state", type=int, choices=(0, 1, 2), default=1, help="1: SGD with momentum (default); 2: AdamW"
    )
    step.add_argument("--state-width", type=int, choices=(2, 4), default=4, help="bytes of each (default: 4)")
    step.add_argument(
        "--undecided", type=float, default=1.0, help="share of undecided samples (default: 1, as on a GPU)"
    )
    step.add_argument("--share", type=float, default=1.0, help="of the classes, with sampling (default: 1)")
    assumed = made.add_argument_group("assumptions about the machine")
    for field in dataclasses.fields(Machine):
        flag = f"--{field.name.replace('_', '-')}"
        if field.type == "bool":
            assumed.add_argument(flag, action="store_true")
        else:
            assumed.add_argument(
                flag, type=type(field.default), default=field.default, help=f"(default: {field.default:g})"
            )
    return made


def main() -> int:
    options = vars(parser().parse_args())
    machine = Machine(**{field.name: options[field.name] for field in dataclasses.fields(Machine)})
    names = ("features", "operand", "weight", "state", "state_width", "undecided", "share")
    base = Setting(8, 64, 10**7, **{name: options[name] for name in names})
    if options["measure"]:
        from .measuring import report

        text, faults = report()
        print(text)
        print("\n" + ("\n".join(faults) or "Every exchange and every product is as computed, and memory nearly so."))
        if options["write"] and not faults:
            PAGE.write_text(page.with_measured(PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")
        return bool(faults)
    if options["setting"]:
        ranks, rows, classes = map(int, options["setting"].split(","))
        print(
            one(
                dataclasses.replace(
                    base, ranks=ranks, rows=rows, classes=classes, least_squares=options["least_squares"]
                ),
                machine,
            )
        )
        return 0
    found = tables.all_tables(base, machine)
    if options["write"]:
        from .figure import draw

        PAGE.write_text(page.filled(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
        draw(base, machine, PAGE.with_suffix(".png"))
        return 0
    print("Times are estimates of a roofline over these assumptions, not measurements:")
    print(", ".join(f"{name} {value:g}" for name, value in dataclasses.asdict(machine).items()))
    for name, table in found.items():
        print(f"\n{name}\n\n{table}")
    return 0


def one(setting: Setting, machine: Machine) -> str:
    """A step, term by term."""
    lines = [f"{field}: {value}" for field, value in dataclasses.asdict(setting).items()]
    lines.append(f"scores kept: {setting.kept}; block of {setting.block:g} classes")
    lines += ["", "exchange, operation, bytes sent"]
    for each in protocol.exchanges(setting):
        lines.append(f"{each.what:36s} {each.operation:15s} {each.sent(setting.ranks, setting.rows):16,.0f}")
    lines += ["", "memory, GiB"]
    for part in (memory.state, memory.scores, memory.rows, memory.peak):
        lines.append(f"{part.__name__:10s} {part(setting) / GIB:10.3f}")
    lines += [
        "",
        "products of 2 N c D operations: " + ", ".join(f"{k} {v:g}" for k, v in products(setting)._asdict().items()),
    ]
    lines += ["", "ESTIMATED milliseconds"]
    found = times(setting, machine)
    lines += [f"{name:10s} {1e3 * value:10.3f}" for name, value in {**found._asdict(), "total": found.total}.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
