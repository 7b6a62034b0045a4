"""The agenda of a GPU runs nothing and writes nothing without one, and every script of it works, tiny, on a CPU."""

from __future__ import annotations

import math
import os
import re
import shutil
import stat
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDER = REPOSITORY / "benchmarks" / "gpu"
AGENDA = FOLDER / "agenda.sh"
SCRIPTS = sorted(set(re.findall(r"\$\(module (\w+)\)", AGENDA.read_text(encoding="utf-8"))))
STEPS = re.findall(r"^ *(?:step|measured) (\w+) \d+ ", AGENDA.read_text(encoding="utf-8"), re.MULTILINE)

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="the agenda is a script of bash")


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of the benchmark, which is not installed."""
    monkeypatch.syspath_prepend(str(REPOSITORY))

    def load(name: str, package: str = "gpu") -> ModuleType:
        return import_module(f"benchmarks.{package}.{name}")

    return load


def run_agenda(folder: Path, *steps: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(AGENDA), str(folder), *steps],
        env={**os.environ, "PYTHON": sys.executable, "AGENDA_RESULTS": str(folder.parent), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@needs_bash
def test_without_a_gpu_nothing_is_run_and_nothing_is_written(tmp_path: Path) -> None:
    done = run_agenda(tmp_path / "folder", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{name}: not run: no GPU" for name in STEPS]
    assert {"kernels", "heads", "table", "table_peers", "sharded", "resnet50"} <= set(STEPS)
    assert list(tmp_path.iterdir()) == []


@needs_bash
def test_steps_with_a_gpu(tmp_path: Path) -> None:
    """The shell's part of the work, with a program that says that there is a GPU in the place of Python."""
    fake = tmp_path / "python"
    fake.write_text(
        "#!/bin/sh\n"
        'case "$*" in *device_count*) echo 1 ;; *heads_on_device*) echo half; exit 3 ;;\n'
        '  *step_table*graph*) echo so far; sleep 60 ;; *) echo "ran $*" ;; esac\n'
    )
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    results = tmp_path / "results"
    results.mkdir()
    options = {"PYTHON": str(fake), "AGENDA_RESULTS": str(results)}
    steps = ("kernels", "heads", "table_graph", "conformance", "compare", "processes")
    done = run_agenda(tmp_path / "folder", *steps, AGENDA_SECONDS="4", **options)
    assert done.returncode == 1
    # The third step is cut off, and nothing is left for those behind it.
    assert "heads FAILED: half (ended with exit code 3)" in done.stdout
    assert "table_graph FAILED: so far (ended with exit code 124)" in done.stdout
    assert "conformance: not run: the time is up" in done.stdout
    assert "processes: not run: one GPU only" in done.stdout
    written = {"kernels": "ran -m benchmarks.gpu.kernels_on_device\n", "heads": "half\n(ended with exit code 3)\n"}
    written["table_graph"] = "so far\n(ended with exit code 124)\n"
    for name, text in written.items():
        assert (tmp_path / "folder" / f"{name}.txt").read_text() == text
        assert (results / f"gpu_{name}.txt").read_text() == text
    gathered = "".join(f"== {name}\n{text}\n" for name, text in written.items())
    assert (tmp_path / "folder" / "agenda.txt").read_text() == gathered
    assert len(list(results.iterdir())) == len(written)
    # What is no measurement is no result; a step that is not there is a fault.
    done = run_agenda(tmp_path / "other", "conformance", "nonsense", **options)
    assert done.returncode == 1
    assert "There is no step nonsense. There are: versions kernels" in done.stdout
    assert not (results / "gpu_conformance.txt").exists()
    assert "ran -m pytest" in (tmp_path / "other" / "conformance.txt").read_text()


def test_the_status_is_that_of_the_results() -> None:
    results = list((REPOSITORY / "benchmarks" / "results").glob("gpu_*.txt"))
    assert ("**Status: not run.**" in (FOLDER / "README.md").read_text(encoding="utf-8")) == (not results)
    for file in results:
        assert "CPU: a trial" not in file.read_text(encoding="utf-8"), f"{file.name} is no result of a GPU"


def test_the_page_names_every_step() -> None:
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [name for name in STEPS if f"`{name}`" not in page] == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would run")
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_alone_says_that_it_was_not_run(
    name: str, part: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name])
    with pytest.raises(SystemExit) as end:
        part(name).main()
    assert end.value.code == 0
    assert capsys.readouterr().out == "not run: no GPU\n"


@pytest.fixture
def trial(part: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a script on the CPU with tiny shapes, in this process; what it printed."""

    def run(name: str, *options: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, "--device", "cpu", "--quick", *options])
        code = part(name).main()
        printed = capsys.readouterr().out
        assert code == 0, printed
        assert printed.startswith("CPU: a trial of the script, no figures of a GPU. ")
        return printed

    return run


@pytest.mark.slow
def test_the_table_of_the_step(trial: Any, part: Any) -> None:
    printed = trial("step_table")
    forms, tables = part("forms").FORMS, printed.split("\n(B, C, D) = ")[1:]
    tables = [table for table in tables if " rounds; " in table.splitlines()[0]]
    assert len(tables) == 2
    for table in tables:
        for form in forms:
            if form.group == "compile":
                continue
            row = re.search(rf"^{re.escape(form.name)} +(\S.*)$", table, re.MULTILINE)
            assert row is not None, f"no line of {form.name!r} in\n{table}"
            if row.group(1).startswith("not there: "):
                assert form.group in ("torch", "peers") or form.name == "eager, logits in half precision"
                continue
            numbers = [float(number.rstrip("%")) for number in row.group(1).split()]
            assert all(math.isfinite(number) for number in numbers)
            assert len(numbers) >= 4 + (form.kind == "exact")  # ms, spread, ratio, difference; regret
    assert "Ours agree with their formulas." in printed
    assert "What is asked" not in printed  # of a GPU


def test_the_heads_on_a_cpu(trial: Any, part: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part("heads_on_device"), "QUICK", (part("problem", "step").Shape(9, 130, 24),))
    printed = trial("heads_on_device")
    for name in part("heads_on_device").makers(2):
        head = rf"^ok    \(9, 130, 24\), \w+, {re.escape(name)}: (regret \S+, )?losses \S+, features \S+, weight "
        assert len(re.findall(head, printed, re.MULTILINE)) == 2
        assert (
            len(
                re.findall(
                    rf"32, {re.escape(name)}: three steps of training, not captured|float16, {re.escape(name)}: three",
                    printed,
                )
            )
            == 2
        )
    assert "Waiting for the host, and CUDA graphs: not run: no GPU" in printed


def test_a_head_that_is_wrong_is_noticed(part: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module, Inputs, Shape = part("heads_on_device"), part("inputs").Inputs, part("problem", "step").Shape
    inputs = Inputs(Shape(9, 130, 24), torch.device("cpu"), torch.float32)
    checks = part("checks").Checks(quiet=True)
    make = module.makers(130)["fixed κ"]
    right = module.outcome

    def half(head: Any, *arguments: Any, **options: Any) -> Any:
        found = right(head, *arguments, **options)
        return found._replace(features=0.999 * found.features) if head.fused else found

    module.agree("right", make, inputs, checks)
    assert checks.wrong == []
    monkeypatch.setattr(module, "outcome", half)
    module.agree("wrong", make, inputs, checks)
    assert len(checks.wrong) == 1
    checks.within("not a number", math.nan, 1.0)
    checks.attempt("fails", lambda: 1 / 0)
    assert len(checks.wrong) == 3
    assert checks.verdict() == 1


def test_the_sharded_step_alone(trial: Any) -> None:
    printed = trial("sharded_step", "--seconds", "0.5")
    assert len(re.findall(r"^ok .*sharded beside dense", printed, re.MULTILINE)) == 4
    assert printed.endswith("one process only: gloo not run\n")


def test_searches_and_steps(trial: Any) -> None:
    assert "All agree." in trial("search_and_step")


@pytest.mark.slow
def test_the_step_of_a_network(trial: Any) -> None:
    printed = trial("resnet50_step")
    assert "The paper's (TS Table 11; its own machine), Food-101, 101 classes: 304.0 ms a mini-batch" in printed
    assert len(re.findall(r"^[\w, κ]+: [\d.]+ ms a step", printed, re.MULTILINE)) == 3
    assert "failed" not in printed


def test_the_plain_kernels(trial: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    printed = trial("kernels_on_device")
    assert re.search("^ok    plain: power_sums", printed, re.MULTILINE)
    assert "Triton kernels: not run: no GPU, and TRITON_INTERPRET is not 1" in printed


@pytest.mark.slow
def test_the_kernels_of_triton_in_its_interpreter() -> None:
    pytest.importorskip("triton")
    # The interpreter is chosen when Triton is imported.
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu.kernels_on_device", "--device", "cpu", "--quick"],
        cwd=REPOSITORY,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search("^ok    Triton: power_sums", done.stdout, re.MULTILINE)


def test_kernels_that_are_wrong_are_noticed(part: Any) -> None:
    module, plain = part("kernels_on_device"), import_module("logitlab.functional.blockwise.plain_kernels")
    case = next(iter(module.cases(((7, 129),), torch.device("cpu"))))

    def faults(**changed: Any) -> set[str]:
        names = ("largest", "power_sums", "weigh", "project", "gradient")
        kernels = SimpleNamespace(**{**{name: getattr(plain, name) for name in names}, **changed})
        return {what for what, far, limit in module.compare(kernels, case) if not far <= limit}

    assert faults() == set()
    assert "power_sums" in faults(power_sums=lambda *given: 1.001 * plain.power_sums(*given))
    # An output that was never written is NaN.
    assert "weigh, laid out" in faults(weigh=lambda block, column, kappa, reference, *out: plain.weigh(
        block, column, kappa, reference))  # fmt: skip
    # The target itself, where it is the largest.
    case.column, nowhere = (
        plain.largest(case.block, torch.full_like(case.column, -1))[1],
        torch.full_like(case.column, -1),
    )
    assert "largest" in faults(largest=lambda block, column, kappa: plain.largest(block, nowhere, kappa))


@pytest.fixture
def inputs(part: Any) -> Any:
    return part("inputs").Inputs(part("problem", "step").Shape(12, 50, 16), torch.device("cpu"), torch.float32)


def test_the_formula_in_blocks(part: Any, inputs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = part("reference")
    monkeypatch.setattr(reference, "BLOCK", 7)
    features, weight = (leaf.detach().double().requires_grad_() for leaf in (inputs.features, inputs.weight))
    kappa = torch.linspace(5, 60, 12, dtype=torch.float64)
    cosine = F.linear(F.normalize(features), F.normalize(weight))
    loss = F.cross_entropy(kappa.unsqueeze(1) * cosine, inputs.target)
    found = (loss.detach(), *torch.autograd.grad(loss, (features, weight)))
    assert max(reference.difference(features, weight, inputs.target, kappa, found)) < 1e-12
    assert max(reference.difference(features, weight, inputs.target, 1.001 * kappa, found)) > 1e-5
    for index in range(3):
        wrong = [each.clone() for each in found]
        wrong[index] *= 1.01
        apart = reference.difference(features, weight, inputs.target, kappa, wrong)
        assert apart[index] == pytest.approx(0.01, rel=1e-6)
        assert max(apart[:index] + apart[index + 1 :]) < 1e-12


def test_the_regret_of_a_search(part: Any, inputs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = part("reference")
    monkeypatch.setattr(reference, "BLOCK", 7)
    candidates = torch.tensor(import_module("logitlab.functional").KAPPA_CANDIDATES, dtype=torch.float64)
    rows, unit = (F.normalize(each.detach().double()) for each in (inputs.features, inputs.weight))
    energies = torch.stack(
        [0.5 * (rows - torch.softmax(kappa * rows @ unit.T, dim=1) @ unit).square().sum(dim=1) for kappa in candidates]
    )
    best = candidates[energies.argmin(dim=0)]
    assert abs(reference.regret(inputs.features, inputs.weight, best)) < 1e-14
    second = best.clone()
    second[3] = candidates[energies[:, 3].argsort()[1]]
    expected = float(energies[:, 3].sort().values[1] - energies[:, 3].min())
    assert expected > 1e-6
    assert reference.regret(inputs.features, inputs.weight, second) == pytest.approx(expected, rel=1e-9)


def test_what_the_packages_of_others_are_given(part: Any, inputs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    forms = part("forms")
    expected = forms.eager(inputs).outcome()

    class Loss:
        def __init__(self, accum_dtype: torch.dtype | None = None) -> None: ...

        def __call__(self, lin_weight: Tensor, _input: Tensor, target: Tensor) -> Tensor:
            return F.cross_entropy(_input @ lin_weight.T, target)

    def linear_cross_entropy(e: Tensor, c: Tensor, targets: Tensor, filter_eps: float | None = 1.0) -> Tensor:
        return F.cross_entropy(e @ c.T, targets)

    module = SimpleNamespace(LigerFusedLinearCrossEntropyLoss=Loss, linear_cross_entropy=linear_cross_entropy)
    monkeypatch.setattr(forms, "peer", lambda *_: module)
    inputs.dtype = torch.bfloat16  # what one of them insists on; the numbers stay
    for form in forms.FORMS:
        if form.group == "peers":
            for one, other in zip(form.build(inputs).outcome(), expected):
                torch.testing.assert_close(one, other)


def test_a_package_that_is_missing_or_has_no_cpu(part: Any, inputs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    forms, NotThere = part("forms"), part("form", "step").NotThere
    monkeypatch.setitem(sys.modules, "cut_cross_entropy", None)
    with pytest.raises(NotThere, match="cannot be imported|is not installed"):
        forms.cut_cross_entropy(inputs)
    with pytest.raises(NotThere, match="^Nothing is not installed$"):
        forms.peer("nothing_of_the_kind.at_all", "Nothing", inputs)
    with pytest.raises(NotThere, match="^It needs a GPU$"):
        forms.peer("json", "It", inputs)


def test_kappa_is_that_of_the_step(part: Any, inputs: Any) -> None:
    forms, LeastSquares = part("forms"), import_module("logitlab.temperature").LeastSquares
    step = forms.ours(inputs, True, temperature=LeastSquares())
    found = forms.kappa_of(step)
    torch.testing.assert_close(found, step.head.kappa_star(inputs.features))
    assert step.head.path(inputs.features, inputs.target).fused  # as before
    assert inputs.weight.grad is None


def table(part: Any, **seconds: list[float]) -> Any:
    forms, Table = part("forms"), part("table").Table
    names = {"fixed": forms.FIXED, "least_squares": forms.LEAST_SQUARES, "eager": forms.EAGER}
    found = Table(part("goals").MILLION, "bfloat16")
    found.times.rounds = {names[name]: values for name, values in seconds.items()}
    return found


def test_what_is_asked(part: Any) -> None:
    goals, forms = part("goals").goals, part("forms")
    assert {goal.verdict for goal in goals([])} == {"not measured"}
    measured = table(part, eager=[4e-3], fixed=[2e-3, 2e-3, 4e-3], least_squares=[3e-3, 3.2e-3, 5e-3])
    measured.peaks = {forms.FIXED: 1_024_000_000 + 200_000_000, forms.LEAST_SQUARES: 1_024_000_000 + 300_000_000}
    found = {goal.what.partition(") ")[2]: goal for goal in goals([measured]) if "1000000" in goal.what}
    assert found["least squares over fixed κ"].found == pytest.approx(1.5)
    assert found[f"{forms.LEAST_SQUARES}, ms"].found == pytest.approx(3.2)
    # 4 products of 2 * 512 * 10^6 * 512 operations in 3.2 ms.
    rate = found[f"{forms.LEAST_SQUARES}, TFLOP/s of the counted products"]
    assert rate.found == pytest.approx(4 * 2 * 512 * 512e6 / 3.2e-3 / 1e12)
    assert [rate.verdict, rate.asked] == ["reached", 600]
    assert found[f"{forms.FIXED}, MB beyond the gradient of W"].verdict == "reached"
    assert found[f"{forms.LEAST_SQUARES}, MB beyond the gradient of W"].verdict == "NOT reached"
    # Float32 answers nothing that is asked of bfloat16.
    measured.precision = "float32"
    assert {goal.verdict for goal in goals([measured])} == {"not measured"}


def test_faults_of_a_table(part: Any) -> None:
    faults, forms = part("step_table").faults, part("forms")
    found = table(part)
    found.differences = {forms.EAGER: 0.5, forms.FIXED: 9e-3, forms.LEAST_SQUARES: math.nan}
    found.regrets = {forms.LEAST_SQUARES: 2e-5}
    found.absent = {
        "ours, fixed κ, plain": "out of memory",
        forms.SURROGATE: "out of memory",
        "Liger-Kernel": "failed: RuntimeError: no",
        "ours, least squares, plain": "not run: the time is up",
    }
    assert len(faults(found)) == 3
    found.precision = "float32"
    assert len(faults(found)) == 4


def test_times(part: Any) -> None:
    clock = part("clock")
    times = clock.Times({"one": [2.0, 4.0, 6.0, 8.0, 10.0], "other": [1.0, 4.0, 2.0, 4.0, 1.0], "none": []})
    assert (times.median("one"), times.median("none")) == (6.0, None)
    assert times.ratio("one", "other") == 2.0
    assert times.ratio("one", "none") is None
    assert times.spread("one") == pytest.approx((8 - 4) / 2 / 6)
    turns: list[str] = []
    forms = {name: lambda name=name: turns.append(name) for name in "abc"}
    found = clock.in_turn(forms, clock.Clock(torch.device("cpu")), 0.0, least=4)
    assert [len(seconds) for seconds in found.rounds.values()] == [4, 4, 4]
    assert [sorted(turns[first : first + 3]) for first in range(0, 12, 3)] == [["a", "b", "c"]] * 4
    assert len(clock.in_turn(forms, clock.Clock(torch.device("cpu")), math.inf, most=2).rounds["a"]) == 2
