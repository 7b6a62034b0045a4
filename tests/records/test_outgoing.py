"""A user's file is replaced whole or not at all."""

import pytest

from logitlab.config.errors import ConfigurationError
from logitlab.records.outgoing import check_output, whole_file


def test_it_takes_its_place_when_it_is_whole(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("old")
    with whole_file(path) as file:
        file.write("a\r\nκ")
        assert path.read_text() == "old"
    assert path.read_bytes() == "a\r\nκ".encode()
    with whole_file(path, binary=True) as file:
        file.write(b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("fault", [ZeroDivisionError, KeyboardInterrupt])
def test_what_stood_there_stays_when_the_writing_breaks_off(tmp_path, fault):
    path = tmp_path / "out.csv"
    path.write_text("old")

    def write():
        with whole_file(path) as file:
            file.write("half")
            raise fault

    with pytest.raises(fault):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_said(tmp_path):
    def write():
        with whole_file(tmp_path / "out.csv") as file:
            file.write("x")
            raise OSError(28, "No space left on device")

    with pytest.raises(ConfigurationError, match="Cannot write '.*out.csv': No space left on device"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_takes_no_file_is_said_before(tmp_path):
    with pytest.raises(ConfigurationError, match="there is no folder"):
        check_output(tmp_path / "none" / "out.csv")
    with pytest.raises(ConfigurationError, match="is a folder"):
        check_output(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="Cannot write"):
        check_output(tmp_path / "file" / "out.csv")
    with pytest.raises(ConfigurationError, match="Cannot write"):
        check_output(tmp_path / ("a" * 5000))
