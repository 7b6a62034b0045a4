"""Results of stages: whole or absent, and trusted only with their checksum."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest

from logitlab.config.errors import RecordError
from logitlab.records.stages import (
    forget_stages,
    has_stage,
    read_stage,
    result_fault,
    stage_path,
    write_stage,
)
from logitlab.records.study import StageSource

SOURCE = StageSource(name="linear_probe", identity="0123456789abcdef", options={"data": ["gtsrb"]})
RESULT = {"gtsrb": {"accuracy": 0.5, "strength": None, "convention": "L2 path"}, "mean": {"accuracy": 0.5}}


def test_what_is_written_is_read(tmp_path):
    assert not has_stage(tmp_path, SOURCE.identity)
    write_stage(tmp_path, SOURCE, RESULT, {"seconds": 1.5})
    found = read_stage(tmp_path, SOURCE.identity)
    assert {key: found[key] for key in ("name", "identity", "options", "result", "provenance")} == {
        "name": "linear_probe",
        "identity": SOURCE.identity,
        "options": {"data": ["gtsrb"]},
        "result": RESULT,
        "provenance": {"seconds": 1.5},
    }
    assert len(found["result_sha256"]) == 64
    assert has_stage(tmp_path, SOURCE.identity)
    assert [path.name for path in (tmp_path / "stages").iterdir()] == ["0123456789abcdef.json"]
    forget_stages(tmp_path)
    assert not has_stage(tmp_path, SOURCE.identity)
    forget_stages(tmp_path)


def test_a_stage_that_has_not_run(tmp_path):
    with pytest.raises(RecordError, match=r"There is no '.*0123456789abcdef\.json'\.$"):
        read_stage(tmp_path, SOURCE.identity)


def changed(change):
    def damage(path):
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))

    return damage


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_text(path.read_text()[:-20]), "it is not whole JSON"),
        (changed(lambda values: values["result"]["gtsrb"].update(accuracy=0.9)), "does not match its checksum"),
        (changed(lambda values: values.update(identity="f" * 16)), f"belongs to the stage {'f' * 16}, not to"),
        (changed(lambda values: values.pop("result")), "is damaged: result: Field required"),
        (changed(lambda values: values.update(format_version=9)), r"format version 9; .* reads up to 1\. Update it"),
        (lambda path: path.write_text("[]"), "is damaged"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "it is not whole JSON"),
    ],
)
def test_damage_is_told_and_counts_as_absent(tmp_path, damage, words):
    write_stage(tmp_path, SOURCE, RESULT)
    damage(stage_path(tmp_path, SOURCE.identity))
    with pytest.raises(RecordError, match=words):
        read_stage(tmp_path, SOURCE.identity)
    assert not has_stage(tmp_path, SOURCE.identity)


def test_a_folder_in_its_place_is_told(tmp_path):
    stage_path(tmp_path, SOURCE.identity).mkdir(parents=True)
    with pytest.raises(RecordError, match="Cannot read"):
        read_stage(tmp_path, SOURCE.identity)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"a": math.nan}, "Expected a finite number, None or a mapping at 'a'. Got nan."),
        ({"a": {"b": math.inf}}, "at 'a.b'. Got inf."),
        ({"a": "high"}, "at 'a'. Got 'high'."),
        ({"a": True}, "at 'a'. Got True."),
        ({"a": [1]}, "at 'a'. Got [1]."),
        ({1: 2.0}, "Expected words as keys of the result. Got 1."),
        (0.5, "Expected a mapping of names to numbers. Got float."),
        (None, "Expected a mapping of names to numbers. Got NoneType."),
        ({"convention": 3.0}, None),
        ({"convention": "words", "a": {"convention": "words"}}, None),
        ({}, None),
    ],
)
def test_only_numbers_are_results(tmp_path, result, words):
    fault = result_fault(result)
    assert fault is None if words is None else words in fault
    if words is None:
        write_stage(tmp_path, SOURCE, result)
    else:
        with pytest.raises(RecordError, match="The result of the stage 'linear_probe' cannot be recorded: Expected"):
            write_stage(tmp_path, SOURCE, result)
        assert not (tmp_path / "stages").exists()


def test_it_needs_no_torch():
    code = "import sys, logitlab.records.stages, logitlab.config.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
