"""docs/extending.md: its modules and its studies run as they stand there, in this process and in workers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
TEXT = (REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


# One study serially and by worker processes, then the second one: in processes of their own, whose registries are empty
# and who find the module by its name in the current folder, as a user's command does.
PROGRAM = """
import json, sys
import logitlab.studies as studies

def main():
    first = studies.run("study.yaml", executor="serial", out="serial", report=False)
    second = studies.run("study.yaml", executor="process", workers=1, out="process", report=False)
    rest = studies.run("rest.yaml", executor="serial", out="rest", report=False)
    found = {}
    for name, outcome in (("serial", first), ("process", second), ("rest", rest)):
        found[name] = [[row.label, {str(seed): dict(each) for seed, each in row.seeds.items()}, dict(row.failures)]
                       for row in outcome.results.rows]
    print(json.dumps(found))

if __name__ == "__main__":
    main()
"""


def test_the_example_is_short() -> None:
    lines = [line for line in blocks("python")[0].splitlines() if line.strip()]
    assert len(lines) <= 20


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("extending")
    (folder / "my_module.py").write_text("\n\n".join(blocks("python")))
    study, rest = blocks("yaml")
    (folder / "study.yaml").write_text(study)
    (folder / "rest.yaml").write_text(rest)
    (folder / "program.py").write_text(PROGRAM)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "program.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_the_study_has_its_rows_measurements_and_stages(found: dict) -> None:
    assert [label for label, _, _ in found["serial"]] == ["softmax", "strength 0.01", "strength 0.1"]
    for _, seeds, failures in found["serial"]:
        assert not failures
        assert sorted(seeds) == ["0", "1"]
        for measures in seeds.values():
            assert measures["analyse.mean_norm.value"] > 0
            assert measures["analyse.calibration.nll_before"] > 0
            assert 0 < measures["halves.first"] <= 1
            # 143 validation images, in two halves.
            assert measures["validation.accuracy"] == pytest.approx(
                (72 * measures["halves.first"] + 71 * measures["halves.second"]) / 143
            )


@pytest.mark.slow
def test_workers_find_the_same_numbers(found: dict) -> None:
    def measured(name: str) -> list:
        return [
            [label, {seed: {**values, "seconds": None} for seed, values in seeds.items()}]
            for label, seeds, _ in found[name]
        ]

    assert measured("process") == measured("serial")


@pytest.mark.slow
def test_the_temperature_the_data_set_and_the_built_in_stages(found: dict) -> None:
    rows = {label: seeds["0"] for label, seeds, failures in found["rest"] if not failures}
    assert len(rows) == 3
    kappas = [measures["test.kappa"] / measures["test.kappa_star"] for measures in rows.values()]
    # The running mean of training against the test images: twice, four and eight times κ*, about.
    assert kappas == pytest.approx([2, 4, 8], rel=0.25)
    for measures in rows.values():
        assert 0 < measures["linear_probe.digits.accuracy"] == measures["linear_probe.mean.accuracy"] <= 1
        assert 0 <= measures["fine_tune.digits.accuracy"] <= 1
        assert measures["ood.noise.max_logit_ap"] is None or 0 < measures["ood.noise.max_logit_ap"] <= 1


def test_every_decorator_that_the_page_names_is_there() -> None:
    import logitlab

    named = set(re.findall(r"@(register_\w+)\(", TEXT))
    assert len(named) == 5
    assert all(callable(getattr(logitlab, name)) for name in named)


def test_the_page_tells_every_option_of_the_built_in_stages_and_the_recipe() -> None:
    from logitlab.training.stages import FINE_TUNING
    from logitlab.training.stages.options import OPTIONS

    rows = dict(re.findall(r"^\| `(\w+)` \| ((?:`\w+`(?:, )?)+) \|", TEXT.split("## Built-in")[1], re.MULTILINE))
    for name, form in OPTIONS.items():
        assert re.findall(r"`(\w+)`", rows[name]) == list(form.model_fields)
    rate = FINE_TUNING["learning_rate"] * FINE_TUNING["head_learning_rate_multiplier"]
    assert (FINE_TUNING["epochs"], FINE_TUNING["batch_size"], rate) == (60, 128, pytest.approx(0.1))
    assert "60 epochs of 128 images a step" in " ".join(TEXT.split())


def test_the_page_tells_every_member_of_a_stage() -> None:
    from dataclasses import fields

    from logitlab.training.stages import StageContext

    told = set(re.findall(r"`stage\.(\w+)", TEXT.split("## What a stage")[1].split("## Built-in")[0]))
    own = {each.name for each in fields(StageContext)} - {"name", "identity", "passes"}
    assert told == own | {"outputs", "load_model", "data", "subject"}
