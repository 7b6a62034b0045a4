from __future__ import annotations

import bz2
import inspect
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torchvision import datasets

from logitlab.config.errors import DataError
from logitlab.data import MemoryImages, StreamedImages, load_data
from logitlab.data.torchvision_sets import _SETS, _class_names, _labels, load_torchvision

Folder = Callable[..., Path]


@pytest.mark.parametrize("name", sorted(_SETS))
def test_torchvision_takes_our_arguments(name: str) -> None:
    arguments = _SETS[name]
    kind = getattr(datasets, name)
    # EMNIST and its like pass keywords on to MNIST's constructor.
    accepted = {key for base in kind.__mro__[:2] for key in inspect.signature(base.__init__).parameters}
    for part in (arguments.train, arguments.test, arguments.validation):
        assert set(part or {}) <= accepted
    assert arguments.train != arguments.test


def write_usps(folder: Path, sides: int = 16) -> None:
    """USPS as torchvision reads it: a line an image, labels from 1, values in [-1, 1]."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in {"usps.bz2": 30, "usps.t.bz2": 10}.items():
        lines = [
            f"{index % 10 + 1} " + " ".join(f"{place + 1}:{(index % 10) / 4.5 - 1}" for place in range(sides**2))
            for index in range(count)
        ]
        (folder / name).write_bytes(bz2.compress("\n".join(lines).encode()))


@pytest.mark.parametrize("where", ["", "usps"])
def test_a_set_in_memory(tmp_path: Path, where: str) -> None:
    write_usps(tmp_path / where)
    data = load_data("usps", root=tmp_path)
    assert (data.name, data.num_classes, data.channels, data.image_size) == ("usps", 10, 1, 16)
    assert (len(data.train), len(data.test), data.augmentation) == (30, 10, "crop")
    assert isinstance(data.train, MemoryImages)
    assert data.train.pixels[0].unique().tolist() == [0]
    assert data.train.pixels[9].unique().tolist() == [255]
    assert data.train.labels.tolist() == [*range(10)] * 3


def test_images_can_be_resized(tmp_path: Path) -> None:
    write_usps(tmp_path)
    data = load_data("USPS", root=tmp_path, image_size=8)
    assert isinstance(data.train, MemoryImages)
    assert data.train.pixels.shape == (30, 1, 8, 8)


def euro_sat(image_folder: Folder, **options: object) -> Path:
    """EuroSAT as torchvision reads it: an image folder without a test part."""
    return image_folder("eurosat/2750", **options).parents[1]


def test_a_set_without_a_test_part_is_split(image_folder: Folder) -> None:
    data = load_data("EuroSAT", root=euro_sat(image_folder, count=10))
    assert data.class_names == ("cat", "dog")
    assert torch.bincount(data.train.labels).tolist() == [8, 8]
    assert torch.bincount(data.test.labels).tolist() == [2, 2]
    assert data.augmentation == "crop_flip"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_large_set_streams_the_same_images(image_folder: Folder) -> None:
    root = euro_sat(image_folder, count=10)
    held = load_torchvision("eurosat", root)
    streamed = load_torchvision("eurosat", root, memory_limit=0)
    assert isinstance(streamed.train, StreamedImages)
    assert streamed.class_names == held.class_names
    assert streamed.fingerprint == load_torchvision("eurosat", root, memory_limit=0).fingerprint
    for part, expected in [(streamed.train, held.train), (streamed.test, held.test)]:
        indices = torch.arange(len(expected))
        pixels, labels = next(part.batches(indices, len(expected)))
        expected_pixels, expected_labels = next(expected.batches(indices, len(expected)))
        assert torch.equal(pixels, expected_pixels)
        assert torch.equal(labels, expected_labels)
    Image.new("RGB", (8, 8)).save(root / "eurosat" / "2750" / "cat" / "0.png")
    assert load_torchvision("eurosat", root, memory_limit=0).fingerprint != streamed.fingerprint


def test_a_set_brings_its_validation_part(image_folder: Folder, tmp_path: Path) -> None:
    image_folder("dtd/dtd/images", classes=("banded", "dotted"), count=6)
    lists = tmp_path / "dtd" / "dtd" / "labels"
    lists.mkdir()
    for part, numbers in {"train": (0, 1, 2), "val": (3,), "test": (4, 5)}.items():
        lines = [f"{name}/{number}.png" for name in ("banded", "dotted") for number in numbers]
        (lists / f"{part}1.txt").write_text("\n".join(lines))
    data = load_data("dtd", root=tmp_path)
    assert data.validation is not None
    assert (len(data.train), len(data.validation), len(data.test)) == (6, 2, 4)
    assert load_torchvision("dtd", tmp_path, memory_limit=0).validation is not None


def test_one_image_must_fit_in_memory(image_folder: Folder) -> None:
    root = image_folder("eurosat/2750").parent.parent
    with pytest.raises(DataError, match=r"^EuroSAT: one image resized to 100000x100000 would take 27\.9 GiB"):
        load_torchvision("eurosat", root, image_size=100_000)


@pytest.mark.parametrize("memory_limit", [0, 10**9])
def test_sizes_that_differ_are_named(image_folder: Folder, memory_limit: int) -> None:
    root = euro_sat(image_folder, count=10)
    for path in (root / "eurosat" / "2750" / "dog").iterdir():
        Image.new("RGB", (9, 9)).save(path)
    with pytest.raises(DataError, match=r"^Images differ in size: EuroSAT's image 0 is 8x8, image \d+ is 9x9; pass"):
        load_torchvision("eurosat", root, memory_limit=memory_limit)
    assert load_torchvision("eurosat", root, image_size=8, memory_limit=memory_limit).image_size == 8


def test_wide_images_are_refused(image_folder: Folder) -> None:
    root = euro_sat(image_folder, size=(12, 8))
    with pytest.raises(DataError, match=r"EuroSAT's image 0: expected square images. Got 12x8"):
        load_data("eurosat", root=root)


def test_a_corrupt_image_is_counted_out(image_folder: Folder) -> None:
    root = euro_sat(image_folder, count=10)
    (root / "eurosat" / "2750" / "dog" / "7.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"EuroSAT: cannot read image \d+: cannot identify image file .*dog/7\.png"):
        load_data("eurosat", root=root)


def test_a_missing_set_says_where_and_how(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_data("svhn", root=tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for words in ["SVHN", str(tmp_path), "LOGITLAB_DATA", "split='train'", "download=True"]:
        assert words in message


@pytest.mark.parametrize("name", sorted(_SETS))
def test_nothing_is_downloaded(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a download was tried")

    monkeypatch.setattr("urllib.request.urlopen", forbidden)
    with pytest.raises(DataError, match=f"^Cannot load {name} from ") as caught:
        load_data(name, root=tmp_path) if name != "CIFAR10" else load_torchvision(name, tmp_path)
    assert "a download was tried" not in str(caught.value)


class Items(list[tuple[None, int]]):
    """A set whose labels stand only in its items."""


def test_labels_are_found_wherever_a_set_keeps_them() -> None:
    items = Items([(None, 2), (None, 0)])
    assert _labels(items).tolist() == [2, 0]
    items.targets = torch.tensor([[1, 5], [0, 5]])  # type: ignore[attr-defined]  # QMNIST: a row an image
    assert _labels(items).tolist() == [2, 0]
    items._samples = [("a.png", 1), ("b.png", 3)]  # type: ignore[attr-defined]  # GTSRB, FER2013
    assert _labels(items).tolist() == [1, 3]
    items.labels = [4, 5]  # type: ignore[attr-defined]
    assert _labels(items).tolist() == [4, 5]


def test_class_names_wherever_a_set_keeps_them() -> None:
    assert _class_names(SimpleNamespace(classes=["a", "b"])) == ["a", "b"]
    assert _class_names(SimpleNamespace(classes=[("tench", "Tinca tinca"), ("goldfish",)])) == ["tench", "goldfish"]
    assert _class_names(SimpleNamespace(categories=["a"])) == ["a"]
    assert _class_names(SimpleNamespace()) is None
