"""The arrays beside a record: whole, checked, or refused in words."""

from __future__ import annotations

import numpy as np
import pytest

from logitlab.config.errors import RecordError
from logitlab.records import OUTPUTS_FILE, read_outputs, write_outputs


def make_arrays(count=5, validation=3, examples=2):
    def numbers(length):
        return np.arange(length, dtype="float32")

    return {
        **{name: np.arange(count, dtype="int32") for name in ("labels", "predicted")},
        **{name: numbers(count) for name in ("confidence", "max_logit", "feature_norm", "own_cosine", "kappa_star")},
        "logits": np.ones((count, max(count, validation)), dtype="float16"),
        **{name: np.arange(validation, dtype="int32") for name in ("validation_labels", "validation_predicted")},
        **{name: numbers(validation) for name in ("validation_confidence", "validation_max_logit")},
        "example_index": np.arange(examples, dtype="int32"),
        "example_pixels": np.zeros((examples, 1, 8, 8), dtype="uint8"),
        "example_kind": np.zeros(examples, dtype="int8"),
    }


def test_what_is_written_is_read(tmp_path):
    arrays = make_arrays()
    arrays["confidence"][:] = np.nan
    write_outputs(tmp_path / "trial", arrays)
    found = read_outputs(tmp_path / "trial")
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    assert [path.name for path in (tmp_path / "trial").iterdir()] == [OUTPUTS_FILE]


def test_logits_may_be_left_out(tmp_path):
    arrays = make_arrays()
    del arrays["logits"]
    write_outputs(tmp_path, arrays)
    assert "logits" not in read_outputs(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": None}, "it lacks 'labels'"),
        ({"labels": np.arange(5)}, "expected 'labels' as int32 of 1 dimensions, got int64 [5]"),
        ({"max_logit": np.zeros(4, dtype="float32")}, "expected 'max_logit' of length 5, got 4"),
        ({"example_pixels": np.zeros((2, 8, 8), dtype="uint8")}, "expected 'example_pixels' as uint8 of 4 dimensions"),
        ({"example_pixels": np.zeros((2, 1, 0, 8), dtype="uint8")}, "expected 'example_pixels' with pixels"),
        ({"labels": np.int32([0, 1, 2, -3, 4])}, "expected 'labels' of at least 0, got -3"),
        ({"predicted": np.int32([0, 1, 2, 5, 4])}, "expected 'predicted' below 5, got 5"),
        ({"validation_labels": np.int32([0, 9, 2])}, "expected 'validation_labels' below 5, got 9"),
        ({"example_index": np.int32([0, 5])}, "expected 'example_index' below 5, got 5"),
    ],
)
def test_arrays_of_another_form_are_refused(tmp_path, change, words):
    arrays = {name: value for name, value in {**make_arrays(), **change}.items() if value is not None}
    with pytest.raises(RecordError) as caught:
        write_outputs(tmp_path, arrays)
    assert words in str(caught.value)
    assert not list(tmp_path.iterdir())
    np.savez(tmp_path / OUTPUTS_FILE, **arrays)
    with pytest.raises(RecordError) as caught:
        read_outputs(tmp_path)
    assert words in str(caught.value)


def test_classes_are_checked_where_their_number_is_known(tmp_path):
    arrays = {**make_arrays(), "labels": np.int32([0, 1, 2, 7, 4])}
    del arrays["logits"]
    write_outputs(tmp_path, arrays)
    assert read_outputs(tmp_path)["labels"].max() == 7
    assert read_outputs(tmp_path, classes=8)["labels"].max() == 7
    with pytest.raises(RecordError, match="expected 'labels' below 7, got 7"):
        read_outputs(tmp_path, classes=7)


def test_a_trial_without_images_is_whole(tmp_path):
    write_outputs(tmp_path, make_arrays(count=0, validation=0, examples=0))
    assert len(read_outputs(tmp_path)["labels"]) == 0


@pytest.mark.parametrize("damage", ["missing", "cut", "text", "empty", "flipped", "pickle", "bare"])
def test_damage_is_told_in_one_line(tmp_path, damage):
    path = tmp_path / OUTPUTS_FILE
    write_outputs(tmp_path, make_arrays(count=500))
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "text":
        path.write_text("no archive")
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "flipped":
        middle = whole.index(b"confidence.npy") + 120
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    elif damage == "pickle":
        np.savez(path, **{**make_arrays(), "labels": np.array([{"a": 1}], dtype=object)}, allow_pickle=True)
    else:
        with path.open("wb") as file:
            np.save(file, np.arange(3))
    with pytest.raises(RecordError) as caught:
        read_outputs(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_disk_that_refuses_leaves_the_old_file(tmp_path, monkeypatch):
    write_outputs(tmp_path, make_arrays())

    def refuse(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        write_outputs(tmp_path, make_arrays(count=9))
    assert [path.name for path in tmp_path.iterdir()] == [OUTPUTS_FILE]
    assert len(read_outputs(tmp_path)["labels"]) == 5
