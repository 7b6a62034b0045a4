"""The model of docs/scale.md: its numbers by hand, its constants and exchanges as the library has them."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from ranks import run_ranks

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = REPOSITORY / "docs" / "scale.md"


def load(name: str) -> ModuleType:
    """A module of the benchmark, which is not installed."""
    if str(REPOSITORY) not in sys.path:
        sys.path.append(str(REPOSITORY))
    return import_module(f"benchmarks.scale.{name}")


setting, protocol, memory, roofline, tables = map(load, ("setting", "protocol", "memory", "roofline", "tables"))
Setting, Machine = setting.Setting, setting.Machine


def by_name(found: list[Any]) -> dict[str, float]:
    """Bytes sent, by exchange."""
    sent: dict[str, float] = {}
    for each in found:
        sent[each.what] = sent.get(each.what, 0.0) + each.sent(4, 10)
    return sent


def test_bytes_of_a_step_with_a_fixed_kappa_by_hand() -> None:
    # 4 ranks with 10 samples each: 30 samples come from others; D = 8 in bfloat16.
    sent = by_name(protocol.exchanges(Setting(4, 10, 1000, 8)))
    assert sent == pytest.approx(
        {
            "targets": 30 * 8,
            "features": 30 * 8 * 2,
            "lengths of features": 30 * 4,
            "the sums over the rivals": 30 * 3 * 4,
            "the number of samples": 2 * 3 / 4 * 4,
            "the loss": 2 * 3 / 4 * 4,
            "gradients of the terms": 30 * 3 * 4,
            "gradients of the features": 30 * 8 * 4,
        }
    )


def test_bytes_of_a_step_with_least_squares_by_hand() -> None:
    # 9 levels of 3 sums, 4 candidates, and 8 of 10 samples of each rank twice: 24 of the 30 come from others.
    sent = by_name(protocol.exchanges(Setting(4, 10, 1000, 8, least_squares=True, undecided=0.5)))
    assert sent == pytest.approx(
        {
            "targets": 30 * 8,
            "features": 30 * 8 * 2,
            "lengths of features": 30 * 4,
            "the power sums": 30 * (1 + 1 + 27) * 4,
            "the weights of the targets": 30 * 8 * 2,
            "κ and the largest cosine": 30 * 2 * 4,
            "the reconstructions": 30 * (8 + 1) * 4,
            "directions across the features": 15 * 8 * 2,
            "κ to rule out": 15 * 4 * 4,
            "the projections": 15 * 12 * 4,
            "which rows are tried": 2 * 24 * 8,
            "a κ to try": 2 * 24 * 4,
            "reconstructions that were tried": 2 * 24 * (8 + 1) * 4,
            "κ": 30 * 4,
            "κ* and which samples count": 30 * 2 * 4,
            "the number of samples": 6,
            "the loss": 6,
            "gradients of the terms": 30 * 3 * 4,
        }
    )


def test_a_ring_sends_what_a_simulated_ring_sends() -> None:
    """Blocks that go round, one hop after the other, counted for each rank."""
    for ranks in (2, 3, 8):
        numbers = 5 * ranks
        have = [{rank} for rank in range(ranks)]
        gathered = [0] * ranks
        for hop in range(ranks - 1):
            for rank in range(ranks):
                block = (rank - hop) % ranks
                assert block in have[rank]
                gathered[rank] += 5
                have[(rank + 1) % ranks].add(block)
        assert all(len(blocks) == ranks for blocks in have)
        # Reduce-scatter is the same way backwards; all-reduce is both.
        gather = protocol.Exchange("", "all_gather", 1, 1)
        assert {gather.sent(ranks, 5)} == set(gathered)
        for operation, factor in (("reduce_scatter", 1), ("all_to_all", 1), ("all_reduce", 2)):
            found = protocol.Exchange("", operation, 1, 1).sent(ranks, 5)
            assert found == pytest.approx(factor * gathered[0]) == pytest.approx(factor * numbers * (ranks - 1) / ranks)


def test_partial_fc_and_a_replicated_weight_by_hand() -> None:
    case = Setting(8, 64, 10**7, weight=4)
    # N (R - 1)/R = 448 samples: 512 floats there and back, a label of 8 bytes, three numbers reduced and spread.
    assert protocol.sent(protocol.partial_fc(case), case) == pytest.approx(448 * (512 * 4 * 2 + 8 + 3 * 2 * 4))
    assert protocol.replicated(case) == pytest.approx(2 * 7 / 8 * 10**7 * 512 * 4)
    sampled = replace(case, share=0.1)
    assert protocol.partial_fc(sampled) == protocol.partial_fc(case)
    # 64 x 8 samples, 1.25 million classes: weight, gradient, momentum; half-precision weight; 12 bytes a logit.
    assert memory.partial_fc(case) == pytest.approx(1.25e6 * 512 * (12 + 2) + 512 * (12 * 1.25e6 + 8 * 512))
    expected = 1.25e6 * 512 * 12 + 1.25e5 * 512 * 6 + 512 * (12 * 1.25e5 + 8 * 512)
    assert memory.partial_fc(sampled) == pytest.approx(expected)


def test_memory_by_hand() -> None:
    case = Setting(64, 128, 10**7, weight=4, state=2)
    # 156,250 classes of 512 numbers: weight, gradient, two states, 4 bytes each.
    assert memory.state(case) == 156_250 * 512 * 16
    # 8,192 samples x 156,250 classes x 4 bytes are 5.1 GB: not kept, but for blocks of 2^23 scores.
    assert not case.kept
    assert memory.scores(case) == 2**23 * (4 + 4 + 2)
    small = replace(case, rows=4)
    assert small.kept
    assert memory.scores(small) == 256 * 156_250 * 4 + 2**23 * (4 + 2)
    wide = replace(case, rows=32, operand=4)
    assert wide.kept
    assert memory.scores(wide) == 2048 * 156_250 * 4 + 2**23 * (4 + 4)
    assert memory.rows(case) == pytest.approx(8192 * (512 * (2 + 2 * 4) + 32) + 128 * 512 * 4 * 2.4)
    searched = memory.rows(replace(case, least_squares=True))
    assert searched == 8192 * (512 * (2 + 4 * 4) + 27 * 6 * 4) + 128 * 512 * 4 * 5
    assert memory.peak(case) == memory.state(case) + memory.scores(case) + memory.rows(case)
    # Memory of the classes falls as 1/R.
    assert memory.state(case) * 64 == memory.state(replace(case, ranks=1))


@pytest.mark.parametrize("case", [Setting(8, 512, 1), Setting(512, 512, 1, weight=4, state=2, least_squares=True)])
def test_the_most_classes_fill_the_memory(case: Any) -> None:
    capacity = Machine().capacity
    most = memory.largest_classes(case, capacity)
    left = [capacity - memory.peak(replace(case, classes=math.floor(most) + more, keep=False)) for more in (0, 1)]
    assert left[0] >= 0 > left[1]


def test_sampling_draws_at_least_as_many_classes_as_there_are_samples() -> None:
    case = Setting(8, 64, 10**6, share=0.1)
    assert case.active == 12_500
    assert replace(case, share=0.001).active == 512
    assert replace(case, classes=2000, share=0.1).active == 250
    half = replace(case, share=0.5)
    assert memory.state(half) - memory.state(replace(case, share=1.0)) == 62_500 * 512 * 2 * 2
    whole, sampled = (sum(roofline.times(each, Machine())[:2]) for each in (replace(case, keep=True, share=1.0), half))
    assert sampled == pytest.approx(whole / 2)


def test_times_by_hand() -> None:
    machine = Machine()
    case = Setting(8, 64, 10**6)
    found = roofline.times(case, machine)
    scores = 512 * 125_000
    assert case.kept
    assert found.products == pytest.approx(3 * 2 * scores * 512 / 790e12)
    # Three kernels read 4 bytes a score, the last writes 2 beside; kept scores come from memory.
    assert found.kernels == pytest.approx(scores * (4 + 6 + 6) / 4.3e12)
    # Eight blocks of 16,384 classes; a matrix of a megabyte, written and read twice, stays in the cache.
    assert found.sums == pytest.approx(8 * 4 * 512 * 512 * 4 / 5.5e12)
    # Read for its lengths and two products, its gradient written; SGD moves 3 numbers of 2 bytes, and 2 of 4.
    assert found.weight == pytest.approx(125_000 * 512 * (4 * 2 + 3 * 2 + 2 * 4) / 4.3e12)
    assert found.network == pytest.approx(protocol.sent(protocol.exchanges(case), case) / 450e9)
    assert found.latency == pytest.approx(8 * 3 * 10e-6)
    assert found.total == pytest.approx(sum(found))
    assert found.compute + found.communication == pytest.approx(found.total)


def test_bandwidth_within_and_between_nodes() -> None:
    machine = Machine()
    assert machine.bandwidth(8, "all_gather") == 450e9
    assert machine.bandwidth(9, "all_gather") == machine.bandwidth(9, "all_to_all") == 50e9
    rails = replace(machine, rails=True)
    assert rails.bandwidth(64, "reduce_scatter") == 400e9
    assert rails.bandwidth(64, "all_to_all") == 50e9
    assert replace(rails, nvlink=100e9).bandwidth(64, "all_gather") == 100e9
    hops = replace(machine, hops=True)
    case = Setting(512, 64, 10**7)
    assert roofline.latency(protocol.exchanges(case), case, hops) == pytest.approx(9 * 511 * 10e-6, rel=0.2)


def test_products_do_not_depend_on_the_number_of_ranks_and_bytes_grow_with_it() -> None:
    for searched in (False, True):
        few, many = (Setting(ranks, 64, 10**7, least_squares=searched, keep=False) for ranks in (8, 512))
        assert roofline.times(few, Machine()).products == pytest.approx(roofline.times(many, Machine()).products)
        sent = [protocol.sent(protocol.exchanges(each), each) for each in (few, many)]
        assert sent[1] / sent[0] == pytest.approx(511 / 7, rel=1e-4)


def test_the_classes_a_rank_by_hand_and_by_the_times() -> None:
    machine = Machine()
    # 2 D + 4 D bytes for the rows of D numbers and 36 for the rest, three products.
    case = Setting(2, 128, 10**7, keep=True)
    least = roofline.classes_a_rank(case, machine)
    assert least == pytest.approx(790e12 * (6 * 512 + 36) / (2 * 3 * 512 * 50e9))
    ranks = round(10**7 / least)
    found = roofline.times(replace(case, ranks=ranks), machine)
    assert found.network == pytest.approx(found.products, rel=0.01)
    # Whatever the batch is.
    found = roofline.times(replace(case, ranks=ranks, rows=7), machine)
    assert found.network == pytest.approx(found.products, rel=0.01)


def test_saturation_is_where_communication_first_takes_as_long_as_all_else() -> None:
    machine = Machine()
    for searched in (False, True):
        case = Setting(8, 128, 10**6, least_squares=searched)
        ranks = roofline.saturation(case, machine)
        before, after = (roofline.times(replace(case, ranks=each), machine) for each in (ranks - 1, ranks))
        assert before.communication < before.compute
        assert after.communication >= after.compute
    assert roofline.saturation(case, replace(machine, network=1e15, latency=0.0)) is None
    assert [roofline.first(lambda number: number >= 37, 2, 1000), roofline.first(lambda number: True, 2, 9)] == [37, 2]


def test_the_constants_are_those_of_the_library() -> None:
    scores, search = (import_module(f"logitlab.functional.blockwise.{name}") for name in ("scores", "search"))
    power_sums = import_module("logitlab.functional.least_squares.power_sums")
    assert (setting.LEVELS, setting.SLOTS) == (power_sums.LEVELS, search._SLOTS)
    assert setting.ROUNDS == search._ROUNDS
    assert all(Setting(2, rows, 10).tried * rows == search._number_tried(rows) for rows in (1, 7, 8, 64, 65, 512))
    for samples, classes in ((64, 10**6), (512, 10**6), (3000, 10**6), (2**15, 10**6), (2**18, 10**6), (512, 1000)):
        # Of a weight on a GPU the shape and the place are asked, no more.
        weight = SimpleNamespace(shape=(classes, 512), is_cuda=True)
        rows = SimpleNamespace(operand=torch.empty(samples, 512, device="meta"), scale=torch.empty(0))
        found = scores.Scores(rows, weight, None, None, False).size
        assert Setting(1, samples, classes).block == found
    for dtype in (torch.bfloat16, torch.float32):
        for features in (256, 512, 1024, 1025, 2048):
            operand = SimpleNamespace(shape=(512, features), dtype=dtype, is_cuda=True)
            for classes in (2**17, 2**17 + 1, 2**20, 2**20 + 1, 10**7):
                kept = Setting(1, 512, classes, features, operand=dtype.itemsize).kept
                assert kept == scores.keep_scores(operand, classes, torch.float32)


def one_rank(rank: int, ranks: int) -> list[Any]:
    found = load("measuring").one_rank(rank, ranks)
    return [tuple(each) for each in found]


def test_two_gloo_ranks_hand_over_and_multiply_what_was_computed() -> None:
    measuring = load("measuring")
    by_rank = run_ranks(one_rank, 2, 2)
    for index, case in enumerate(measuring.CASES):
        for found in by_rank:
            measured = measuring.Measured(*found[index])
            assert measured.case == case.name
            assert measuring.differences(case, 2, measured) == []
            assert len(measured.traffic) >= 8
            wrong = measured._replace(operations=measured.operations + 1, traffic=measured.traffic[1:])
            assert len(measuring.differences(case, 2, wrong)) >= 3


def test_the_tables_of_the_page_are_what_the_script_prints() -> None:
    found = tables.all_tables(Setting(8, 64, 10**7), Machine())
    page = PAGE.read_text(encoding="utf-8")
    assert load("page").filled(page, found) == page, "docs/scale.md is old: python -m benchmarks.scale --write"
    assert len(found) == 9
    assert (PAGE.with_suffix(".png")).is_file()
    with pytest.raises(ValueError, match=r"Expected a pair of marks for each of \['other'\] in the page\. Got \['ex"):
        load("page").filled(page, {"other": ""})


def test_the_script_prints_the_tables_and_one_setting() -> None:
    command = [sys.executable, "-m", "benchmarks.scale"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.startswith("Times are estimates of a roofline over these assumptions, not measurements:\n")
    for table in tables.all_tables(Setting(8, 64, 10**7), Machine()).values():
        assert table in done.stdout
    one = ["--setting", "64,512,10000000", "--least-squares", "--network", "100e9"]
    done = subprocess.run([*command, *one], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=True)
    case = Setting(64, 512, 10**7, least_squares=True)
    network = 1e3 * roofline.times(case, Machine(network=100e9)).network
    assert re.search(rf"^network +{network:.3f}$", done.stdout, re.MULTILINE)
    assert "ESTIMATED milliseconds" in done.stdout


def peaks_of_one_rank(rank: int, ranks: int) -> list[int]:
    return list(load("measuring").peaks_of_one_rank(rank, ranks))


def test_two_gloo_ranks_allocate_what_was_computed() -> None:
    measuring = load("measuring")
    computed = measuring.expected_peaks(2)
    for peaks in run_ranks(peaks_of_one_rank, 2, 2):
        assert peaks == pytest.approx(computed, rel=measuring.MEMORY_TOLERANCE)


@pytest.mark.slow
def test_the_page_shows_what_gloo_ranks_measure() -> None:
    # Two ranks are measured above, and four cost as much again as three.
    code = "from benchmarks.scale.measuring import report; text, faults = report((3,)); print(text); assert not faults"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    page = PAGE.read_text(encoding="utf-8")
    traffic, allocated = (re.findall(r"^\| \d.*$", part, re.MULTILINE) for part in done.stdout.split("float32;"))
    assert (len(traffic), len(allocated)) == (5, 2)
    # Which samples are undecided may hang on a last digit.
    assert [row for row in traffic if "looking" not in row and row not in page] == []
    # What is allocated at once moves a little from run to run; what is computed does not.
    computed = [re.escape(row).rsplit(r"\|", 3) for row in allocated]
    assert [row for row in computed if not re.search(rf"{row[0]}\| \d+ \|{row[2]}\|", page)] == []
