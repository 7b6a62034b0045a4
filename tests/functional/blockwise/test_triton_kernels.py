"""Triton's kernels over a block of classes: against torch's in its interpreter, and through its compiler."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")

# The names of kernel_cases.py, which cannot be imported here: it would import Triton as this process has it.
CASES = [
    *("1x1", "1x5", "3x7", "33x129", "130x67", "9x257", "2x1100", "1x5 bias", "3x7 bias", "33x129 bias"),
    *("transposed", "transposed all", "sliced all", "expanded", "bf16", "bf16 bias", "bf16 low", "bf16 low sliced"),
    *("zero columns", "ties", "no target", "target beyond", "targets in place", "target alone", "no kappa asked"),
    *("one kappa asked", "kappa 148", "kappa 1e4", "kappa 1e4 bias", "kappa 1e6"),
    *(
        "NaN elsewhere",
        "NaN in the target",
        "NaN in the target's direction",
        "infinity elsewhere",
        "minus infinity elsewhere",
    ),
]


def report_of(device: str, **environment: str) -> dict[str, dict[str, Any]]:
    """Run all cases in a process of their own; ``kernel_cases.py`` says why."""
    program = Path(__file__).with_name("kernel_cases.py")
    variables = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"} | environment
    command = [sys.executable, "-W", "ignore", str(program), device]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    report: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return report


@needs_triton
def test_triton_equals_torch_in_the_interpreter() -> None:
    # One test for all cases: two workers that share them would start two processes.
    report = report_of("cpu", TRITON_INTERPRET="1", OMP_NUM_THREADS="1")
    assert list(report) == CASES
    assert {name: case["faults"] for name, case in report.items() if case["faults"]} == {}
    assert all(case["compared"] > 50 for case in report.values())


@needs_triton
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is at hand")
def test_triton_equals_torch_on_a_gpu() -> None:
    report = report_of("cuda")
    assert list(report) == CASES
    assert {name: case["faults"] for name, case in report.items() if case["faults"]} == {}


COMMON = {"column_stride": 1, "tile_rows": 4, "tile_columns": 1024}
ROWS_FIRST = {"row_stride": 1, "tile_rows": 64, "tile_columns": 64}
PROGRAMS: list[tuple[str, dict[str, int | bool], str]] = [
    ("largest_program", {**COMMON, "has_bias": False}, "bf16"),
    ("largest_program", {**ROWS_FIRST, "has_bias": True}, "bf16"),
    ("power_sums_program", {"column_stride": 1, "tile_rows": 1, "tile_columns": 1024, "levels": 9, "anew": 4}, "bf16"),
    ("weigh_program", {**COMMON, "has_bias": False, "has_out": True, "has_low": True, "out_column_stride": 1}, "bf16"),
    ("weigh_program", {**COMMON, "has_bias": True, "has_out": True, "has_low": False, "out_column_stride": 1}, "fp32"),
    ("weigh_program", {**COMMON, "has_bias": False, "has_out": False, "has_low": False}, "fp32"),
    ("project_program", {**COMMON, "tile_rows": 2, "slots": 4, "along_column_stride": 1}, "bf16"),
    (
        "gradient_program",
        {
            "column_stride": 1,
            "tile_rows": 16,
            "tile_columns": 128,
            "span": 128,
            "has_bias": True,
            "out_column_stride": 1,
        },
        "bf16",
    ),
    (
        "gradient_program",
        {"row_stride": 1, "tile_rows": 128, "tile_columns": 16, "span": 128, "has_bias": False},
        "fp32",
    ),
]


@needs_triton
@pytest.mark.parametrize(
    ("name", "constants", "out"), PROGRAMS, ids=[f"{number} {name}" for number, (name, *_) in enumerate(PROGRAMS)]
)
def test_each_program_compiles_for_a_hopper_gpu(
    name: str, constants: dict[str, int | bool], out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All the way to the machine's code, which needs no GPU: what the interpreter takes, the compiler may refuse."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from logitlab.functional.blockwise import triton_kernels, triton_programs

    program = getattr(triton_programs, name)
    if not isinstance(program, triton.runtime.JITFunction):
        pytest.skip("Triton interprets in this process")
    if "nvidia" not in triton.backends.backends:
        pytest.skip("this Triton has no compiler for NVIDIA's GPUs")
    of_int64, of_out = {"column", "nearest", "indices"}, {"out", "low"}
    sizes = {argument for argument in program.arg_names if argument.startswith("num_") or argument.endswith("_stride")}
    signature = {
        argument: "constexpr" if argument in constants
        else "i32" if argument in sizes
        else f"*{out}" if argument in of_out
        else "*i64" if argument in of_int64
        else "*fp32"
        for argument in program.arg_names
    }  # fmt: skip
    options = triton_kernels._CONTRACTED if name == "power_sums_program" else triton_kernels._EXACT
    aligned = {
        (index,): [["tt.divisibility", 16]] for index, kind in enumerate(signature.values()) if kind != "constexpr"
    }
    compiled = triton.compile(
        ASTSource(program, signature, constants, aligned), target=GPUTarget("cuda", 90, 32), options=options
    )
    assert len(compiled.asm["cubin"]) > 1000
    assembly = compiled.asm["ptx"]
    contracted = "fma.rn.f32" in assembly
    # A contracted product is another number than the same score elsewhere.
    assert contracted == (name == "power_sums_program")
    # Neighbours in memory are loaded four at a time.
    assert "ld.global.v4" in assembly
    if out == "bf16" and "out" in signature:
        assert "cvt.rn.bf16" in assembly
