"""The benchmark of the search's regret runs, counts what it should, and fails where a choice is wrong."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch
from feature_families import FAMILIES, make_family
from preloaded import run_python

from logitlab.functional import KAPPA_CANDIDATES, projection_energy

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(REPOSITORY), *sys.path])
    return import_module("benchmarks.search_regret")


@pytest.mark.slow
def test_a_small_run_finds_no_regret() -> None:
    done = run_python("benchmarks/search_regret.py", "--quick", "--rows", "3000", "--steps", "50", cwd=REPOSITORY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("No regret is above 2e-6.\n")
    lines = dict(re.findall(r"^(\S.*?) {2,}(.*)$", done.stdout, flags=re.MULTILINE))
    for name in [*FAMILIES, "C = 150, D = 32", "training, C = 100, step 50", "all"]:
        rows, _, certified, masked, automatic, share, products, multimodal = map(float, lines[name].split())
        assert rows >= 64
        assert 0 <= max(certified, masked, automatic) <= 2e-6
        assert 0 < share <= 1 <= products < 20
        assert 0 <= multimodal <= 1
    assert float(lines["all"].split()[0]) == 3000 + 4 * 64


@pytest.mark.parametrize("shape", [(20, 12, 5), (20, 5, 12)])
def test_the_reference_is_the_energy(benchmark: ModuleType, shape: tuple[int, int, int]) -> None:
    features, weight, _ = make_family("hard", *shape)
    found = benchmark.exhaustive_energies(features, weight)
    for column, kappa in enumerate(KAPPA_CANDIDATES):
        expected = projection_energy(features.double(), weight.double(), kappa)
        torch.testing.assert_close(found[:, column], expected, rtol=0, atol=1e-12)


def test_local_minima_are_counted_and_flat_parts_are_not(benchmark: ModuleType) -> None:
    several = torch.tensor([[1.0, 2, 1, 2], [1, 2, 2, 1], [2, 1, 2, 1], [1, 2, 0, 0]])
    one = torch.tensor([[1.0, 2, 3, 4], [4, 3, 2, 1], [2, 1, 1, 2], [2, 1, 2, 2], [1, 1, 1, 1], [1, 1, 2, 2 - 1e-9]])
    assert benchmark.is_multimodal(several.double()).all()
    assert not benchmark.is_multimodal(one.double()).any()


def test_a_wrong_choice_fails_the_run(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "search_least_squares", lambda x, w: x.new_full((len(x),), KAPPA_CANDIDATES[3]))
    monkeypatch.setattr(sys, "argv", ["search_regret.py", "--quick", "--rows", "60", "--steps", "0"])
    assert benchmark.main() == 1
    assert "REGRET ABOVE 2e-6" in capsys.readouterr().out
    # NaN is no pass.
    total = benchmark.Tally(regrets=(float("nan"), 0.0, 0.0)) + benchmark.Tally()
    assert total.regrets[0] != total.regrets[0]
    total = benchmark.Tally() + benchmark.Tally(regrets=(float("nan"), 0.0, 0.0))
    assert total.regrets[0] != total.regrets[0]
