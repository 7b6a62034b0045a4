"""Some classes of a data set alone, under every kind of name that a data set has."""

from __future__ import annotations

import bz2

import numpy
import pytest
import torch
from PIL import Image

from logitlab.config.errors import DataError
from logitlab.config.trial import DataConfig
from logitlab.data import (
    DataSet,
    MemoryImages,
    content_decides,
    data_set_module,
    load_data,
    load_ood,
    register_data_set,
    split_data,
)
from logitlab.data.enlarged import EnlargedImages
from logitlab.data.folder import load_folder
from logitlab.data.prepared import load_prepared, prepared_in
from logitlab.data.registry import DATA_SETS
from logitlab.data.subsets import RenumberedImages, base_name, read_classes, select_classes, write_classes


def everything(images):
    """Pixels and labels of a part, through the batches that training reads."""
    return [torch.cat(both) for both in zip(*images.batches(torch.arange(len(images)), 7), strict=True)]


def assert_is_subset(found, whole, classes):
    """A part is that of the whole set with the labels renumbered in the order given, and in the whole set's order."""
    pixels, labels = everything(whole)
    kept = [place for place, label in enumerate(labels.tolist()) if label in classes]
    expected = torch.tensor([classes.index(label) for label in labels[kept].tolist()])
    found_pixels, found_labels = everything(found)
    assert torch.equal(found_pixels, pixels[kept])
    assert torch.equal(found_labels, expected)
    assert torch.equal(found.labels, expected)


def test_classes_alone_are_renumbered_in_their_order():
    whole, data = load_data("digits"), load_data("digits:classes=7+0-2+9")
    classes = [7, 0, 1, 2, 9]
    assert (data.name, data.class_names) == ("digits:classes=7+0-2+9", ("7", "0", "1", "2", "9"))
    assert (data.channels, data.image_size, data.augmentation) == (1, 8, whole.augmentation)
    assert_is_subset(data.train, whole.train, classes)
    assert_is_subset(data.test, whole.test, classes)
    assert isinstance(data.train, MemoryImages)
    assert data.validation is None
    split = split_data(data, DataConfig(name="digits:classes=7+0-2+9", train_limit=50))
    assert torch.bincount(split.train.labels).tolist() == [10] * 5


def test_the_fingerprint_is_of_the_set_and_its_classes_in_order():
    names = ["digits", *(f"digits:classes={classes}" for classes in ("0-4", "4+0-3", "0-5", "0-9"))]
    assert len({load_data(name).fingerprint for name in names}) == len(names)
    # However it is written, and whatever its size.
    same = load_data("DIGITS:classes=0+1+2-4", image_size=16)
    assert (same.fingerprint, same.name, same.image_size) == (
        load_data("digits:classes=0-4").fingerprint, "digits:classes=0-4", 16,
    )  # fmt: skip
    # Records name it: another one would make their trials run again.
    assert load_data("digits:classes=0-4").fingerprint == FINGERPRINT


FINGERPRINT = "6b20990f3d791a7107f22b07892ff0cc5c46e353e6ce7f7bfdac7d095ee97bb6"


def test_an_archive_whose_name_has_colons_and_equal_signs(tmp_path):
    images = numpy.arange(60, dtype=numpy.uint8).repeat(16).reshape(60, 4, 4)
    for file in ("plain.npz", "a:b=c.npz", "of:classes=all.npz"):
        numpy.savez(tmp_path / file, x=images, y=numpy.arange(60) % 3, class_names=["cat", "dog", "eel"])
    for file in ("plain.npz", "a:b=c.npz", "of:classes=all.npz"):
        data = load_data(f"npz:{tmp_path / file}:classes=2+0")
        assert (data.name, data.class_names) == (f"{file[:-4]}:classes=2+0", ("eel", "cat"))
        assert_is_subset(data.test, load_data(f"npz:{tmp_path / 'plain.npz'}").test, [2, 0])
    assert load_data(f"npz:{tmp_path / 'a:b=c.npz'}").num_classes == 3


def write_usps(folder):
    for name, count in {"usps.bz2": 30, "usps.t.bz2": 20}.items():
        lines = [
            f"{index % 10 + 1} " + " ".join(f"{place + 1}:{index / 15 - 1}" for place in range(256))
            for index in range(count)
        ]
        (folder / name).write_bytes(bz2.compress("\n".join(lines).encode()))


def test_a_set_of_torchvision(tmp_path):
    write_usps(tmp_path)
    data = load_data("usps:classes=3+5", root=tmp_path)
    assert data.name == "usps:classes=3+5"
    assert_is_subset(data.train, load_data("usps", root=tmp_path).train, [3, 5])


def make_folder(path, parts, classes=("ant", "bee", "cow"), count=6):
    for part in parts:
        for number, name in enumerate(classes):
            (path / part / name).mkdir(parents=True)
            for index in range(count):
                Image.new("L", (8, 8), 40 * number + index).save(path / part / name / f"{index}.png")


@pytest.mark.parametrize("memory_limit", [0, 10**9])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_folder_in_memory_and_streamed_with_a_validation_part(tmp_path, memory_limit):
    make_folder(tmp_path / "set", ("train", "val", "test"))
    whole = load_folder(tmp_path / "set", memory_limit=memory_limit, workers=0)
    data = select_classes(whole, [2, 0])
    assert data.class_names == ("cow", "ant")
    for part in ("train", "validation", "test"):
        images = getattr(data, part)
        assert type(images) is (RenumberedImages if memory_limit == 0 else MemoryImages)
        assert_is_subset(images, getattr(whole, part), [2, 0])
    # Chosen out of the choice, an image named twice, and the last batch smaller.
    chosen = data.train.select(torch.tensor([11, 0, 3]))
    batches = list(chosen.batches(torch.tensor([2, 0, 0]), 2))
    pixels, labels = everything(data.train)
    assert torch.equal(torch.cat([each for each, _ in batches]), pixels[[3, 11, 11]])
    assert torch.cat([each for _, each in batches]).tolist() == labels[[3, 11, 11]].tolist()
    assert [len(each) for each, _ in batches] == [2, 1]
    assert list(chosen.batches(torch.arange(0), 2)) == []


def test_a_folder_by_its_path(tmp_path):
    make_folder(tmp_path / "set", ("",))
    data = load_data(f"{tmp_path / 'set'}:classes=1-2")
    assert (data.name, data.class_names) == ("set:classes=1-2", ("bee", "cow"))


def test_images_that_are_enlarged_batch_by_batch(monkeypatch):
    monkeypatch.setattr("logitlab.data.dataset.MEMORY_LIMIT", 2**20)
    whole = load_data("digits", image_size=64)
    assert isinstance(whole.train, EnlargedImages)
    data = load_data("digits:classes=8-9", image_size=64)
    assert_is_subset(data.test, whole.test, [8, 9])
    assert next(data.test.batches(torch.arange(2), 2))[0].shape == (2, 1, 64, 64)


def test_a_set_of_a_users():
    @register_data_set("stripes_of_three")
    def stripes(root, image_size):
        images = numpy.arange(30, dtype=numpy.uint8).repeat(64).reshape(30, 8, 8)
        return DataSet.from_arrays("stripes_of_three", images, numpy.arange(30) % 3, image_size=image_size)

    try:
        assert load_data("stripes_of_three:classes=0+2").class_names == ("0", "2")
        # A worker imports the module of the set, whatever is taken of it.
        assert data_set_module("stripes_of_three:classes=0+2") == __name__
        assert data_set_module("digits:classes=0-2") is None
    finally:
        DATA_SETS.forget("stripes_of_three")


def test_prepared_images_are_those_of_the_classes(tmp_path):
    data = load_data("digits:classes=3-5")
    with prepared_in(tmp_path):
        for _ in range(2):
            found = load_prepared("digits:classes=3-5", image_size=None, root=None, fingerprint=data.fingerprint)
            assert (found.name, found.fingerprint) == (data.name, data.fingerprint)
            assert torch.equal(found.train.pixels, data.train.pixels)
            assert torch.equal(found.test.labels, data.test.labels)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_the_content_decides_where_it_does_for_the_whole_set():
    assert content_decides("Digits:classes=0-4")
    assert content_decides("npz:a.npz:classes=0-4")
    assert not content_decides("svhn:classes=0-4")
    assert not content_decides("./folder:classes=0-4")


def test_as_out_of_distribution_images_the_test_part_of_the_classes():
    found = load_ood("digits:classes=5-6", channels=1, image_size=8)
    data = load_data("digits:classes=5-6")
    assert (found.name, found.fingerprint) == ("digits:classes=5-6", data.fingerprint)
    assert torch.equal(everything(found.images)[0], everything(data.test)[0])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digits:classes=0-12", r"^digits: class 10 of '0-12' is out of range; expected 0 to 9 \(10 classes\)"),
        ("digits:classes=4", r"^'digits:classes=4': expected at least 2 classes. Got 1, class 4. Write classes by num"),
        ("digits:classes=0-4+9+3", r"^'digits:classes=0-4\+9\+3': class 3 is named twice. Name each class once"),
        ("digits:classes=4-1", r"a run of classes goes from the lower to the higher. Got '4-1'. Write"),
        (
            "digits:classes=",
            r"expected classes as numbers and runs of them. Got ''. Write classes by number, as in cla",
        ),
        ("digits:classes=0,1", r"Got '0,1'. Write classes by number, as in classes=0-6 or classes=0-4\+7\+9"),
        ("digits:classes=-1+2", r"Got '-1\+2'"),
        ("digits:classes=0-999999999", r"the run '0-999999999' has more classes than any data set"),
        # Each of a million looked for among a million would take hours.
        ("digits:classes=0-999999+999999", r"class 999999 is named twice"),
        ("digits:classes=0-999998+2000000-2000005", r"names more classes than any data set of 'digits' has. Write"),
        ("digits:clases=0-4", r"^'digits:clases=0-4': Unknown option of a data set 'clases'; did you mean 'classes'\?"),
        ("digits:x=1", r"Unknown option of a data set 'x'. Known: classes. Write"),
        ("npz:none.npz:clases=0-1", r"Unknown option of a data set 'clases'; did you mean 'classes'\?"),
        ("npz:none.npz:classes=0-1", r"^Cannot find the file 'none\.npz'"),
        ("npz::classes=0-1", r"^No file follows 'npz:'"),
        ("digits:classes=0-4:classes=0-1", r"gives 'classes' twice. Give it once"),
        (":classes=0-1", r"^No name stands before ':classes=' in ':classes=0-1'. Give cifar10, digits"),
        ("digit:classes=0-1", r"^Unknown data set 'digit'; did you mean 'digits'\?"),
    ],
)
def test_wrong_names(name, message):
    with pytest.raises(DataError, match=message) as caught:
        load_data(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("noise:classes=0-1", "^OOD set 'noise:classes=0-1': the images of 'noise' have no classes. Take the whole"),
        ("digit:classes=0-1", "it is not known. Did you mean 'digits'"),
        ("digits:clases=0-1", r"Unknown option of a data set 'clases'; did you mean 'classes'\?"),
        ("digits:classes=0-12", r"digits: class 10 of '0-12' is out of range"),
    ],
)
def test_wrong_names_of_out_of_distribution_sets(name, message):
    with pytest.raises(DataError, match=message):
        load_ood(name, channels=1, image_size=8)


def test_a_part_without_images_of_the_classes(tmp_path):
    images = numpy.zeros((8, 4, 4), dtype=numpy.uint8)
    labels = numpy.arange(8) % 4
    numpy.savez(tmp_path / "a.npz", x_train=images, y_train=labels, x_test=images[:2], y_test=labels[:2])
    with pytest.raises(DataError, match=r"^a: the test part has no image of the classes '2-3'. Take others"):
        load_data(f"npz:{tmp_path / 'a.npz'}:classes=2-3")


@pytest.mark.parametrize("classes", [(0, 1), (3, 1, 2), (9, 8, 7), (0, 1, 2, 5, 6, 4)])
def test_what_is_written_is_read(classes):
    assert read_classes(f"any:classes={write_classes(classes)}") == classes
    assert base_name(f"any:classes={write_classes(classes)}") == "any"


def test_a_trial_on_some_classes(tmp_path):
    """From the name on the command line to a record, without a line of code that knows of classes on the way."""
    from logitlab.studies import compare

    outcome = compare(
        "digits:classes=0-2",
        heads=["cosine"],
        seeds=1,
        backbone="mlp:widths=[8]",
        out=tmp_path,
        ood=["digits:classes=7-8"],
        epochs=1,
        executor="serial",
    )
    (record,) = outcome.records
    assert record["config"]["data"]["name"] == "digits:classes=0-2"
    assert record["config"]["data_fingerprint"] == load_data("digits:classes=0-2").fingerprint
    assert record["result"]["images"]["test"] == len(load_data("digits:classes=0-2").test)
    assert outcome.failed == ()
    assert "digits:classes=7-8" in (outcome.folder / "report.html").read_text(encoding="utf-8")
