"""Decoded images, kept once on each machine."""

import multiprocessing

import pytest
import torch

from logitlab.config.errors import DataError
from logitlab.data import load_data, prepared
from logitlab.data.prepared import cache_folder, kept_in, load_prepared, prepared_in


@pytest.fixture
def loads(monkeypatch):
    """How often images were decoded."""
    counted = []

    def load(name, **options):
        counted.append(name)
        return load_data(name, **options)

    monkeypatch.setattr(prepared, "load_data", load)
    return counted


def wanted(name="digits", image_size=None, root=None):
    fingerprint = load_data(name, image_size=image_size, root=root).fingerprint
    return load_prepared(name, image_size=image_size, root=root, fingerprint=fingerprint)


def assert_same(first, second):
    for part in ("train", "test"):
        assert torch.equal(getattr(first, part).pixels, getattr(second, part).pixels)
        assert torch.equal(getattr(first, part).labels, getattr(second, part).labels)
    for name in ("name", "class_names", "fingerprint", "channels", "image_size", "augmentation", "validation"):
        assert getattr(first, name) == getattr(second, name)


def test_the_second_time_nothing_is_decoded(tmp_path, loads):
    with prepared_in(tmp_path):
        first, second = wanted(), wanted()
        assert_same(first, second)
        assert_same(second, load_data("digits"))
        assert loads == ["digits"]
        # Another form is another file.
        assert wanted(image_size=12).image_size == 12
        assert len(list(tmp_path.glob("*.safetensors"))) == len(loads) == 2
    assert not list(tmp_path.glob(".*"))


def test_outside_nothing_is_kept(tmp_path, loads):
    with prepared_in(tmp_path):
        assert kept_in() == tmp_path
    assert kept_in() is None
    wanted()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["pixel", "cut", "empty"])
def test_a_damaged_file_is_made_again(tmp_path, loads, damage):
    with prepared_in(tmp_path):
        first = wanted()
        (path,) = tmp_path.glob("*.safetensors")
        content = bytearray(path.read_bytes())
        content[-1000] ^= 1
        path.write_bytes({"pixel": content, "cut": content[:-10], "empty": b""}[damage])
        assert_same(wanted(), first)
        assert loads == ["digits"] * 2
        wanted()
    assert loads == ["digits"] * 2


def test_other_images_than_those_that_are_wanted_are_not_kept(tmp_path):
    with prepared_in(tmp_path):
        found = load_prepared("digits", image_size=None, root=None, fingerprint="0" * 64)
    assert found.fingerprint != "0" * 64
    assert not list(tmp_path.glob("*.safetensors"))


def test_what_is_streamed_or_enlarged_is_loaded_as_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("logitlab.data.dataset.MEMORY_LIMIT", 10_000_000)
    with prepared_in(tmp_path):
        assert type(wanted(image_size=100).train).__name__ == "EnlargedImages"
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_folder_that_cannot_be_used_keeps_nothing_back(tmp_path, loads):
    (tmp_path / "file").touch()
    with prepared_in(tmp_path / "file"):
        assert_same(wanted(), load_data("digits"))
    assert loads == ["digits"]


def test_a_full_cache_stops_nothing(tmp_path, monkeypatch):
    from safetensors import SafetensorError

    def refuse(tensors, path, metadata):
        path.write_bytes(b"half of it")
        raise SafetensorError('IoError(Os { code: 28, kind: StorageFull, message: "No space left on device" })')

    monkeypatch.setattr("safetensors.torch.save_file", refuse)
    with prepared_in(tmp_path):
        assert_same(wanted(), load_data("digits"))
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


@pytest.fixture
def guessed(tmp_path, monkeypatch):
    """The folder that everybody can guess, below one that everybody can write to."""
    monkeypatch.delenv("LOGITLAB_CACHE", raising=False)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir(mode=0o777)
    return cache_folder()


def test_the_folder_for_temporary_files_is_this_users_alone(guessed, loads):
    with prepared_in(guessed):
        wanted()
        wanted()
    assert loads == ["digits"]
    assert guessed.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", ["open", "link", "another's", "file"])
def test_a_guessed_folder_that_others_may_write_to_is_not_used(tmp_path, guessed, loads, monkeypatch, kind):
    if kind == "file":
        guessed.touch()
    elif kind == "link":
        (tmp_path / "mine").mkdir(mode=0o700)
        guessed.symlink_to(tmp_path / "mine")
    else:
        guessed.mkdir(mode=0o700)
    if kind == "open":
        guessed.chmod(0o770)
    if kind == "another's":
        monkeypatch.setattr("os.getuid", lambda: 4242)
    with prepared_in(guessed):
        wanted()
        wanted()
    assert loads == ["digits"] * 2
    assert list(tmp_path.rglob("*.*")) == []


def test_a_folder_that_the_user_names_may_be_shared(guessed, tmp_path, loads):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    with prepared_in(tmp_path / "shared"):
        wanted()
        wanted()
    assert loads == ["digits"]


def test_a_lock_takes_nothing_away(tmp_path, loads):
    with prepared_in(tmp_path):
        wanted()
        (images,) = tmp_path.glob("*.safetensors")
        (lock,) = tmp_path.glob("*.lock")
        thesis = tmp_path / "thesis.tex"
        thesis.write_text("years of work")
        images.unlink()
        lock.unlink()
        lock.symlink_to(thesis)
        wanted()
        assert thesis.read_text() == "years of work"
        assert not images.exists()
        lock.unlink()
        lock.write_text("kept")
        wanted()
        assert lock.read_text() == "kept"


def test_faults_are_those_of_the_images(tmp_path):
    with prepared_in(tmp_path), pytest.raises(DataError, match="Unknown data set"):
        load_prepared("no-such-set", image_size=None, root=None, fingerprint="0" * 64)


def test_a_killed_writers_leftover_is_removed(tmp_path):
    with prepared_in(tmp_path):
        wanted()
        (path,) = tmp_path.glob("*.safetensors")
        left = tmp_path / f".{path.name}.00.tmp"
        left.touch()
        path.unlink()
        wanted()
    assert not left.exists()


def _prepare(folder, barrier, counted):
    def load(name, **options):
        with counted.get_lock():
            counted.value += 1
        return load_data(name, **options)

    prepared.load_data = load
    fingerprint = load_data("digits").fingerprint
    barrier.wait()
    with prepared_in(folder):
        load_prepared("digits", image_size=None, root=None, fingerprint=fingerprint)


def test_one_process_decodes_while_the_others_wait(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, counted = context.Barrier(3), context.Value("i", 0)
    processes = [context.Process(target=_prepare, args=(tmp_path, barrier, counted)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert counted.value == 1


def test_where_the_images_are_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("LOGITLAB_CACHE", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x"
    monkeypatch.delenv("LOGITLAB_CACHE")
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/temporary")
    monkeypatch.setattr("getpass.getuser", lambda: "me")
    assert str(cache_folder()) == "/temporary/logitlab-me"
