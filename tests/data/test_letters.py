"""Sets that are known by name where their files lie: notMNIST, Omniglot, GTSRB and DTD."""

from __future__ import annotations

import gzip

import numpy
import pytest
import torch
from PIL import Image

from logitlab.config.errors import DataError
from logitlab.data import content_decides, list_data_sets, load_data, load_ood
from logitlab.data.letters import MissingError
from logitlab.data.splitting import split_off_test


def write_idx(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    path.write_bytes(gzip.compress(bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()))


def write_notmnist(root, labels=None):
    images = numpy.arange(100, dtype=numpy.uint8).repeat(16).reshape(100, 4, 4)
    labels = numpy.arange(100, dtype=numpy.uint8) % 10 if labels is None else labels
    write_idx(root / "notmnist_test" / "t10k-images-idx3-ubyte.gz", images)
    write_idx(root / "notmnist_test" / "t10k-labels-idx1-ubyte.gz", labels)
    return images, labels


def test_notmnist_is_split_as_other_sets_without_a_test_part(tmp_path):
    images, labels = write_notmnist(tmp_path)
    data = load_data("notMNIST", root=tmp_path)
    assert (data.name, data.class_names, data.channels) == ("notmnist", tuple("ABCDEFGHIJ"), 1)
    train, test = split_off_test(torch.from_numpy(labels).long())
    assert torch.bincount(data.test.labels).tolist() == [2] * 10
    assert torch.equal(data.train.pixels, torch.from_numpy(images)[train].unsqueeze(1))
    assert torch.equal(data.test.pixels, torch.from_numpy(images)[test].unsqueeze(1))
    assert torch.equal(data.test.labels, torch.from_numpy(labels)[test].long())
    # As strange images they are all of them, as ever.
    assert len(load_ood("notmnist", channels=1, image_size=4, root=tmp_path).images) == 100


def test_a_letter_lacks_its_label(tmp_path):
    write_notmnist(tmp_path, numpy.zeros(99, dtype=numpy.uint8))
    with pytest.raises(DataError, match="^notmnist: found 100 images and 99 labels; fetch it again"):
        load_data("notmnist", root=tmp_path)


def write_omniglot(root, **changes):
    # Two characters, drawn by each of twenty people; the grey tells character and drawer.
    labels = numpy.arange(40) // 20
    drawers = numpy.arange(40) % 20 + 1
    arrays = {
        "x_background": (100 * labels + drawers).astype(numpy.uint8).repeat(9).reshape(40, 3, 3),
        "y_background": labels,
        "drawer_background": drawers,
        "class_names_background": numpy.array(["Greek/alpha", "Greek/beta"]),
        "x_evaluation": numpy.zeros((2, 3, 3), dtype=numpy.uint8),
    } | changes
    (root / "omniglot").mkdir()
    path = root / "omniglot" / "omniglot_28.npz"
    numpy.savez(path, **{key: value for key, value in arrays.items() if value is not None})


def test_omniglot_is_split_by_drawer(tmp_path):
    write_omniglot(tmp_path)
    data = load_data("omniglot", root=tmp_path)
    assert (data.name, data.class_names, data.augmentation) == ("omniglot", ("Greek/alpha", "Greek/beta"), "crop")
    for images, drawers in ((data.train, range(1, 16)), (data.test, range(16, 21))):
        assert images.pixels[:, 0, 0, 0].tolist() == [100 * label + drawer for label in (0, 1) for drawer in drawers]
        assert images.labels.tolist() == [label for label in (0, 1) for _ in drawers]
    assert load_data("omniglot", root=tmp_path, image_size=6).fingerprint == data.fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"drawer_background": None}, r"omniglot_28\.npz' lacks 'drawer_background'. Found: class_names_background, "),
        (
            {"drawer_background": numpy.arange(7)},
            r"expected 'drawer_background' as 40 integers, one an image. Got \[7\]",
        ),
        ({"y_background": numpy.zeros(40)}, r"expected 'y_background' as 40 integers, one an image. Got float64"),
    ],
)
def test_a_faulty_omniglot(tmp_path, changes, message):
    write_omniglot(tmp_path, **changes)
    with pytest.raises(DataError, match=message):
        load_data("omniglot", root=tmp_path)


@pytest.mark.parametrize("name", ["notmnist", "omniglot"])
def test_files_that_are_not_there(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingError, match=r"^Cannot find '.*'.* Name the folder that holds data sets by --data-root"):
        load_data(name, root=tmp_path / "empty")
    # Then the folder of that name in front of us is meant, as with names of torchvision.
    for label in ("a", "b"):
        (tmp_path / name / label).mkdir(parents=True)
        for index in range(3):
            Image.new("L", (8, 8), index).save(tmp_path / name / label / f"{index}.png")
    assert load_data(name, root=tmp_path / "empty").class_names == ("a", "b")


def test_the_archives_that_stand_for_sets_of_torchvision(tmp_path):
    images = numpy.zeros((20, 4, 4, 3), dtype=numpy.uint8)
    labels = numpy.arange(20) % 2
    for folder in ("gtsrb", "dtd10"):
        (tmp_path / folder).mkdir()
    numpy.savez(tmp_path / "gtsrb" / "gtsrb32_40x15.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    numpy.savez(tmp_path / "dtd10" / "dtd10_32.npz", x=images, y=labels, class_names=["banded", "dotted"])
    signs, textures = load_data("GTSRB", root=tmp_path), load_data("dtd", root=tmp_path)
    # Written signs are not mirrored.
    assert (signs.name, signs.augmentation, len(signs.test)) == ("gtsrb", "crop", 20)
    assert (textures.name, textures.augmentation, textures.class_names) == ("dtd", "crop_flip", ("banded", "dotted"))
    # The images decide what a set is, under either name.
    assert textures.fingerprint == load_data(f"npz:{tmp_path / 'dtd10' / 'dtd10_32.npz'}").fingerprint
    assert textures.fingerprint == load_ood("dtd", channels=3, image_size=4, root=tmp_path).fingerprint
    with pytest.raises(DataError, match="Cannot load GTSRB"):
        load_data("gtsrb", root=tmp_path / "empty")


def test_the_names_are_known():
    assert {"gtsrb", "dtd", "notmnist", "omniglot"} <= set(list_data_sets())
    assert content_decides("notmnist")
    assert content_decides("omniglot")
    # Their torchvision twins are hashed at the size that is asked for.
    assert not content_decides("gtsrb")
    assert not content_decides("dtd")


@pytest.mark.real_data
def test_real_images(real_data):
    letters = load_data("notmnist", root=real_data)
    assert (len(letters.train), len(letters.test), letters.image_size) == (8000, 2000, 28)
    assert torch.bincount(letters.test.labels).tolist() == [200] * 10
    characters = load_data("omniglot", root=real_data)
    assert (len(characters.train), len(characters.test), characters.num_classes) == (14_460, 4_820, 964)
    assert set(torch.bincount(characters.train.labels).tolist()) == {15}
    # Ink is white on black.
    assert next(characters.train.batches(torch.arange(100), 100))[0].float().mean() < 64
    signs, textures = load_data("gtsrb", root=real_data), load_data("dtd", root=real_data)
    assert (len(signs.train), len(signs.test), signs.num_classes) == (1720, 645, 43)
    assert (len(textures.train), len(textures.test), textures.num_classes) == (960, 240, 10)
    # These stand in records: as strange images the names mean what they meant before they could be trained on.
    found = {name: load_ood(name, channels=1, image_size=28, root=real_data) for name in ("notmnist", "dtd")}
    assert (len(found["notmnist"].images), len(found["dtd"].images)) == (10_000, 240)
    assert found["notmnist"].fingerprint.startswith("6bda4846")
    assert found["dtd"].fingerprint.startswith("f35a6269")
