"""Data sets of users, and data sets of arrays."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch

from logitlab.config.errors import DataError, ParameterError
from logitlab.data import (
    DataSet,
    data_set_module,
    list_data_sets,
    list_ood_sets,
    load_data,
    load_ood,
    register_data_set,
)
from logitlab.data.registry import DATA_SETS

IMAGES = numpy.arange(20, dtype=numpy.uint8).repeat(64).reshape(20, 8, 8)
LABELS = numpy.arange(20) % 2


@pytest.fixture
def register():
    """Register for one test."""
    before = set(DATA_SETS.names())
    yield register_data_set
    for name in set(DATA_SETS.names()) - before:
        DATA_SETS.forget(name)


def test_a_data_set_of_arrays():
    data = DataSet.from_arrays("mine", IMAGES[:12], LABELS[:12], IMAGES[12:], LABELS[12:], class_names=("a", "b"))
    assert (len(data.train), len(data.test), data.class_names) == (12, 8, ("a", "b"))
    assert (data.channels, data.image_size, data.augmentation) == (1, 8, "none")
    pixels, labels = next(data.test.batches(torch.arange(8), 8))
    assert torch.equal(pixels, torch.from_numpy(IMAGES[12:]).unsqueeze(1))
    assert labels.tolist() == LABELS[12:].tolist()
    coloured = DataSet.from_arrays("mine", numpy.stack([IMAGES] * 3, axis=-1), LABELS)
    assert (coloured.channels, len(coloured.train), len(coloured.test)) == (3, 16, 4)
    # The images decide, not the name, nor the size that is asked for.
    same = DataSet.from_arrays("other", IMAGES[:12], LABELS[:12], IMAGES[12:], LABELS[12:], image_size=16)
    assert same.fingerprint == data.fingerprint
    assert same.image_size == 16


def test_arrays_that_cannot_be_written_to_and_tensors():
    frozen = IMAGES.copy()
    frozen.flags.writeable = False
    data = DataSet.from_arrays("mine", frozen, torch.from_numpy(LABELS))
    assert data.fingerprint == DataSet.from_arrays("mine", IMAGES, LABELS).fingerprint


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((IMAGES / 255, LABELS), "mine: expected 'x_train' as uint8, 0 to 255. Got float64; scale and convert it."),
        (
            (IMAGES[0], LABELS),
            r"mine: expected 'x_train' as \[N, H, W\], or \[N, H, W, C\] with C 1 or 3. Got \[8, 8\]",
        ),
        ((IMAGES, LABELS[:3]), r"mine: expected 'y_train' as 20 integers, one an image. Got int64 \[3\]"),
        ((IMAGES, LABELS, IMAGES), "mine: give 'x_test' and 'y_test', or neither."),
        ((IMAGES, LABELS, IMAGES[:2], LABELS[:2] + 5), "mine: label 5 of test image 0 is out of range"),
        ((IMAGES[:, :4], LABELS), "square"),
    ],
)
def test_arrays_that_are_no_data_set(arguments, words):
    with pytest.raises(DataError, match=words):
        DataSet.from_arrays("mine", *arguments)


def test_a_registered_set_stands_where_others_do(register, tmp_path):
    seen = []

    @register("stripes")
    def stripes(root, image_size):
        seen.append((root, image_size))
        return DataSet.from_arrays("stripes", IMAGES, LABELS, image_size=image_size)

    assert "stripes" in list_data_sets()
    assert "stripes" in list_ood_sets()
    assert data_set_module("stripes") == data_set_module("Stripes") == __name__
    assert data_set_module("digits") is None
    assert load_data("stripes", root=tmp_path).image_size == 8
    strange = load_ood("stripes", channels=3, image_size=12, root=tmp_path)
    assert len(strange.images) == 4
    assert next(strange.images.batches(torch.arange(4), 4))[0].shape == (4, 3, 12, 12)
    assert seen == [(tmp_path, None), (tmp_path, 12)]
    with pytest.raises(DataError, match="Unknown data set 'stripe'; did you mean 'stripes'"):
        load_data("stripe", root=tmp_path)


def broken(root: Path, image_size: int | None):
    raise KeyError("images")


@pytest.mark.parametrize(
    ("loader", "words"),
    [
        (broken, "The data set 'mine' cannot be loaded: KeyError: 'images'."),
        (lambda root, image_size: IMAGES, r"must return a DataSet, such as DataSet.from_arrays\(…\). Got ndarray"),
        (
            lambda root, image_size: DataSet.from_arrays("mine", IMAGES, LABELS),
            "asked for images of 16x16 pixels and has 8x8. Hand 'image_size' on",
        ),
        (lambda root, image_size: (root / "nowhere").read_bytes(), "nowhere"),
    ],
)
def test_a_set_that_fails_says_so(register, tmp_path, loader, words):
    register("mine")(loader)
    with pytest.raises(DataError, match=words):
        load_data("mine", image_size=16, root=tmp_path)


def test_names_and_forms_that_are_refused(register):
    for name in ("digits", "mnist", "noise"):
        with pytest.raises(ParameterError, match=f"The data set '{name}' is built in"):
            register(name)
    with pytest.raises(ParameterError, match=r"as in def mine\(root, image_size\): …"):
        register("mine")(lambda root: None)
