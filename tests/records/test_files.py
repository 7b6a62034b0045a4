"""Files are whole or absent."""

import json
import os
import stat
import subprocess
import sys

import pytest

from logitlab.config.errors import RecordError
from logitlab.records import write_json_atomic
from logitlab.records.files import remove_leftovers


def test_writes_json_and_makes_the_folder(tmp_path):
    path = tmp_path / "a" / "b" / "value.json"
    write_json_atomic(path, {"κ": [1, 0.1, None, "x"]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"κ": [1, 0.1, None, "x"]}
    assert [entry.name for entry in path.parent.iterdir()] == ["value.json"]


@pytest.mark.parametrize("value", [{"a": float("nan")}, [float("inf")], {"a": {1, 2}}])
def test_refuses_what_json_cannot_say_and_keeps_the_old_file(tmp_path, value):
    path = tmp_path / "value.json"
    write_json_atomic(path, "old")
    with pytest.raises(RecordError, match=r"Cannot write '.*value\.json' as JSON"):
        write_json_atomic(path, value)
    assert json.loads(path.read_text()) == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_disk_that_refuses_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "value.json"
    write_json_atomic(path, "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_json_atomic(path, "new")
    assert json.loads(path.read_text()) == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["value.json"]


LIMITED = """
import pathlib, resource, sys
from logitlab.records.files import write_atomic

resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_atomic(pathlib.Path(sys.argv[1]), lambda file: [file.write(bytes(1000)) for _ in range(100)])
except OSError as fault:
    print(fault.strerror)
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_a_disk_that_fills_up_in_the_middle_keeps_the_old_file_and_no_half(tmp_path):
    path = tmp_path / "value"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "File too large\n"
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["value"]


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path):
    for name in (".record.json.0123.tmp", "notes.tmp", ".hidden", "record.json"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert {entry.name for entry in tmp_path.iterdir()} == {"notes.tmp", ".hidden", "record.json"}


def test_the_content_is_on_the_disk_before_the_name_points_to_it(tmp_path, monkeypatch):
    """The order write, fsync, rename, fsync of the folder is what survives a loss of power."""
    events = []
    fsync = os.fsync

    def seen_fsync(descriptor):
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        events.append(("fsync", kind, (tmp_path / "value.json").exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", seen_fsync)
    write_json_atomic(tmp_path / "value.json", 1)
    assert events == [("fsync", "file", False), ("fsync", "folder", True)]


def test_the_umask_decides_who_may_read(tmp_path):
    before = os.umask(0o027)
    try:
        write_json_atomic(tmp_path / "value.json", 1)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "value.json").stat().st_mode) == 0o640
