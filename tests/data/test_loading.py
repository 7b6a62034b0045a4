from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from logitlab.config.errors import DataError
from logitlab.config.trial import DataConfig
from logitlab.data import MemoryImages, list_data_sets, load_data, pixel_statistics, split_data

Folder = Callable[..., Path]


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    data = load_data("digits")
    assert (data.num_classes, data.channels, data.image_size) == (10, 1, 8)
    assert isinstance(data.train, MemoryImages)
    assert isinstance(data.test, MemoryImages)
    both = torch.cat([data.train.pixels, data.test.pixels]).flatten(1)
    assert (
        torch.bincount(torch.cat([data.train.labels, data.test.labels])).tolist()
        == np.bincount(load_digits().target).tolist()
    )
    # 0..16 to 0..255: sums of images tell that none is lost or doubled.
    expected = np.rint(load_digits().data * 255 / 16)
    assert sorted(both.double().sum(1).tolist()) == sorted(expected.sum(1).tolist())
    assert (both.min(), both.max()) == (0, 255)


def test_digits_never_change() -> None:
    # Records of earlier versions name this fingerprint; a new one would make all of them run again.
    assert load_data("DIGITS").fingerprint == load_data("digits", image_size=16).fingerprint == FINGERPRINT
    assert load_data("digits", image_size=16).image_size == 16


FINGERPRINT = "d769db183d82cacc2ee489a06930e1c787dbde60125fad40a3df5c7ca1ab7c93"


def test_names_are_listed() -> None:
    names = list_data_sets()
    assert names == sorted(names)
    assert {"digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "svhn", "flowers102"} <= set(names)


def test_root_comes_from_the_environment_then_from_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image_folder: Folder
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOGITLAB_DATA", raising=False)
    with pytest.raises(DataError, match=r"'data/mnist'"):
        load_data("mnist")
    monkeypatch.setenv("LOGITLAB_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(DataError, match=r"elsewhere/mnist'"):
        load_data("mnist")
    with pytest.raises(DataError, match=r"third/mnist'"):
        load_data("mnist", root="third")


def test_cifar10_takes_the_archive_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "cifar10").mkdir()
    pixels = np.zeros((4, 32, 32, 3), np.uint8)
    labels = np.array([0, 1, 0, 1])
    np.savez(
        tmp_path / "cifar10" / "cifar10_subset_2000x400.npz",
        x_train=pixels, y_train=labels, x_test=pixels, y_test=labels,
    )  # fmt: skip
    data = load_data("cifar10", root=tmp_path)
    assert (data.name, data.augmentation, data.image_size) == ("cifar10", "crop_flip", 32)
    with pytest.raises(DataError, match="Cannot load CIFAR10"):
        load_data("cifar10", root=tmp_path / "empty")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", "^Unknown data set 'digit'; did you mean 'digits'\\? Give cifar10, digits"),
        ("zzzzzz", "^Unknown data set 'zzzzzz'. Give cifar10"),
        ("./missing", "^Cannot find the folder './missing'"),
        ("some/where/", "^Cannot find the folder 'some/where/'"),
        ("mine.npz", "^To load the file 'mine.npz' write npz:mine.npz"),
        ("", "^The name of the data set is empty. Give cifar10, .*, or '.' for the current folder"),
        ("npz:", "^No file follows 'npz:'. Give npz:FILE"),
        ("~no-such-user/images", "^Cannot find the home folder that '~no-such-user/images' begins with"),
        ("a" * 300, f"^Cannot read '{'a' * 300}': File name too long. Check the path"),
        (f"npz:{'a' * 300}", f"^Cannot read '{'a' * 300}': File name too long. Check the path"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_data(name)
    assert "\n" not in str(caught.value)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png' is a file; expected a folder"):
        load_data(str(tmp_path / "a.png"))


def test_a_folder_with_a_known_name(image_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="Cannot load SVHN"):
        load_data("svhn", root="nowhere")
    image_folder("svhn")
    folder = load_data("./svhn")
    assert load_data("svhn", root="nowhere").fingerprint == folder.fingerprint
    image_folder("digits")
    assert load_data("digits").fingerprint == load_data("digits", root="nowhere").fingerprint
    assert load_data("./digits").num_classes == folder.num_classes


def test_image_size_must_be_positive() -> None:
    with pytest.raises(DataError, match=r"image_size must be at least 1 pixel. Got 0"):
        load_data("digits", image_size=0)


def test_the_system_may_refuse_a_folder(image_folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = image_folder()
    refused: list[str] = []

    def listing(path: Path) -> Iterator[Path]:
        refused.append(str(path))
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", listing)
    with pytest.raises(DataError) as caught:
        load_data(str(folder))
    assert str(caught.value) == f"Cannot read '{refused[0]}': Permission denied. Check the path and who may read it."


def test_an_enlarged_image_must_fit_in_memory() -> None:
    with pytest.raises(DataError, match=r"^digits: one image resized to 100000x100000 would take 9\.3 GiB; expected"):
        load_data("digits", image_size=100_000)


def test_digits_at_the_size_of_a_pretrained_network() -> None:
    data = load_data("digits", image_size=600)
    (batch, _), *_ = data.train.batches(torch.arange(2), 2)
    assert batch.shape == (2, 1, 600, 600)


@pytest.mark.real_data
def test_fashion_mnist(real_data: Path) -> None:
    data = load_data("fashion-mnist", root=real_data)
    assert (len(data.train), len(data.test), data.channels, data.image_size) == (60_000, 10_000, 1, 28)
    assert torch.bincount(data.train.labels).tolist() == [6000] * 10
    assert torch.bincount(data.test.labels).tolist() == [1000] * 10
    mean, std = pixel_statistics(data.train)
    # The values that every Fashion-MNIST recipe publishes.
    assert (mean.item(), std.item()) == (pytest.approx(0.2860, abs=1e-4), pytest.approx(0.3530, abs=1e-4))
    split = split_data(data, DataConfig(train_limit=10_000))
    assert torch.bincount(split.train.labels).tolist() == [1000] * 10
    assert torch.bincount(split.validation.labels).tolist() == [600] * 10


@pytest.mark.real_data
def test_mnist(real_data: Path) -> None:
    mean, std = pixel_statistics(load_data("mnist", root=real_data).train)
    assert (mean.item(), std.item()) == (pytest.approx(0.1307, abs=1e-4), pytest.approx(0.3081, abs=1e-4))


@pytest.mark.real_data
@pytest.mark.slow
def test_cifar10(real_data: Path) -> None:
    data = load_data("cifar10", root=real_data)
    assert (len(data.train), len(data.test), data.class_names[0]) == (20_000, 4_000, "airplane")
    mean, std = pixel_statistics(data.train)
    # Published for all 50,000 images; ours are 20,000 of them.
    torch.testing.assert_close(mean, torch.tensor([0.4914, 0.4822, 0.4465]), atol=5e-3, rtol=0)
    torch.testing.assert_close(std, torch.tensor([0.2470, 0.2435, 0.2616]), atol=5e-3, rtol=0)


@pytest.mark.real_data
@pytest.mark.slow
def test_a_folder_of_gtsrb_files_equals_the_archive(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "gtsrb" / "gtsrb32_40x15.npz"
    with np.load(path) as archive:
        for part in ("train", "test"):
            labels = archive[f"y_{part}"]
            for index, (pixels, label) in enumerate(zip(archive[f"x_{part}"], labels)):
                folder = tmp_path / part / f"{label:02}"
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(folder / f"{index:05}.png")
    data = load_data(str(tmp_path))
    assert (len(data.train), len(data.test), data.num_classes, data.image_size) == (1720, 645, 43, 32)
    expected = load_data(f"npz:{path}")
    assert isinstance(data.train, MemoryImages)
    assert isinstance(expected.train, MemoryImages)
    order = torch.argsort(expected.train.labels, stable=True)
    assert torch.equal(data.train.pixels, expected.train.pixels[order])
    assert torch.equal(data.train.labels, expected.train.labels[order])
