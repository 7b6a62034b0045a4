"""The tables of docs/scale.md."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from . import memory, protocol
from .roofline import Times, classes_a_rank, products, saturation, times
from .setting import GIB, Machine, Setting

RANKS, CLASSES, ROWS = (8, 64, 512), (10**7, 10**6), (64, 128, 512)
#: What an optimiser keeps for each number of the weight.
OPTIMIZERS = {"SGD, momentum": 1, "AdamW": 2}


def number(value: float) -> str:
    """Three digits that count, thousands apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def milliseconds(seconds: float) -> str:
    """Two digits behind the point, fewer of what is long."""
    value = 1e3 * seconds
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def power(classes: int) -> str:
    """10⁷, and what is no power of ten with its thousands apart."""
    exponent = len(str(classes)) - 1
    return f"10{'⁰¹²³⁴⁵⁶⁷⁸⁹'[exponent]}" if classes == 10**exponent else f"{classes:,}"


def markdown(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [" | ".join(each) for each in (head, ["---"] * len(list(head)), *rows)]
    return "\n".join(f"| {line} |" for line in lines)


def all_tables(base: Setting, machine: Machine) -> dict[str, str]:
    """By name, in the order of the page; ``base`` says what the tables do not vary."""
    return {
        "exchanges": exchanges(base),
        "extra": extra(base),
        "traffic": traffic(base),
        "memory": memory_of_a_rank(base),
        "largest": largest(base, machine),
        "time_fixed": time(base, machine),
        "time_search": time(replace(base, least_squares=True), machine),
        "saturation": saturated(base, machine),
        "longest": longest(base, machine),
    }


def exchanges(base: Setting) -> str:
    """Numbers for each sample of all ranks, by exchange."""
    fixed = {each.what: each for each in protocol.exchanges(replace(base, least_squares=False))}
    searched: dict[str, list[protocol.Exchange]] = {}
    for each in protocol.exchanges(replace(base, least_squares=True)):
        searched.setdefault(each.what, []).append(each)

    def of(found: list[protocol.Exchange]) -> str:
        if not found:
            return ""
        each, wide = found[0], found[0].numbers - base.features
        if each.once:
            return "one in all"
        size = f"{each.numbers:g}" if wide < 0 else f"D{f' + {wide:g}' if wide else ''}"
        part = "" if each.part == 1 else f", {each.part:.0%} of the samples"
        times = "" if len(found) == 1 else f"{len(found)} × "
        return f"{times}{size}{part}"

    rows = []
    order = [*list(fixed)[:3], *list(searched)[3:]]
    order[3:3] = [what for what in fixed if what not in searched][:1]
    order += [what for what in fixed if what not in order]
    for what in order:
        here = searched.get(what) or [fixed[what]]
        kind = {2: "bfloat16", 4: "float32", 8: "int64"}[here[0].width]
        rows.append(
            [what, here[0].operation, kind, of([fixed[what]] if what in fixed else []), of(searched.get(what, []))]
        )
    return markdown(["exchange", "operation", "dtype", "fixed κ", "least squares"], rows)


def extra(base: Setting) -> str:
    """What the search adds to a step."""
    found = [each for each in protocol.exchanges(replace(base, least_squares=True)) if each.search]
    wide = list(dict.fromkeys(each.what for each in found if each.numbers >= base.features))
    groups = {"the power sums, the largest cosine and the target's": found[:1]}
    groups["all other numbers"] = [each for each in found[1:] if each.what not in wide]
    groups |= {what: [each for each in found if each.what == what] for what in wide}
    rows = []
    for name, group in groups.items():
        numbers = sum(each.part * each.numbers * (2 if each.operation == "all_reduce" else 1) for each in group)
        rows.append([name, number(numbers), number(_bytes(group))])
    rows.append(["**all that the search adds**", "", f"**{number(_bytes(found))}**"])
    for name, searched in (("a step with fixed κ", False), ("a step with least squares", True)):
        rows.append([name, "", number(_bytes(protocol.exchanges(replace(base, least_squares=searched))))])
    return markdown(["", "numbers a sample", "bytes a sample"], rows)


def _bytes(found: list[protocol.Exchange]) -> float:
    return sum(each.bytes_a_row() for each in found)


def traffic(base: Setting) -> str:
    """MB that a rank sends."""
    rows = []
    for ranks in RANKS:
        for count in ROWS:
            here = replace(base, ranks=ranks, rows=count)
            wide = replace(here, operand=4, weight=4)
            each = [
                protocol.sent(protocol.exchanges(replace(setting, least_squares=searched)), setting)
                for searched in (False, True)
                for setting in (here, wide)
            ]
            each += [
                protocol.sent(protocol.partial_fc(here), here),
                protocol.replicated(replace(wide, classes=CLASSES[0])),
            ]
            rows.append([str(ranks), str(count), *(number(value / 1e6) for value in each)])
    head = ["ranks", "samples a rank", "fixed κ", "in float32", "least squares", "in float32"]
    head += ["PartialFC", f"dense head in DDP, C = {power(CLASSES[0])}"]
    return markdown(head, rows)


def memory_of_a_rank(base: Setting) -> str:
    """GiB."""
    head = ["C", "ranks", "samples a rank"]
    head += [f"weight in {dtype}, {name}" for dtype in ("float32", "bfloat16") for name in OPTIMIZERS]
    head += ["scores", "samples of all ranks", "PartialFC, SGD, all classes", "PartialFC, SGD, a tenth"]
    rows = []
    for classes in CLASSES:
        for ranks in RANKS:
            for count in (ROWS[0], ROWS[-1]):
                here = replace(base, classes=classes, ranks=ranks, rows=count, least_squares=True)
                each = [
                    memory.state(replace(here, weight=weight, state=state))
                    for weight in (4, 2)
                    for state in OPTIMIZERS.values()
                ]
                each += [memory.scores(here), memory.rows(here)]
                each += [memory.partial_fc(replace(here, share=share)) for share in (1.0, 0.1)]
                rows.append([power(classes), str(ranks), str(count), *(number(value / GIB) for value in each)])
    return markdown(head, rows)


def largest(base: Setting, machine: Machine) -> str:
    """Millions of classes."""
    rows = []
    for ranks in (1, *RANKS):
        here = replace(base, ranks=ranks, rows=ROWS[-1], least_squares=True)
        each = [
            memory.largest_classes(replace(here, weight=weight, state=state), machine.capacity)
            for weight in (4, 2)
            for state in OPTIMIZERS.values()
        ]
        rows.append([str(ranks), *(number(value / 1e6) for value in each)])
    head = [f"{name}, {dtype}" for dtype in ("float32", "bfloat16") for name in OPTIMIZERS]
    return markdown(["ranks", *head], rows)


def time(base: Setting, machine: Machine) -> str:
    """Milliseconds of a step, with both networks."""
    rows = []
    for classes in CLASSES:
        for ranks in RANKS:
            for count in ROWS:
                here = replace(base, ranks=ranks, rows=count, classes=classes)
                slow, fast = (times(here, replace(machine, rails=rails)) for rails in (False, True))
                operations = sum(products(here)) * 2 * here.all_rows * here.active * here.features
                parts = [slow.products, slow.kernels, slow.sums, slow.weight, slow.network, fast.network]
                parts += [slow.latency, slow.total, fast.total]
                row = [power(classes), str(ranks), str(count), number(operations / 1e12)]
                rows.append(row + [milliseconds(value) for value in parts])
    head = ["C", "ranks", "samples a rank", "TFLOP a rank", "products", "kernels", "sums", "weight", "network, a card"]
    return markdown([*head, "network, 8 cards", "latency", "step, a card", "step, 8 cards"], rows)


def saturated(base: Setting, machine: Machine) -> str:
    """From how many ranks on the network takes as long as all else."""
    rows = []
    for searched in (False, True):
        for rails in (False, True):
            network = replace(machine, rails=rails)
            kept = replace(base, least_squares=searched, keep=True)
            least = classes_a_rank(kept, network)
            row = ["least squares" if searched else "fixed κ", "8 cards a ring" if rails else "a card"]
            row.append(number(round(least, -2)))
            for classes in (10**7, 10**6, 10**5):
                here = replace(base, least_squares=searched, classes=classes, rows=128)
                found = saturation(here, network)
                row.append("never" if found is None else number(found))
            rows.append(row)
    head = ["", "network", "classes a rank where bytes = products"]
    return markdown([*head, *(f"ranks at C = {power(classes)}" for classes in (10**7, 10**6, 10**5))], rows)


def longest(base: Setting, machine: Machine) -> str:
    """The part of a step that takes longest."""
    rows = []
    for classes in (10**7, 10**6, 10**5):
        for searched in (False, True):
            row = [power(classes), "least squares" if searched else "fixed κ"]
            for ranks in RANKS:
                here = replace(base, classes=classes, ranks=ranks, rows=128, least_squares=searched)
                found = times(here, machine)
                name = max(Times._fields, key=found._asdict().__getitem__)
                row.append(f"{name}, {found._asdict()[name] / found.total:.0%}")
            rows.append(row)
    return markdown(["C", "", *(f"{ranks} ranks" for ranks in RANKS)], rows)
