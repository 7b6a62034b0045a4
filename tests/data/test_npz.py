from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from logitlab.config.errors import DataError
from logitlab.data import MemoryImages, load_data

X = np.arange(20 * 6 * 6 * 3, dtype=np.uint64).reshape(20, 6, 6, 3).astype(np.uint8)
Y = np.arange(20) % 2
GOOD: dict[str, Any] = {"x_train": X, "y_train": Y, "x_test": X[:4], "y_test": Y[:4]}


def write(tmp_path: Path, **arrays: Any) -> str:
    np.savez(tmp_path / "mine.npz", **arrays)
    return f"npz:{tmp_path / 'mine.npz'}"


def test_colour_images_are_laid_out_channels_first(tmp_path: Path) -> None:
    data = load_data(write(tmp_path, **GOOD, other=np.zeros(3)))
    assert (data.name, data.channels, data.image_size, data.class_names) == ("mine", 3, 6, ("0", "1"))
    assert isinstance(data.train, MemoryImages)
    assert torch.equal(data.train.pixels, torch.from_numpy(X).permute(0, 3, 1, 2))
    assert data.train.labels.tolist() == Y.tolist()
    assert len(data.test) == 4


def test_grey_images_and_names(tmp_path: Path) -> None:
    grey = {key: value[..., 0] if key.startswith("x") else value for key, value in GOOD.items()}
    data = load_data(write(tmp_path, **grey, class_names=np.array(["a", "b"])))
    assert (data.channels, data.class_names) == (1, ("a", "b"))
    one = {key: value[..., :1] if key.startswith("x") else value for key, value in GOOD.items()}
    assert load_data(write(tmp_path, **one)).fingerprint == data.fingerprint


def test_a_whole_set_is_split(tmp_path: Path) -> None:
    data = load_data(write(tmp_path, x=X, y=Y.astype(np.uint8)), image_size=8)
    assert torch.bincount(data.train.labels).tolist() == [8, 8]
    assert torch.bincount(data.test.labels).tolist() == [2, 2]
    assert data.image_size == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_test": None}, r"lacks 'y_test'; expected x_train, .* Found: x_test, x_train, y_train"),
        ({"x_train": None, "y_train": None, "x": X}, r"lacks 'x_train', 'y_train'"),
        (dict.fromkeys(GOOD) | {"z": X, "images": X}, r"Found: images, z\.$"),
        (dict.fromkeys(GOOD) | {f"k{n:02}": Y for n in range(15)}, r"Found: k00, k01, .*, k11 and 3 more\.$"),
        ({"x_train": X / 255}, "expected 'x_train' as uint8, 0 to 255. Got float64; scale"),
        ({"x_train": X.reshape(20, 3, 6, 6)}, r"Got \[20, 3, 6, 6\]"),
        ({"x_train": X[:0], "y_train": Y[:0]}, r"Got \[0, 6, 6, 3\]"),
        ({"x_train": X.reshape(20, -1)}, r"\[N, H, W, C\] with C 1 or 3. Got \[20, 108\]"),
        ({"y_train": Y[:5]}, r"expected 'y_train' as 20 integers, one an image. Got int64 \[5\]"),
        ({"y_train": Y.astype(float)}, "Got float64"),
        ({"y_train": Y * 2}, "label 1 has no training image"),
        ({"y_test": Y[:4] + 1}, "label 2 of test image 1 is out of range"),
        ({"y_train": Y.astype(np.uint64) * np.uint64(2**64 - 5)}, "label 18446744073709551611 of 'y_train' image 1 is"),
        ({"class_names": np.array(["a", "b", "c"])}, "class 'c'"),
        ({"y_train": Y.astype(object)}, "Object arrays cannot be loaded .* Write it with numpy.savez"),
    ],
)
def test_faulty_archives_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    arrays = {key: value for key, value in (GOOD | change).items() if value is not None}
    with pytest.raises(DataError, match=message) as caught:
        load_data(write(tmp_path, **arrays))
    assert "mine" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (Y - 1, "label -1 of train image 0 is out of range; expected 0 to C - 1 for C classes"),
        (Y * 10**9, "label 1 has no training"),
        (Y * 0, "2 classes"),
    ],
)
def test_labels_are_checked_before_we_split(tmp_path: Path, labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data(write(tmp_path, x=X, y=labels))


def test_files_that_are_no_archive(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Cannot find the file '.*missing\.npz'"):
        load_data(f"npz:{tmp_path / 'missing.npz'}")
    path = tmp_path / "broken.npz"
    np.savez(path, **GOOD)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"Cannot read '.*broken\.npz'"):
        load_data(f"npz:{path}")
    np.save(tmp_path / "array.npy", X)
    with pytest.raises(DataError, match=r"lacks 'x_train', .* Found: no keys\."):
        load_data(f"npz:{tmp_path / 'array.npy'}")


def test_the_system_may_refuse_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = write(tmp_path, **GOOD)

    def refuse(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"^Cannot read '.*mine\.npz': Permission denied\. Check the path"):
        load_data(name)
