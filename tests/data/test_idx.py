from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch

from logitlab.config.errors import DataError
from logitlab.data import MemoryImages, load_data
from logitlab.data.idx import read_idx


def idx(values: torch.Tensor) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.dim()]) + sizes + values.to(torch.uint8).numpy().tobytes()


def write_set(folder: Path, zipped: bool, labels: int = 20) -> torch.Tensor:
    folder.mkdir(parents=True)
    pixels = torch.randint(256, (20, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for prefix in ("train", "t10k"):
        for stem, values in {"images-idx3": pixels, "labels-idx1": torch.arange(labels) % 10}.items():
            content = idx(values)
            name = f"{prefix}-{stem}-ubyte"
            (folder / f"{name}.gz" if zipped else folder / name).write_bytes(
                gzip.compress(content) if zipped else content
            )
    return pixels


@pytest.mark.parametrize(
    ("name", "where", "zipped"),
    [
        ("mnist", "mnist", True),
        ("MNIST", "MNIST/raw", False),
        ("fashion-mnist", "fashion-mnist", True),
        ("FashionMNIST", "FashionMNIST/raw", False),
    ],
)
def test_sets_are_found_in_both_layouts(tmp_path: Path, name: str, where: str, zipped: bool) -> None:
    pixels = write_set(tmp_path / where, zipped)
    data = load_data(name, root=tmp_path)
    assert isinstance(data.train, MemoryImages)
    assert torch.equal(data.train.pixels[:, 0], pixels)
    assert data.train.labels.tolist() == [*range(10)] * 2
    assert data.class_names[9] == ("Ankle boot" if "ashion" in name else "9")


def test_a_missing_set_says_where_and_how(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_data("fashion-mnist", root=tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for words in ["train-images-idx3-ubyte.gz", str(tmp_path / "fashion-mnist"), "LOGITLAB_DATA", "download=True"]:
        assert words in message


def test_counts_must_match(tmp_path: Path) -> None:
    write_set(tmp_path / "mnist", zipped=True, labels=19)
    with pytest.raises(DataError, match="mnist: found 20 train images and 19 labels"):
        load_data("mnist", root=tmp_path)


def test_read_idx_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "a-idx3-ubyte"
    path.write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 255]))
    assert read_idx(path, 3).tolist() == [[[1, 2, 3], [4, 5, 255]]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bytes([0, 0, 8, 1, 0, 0, 0, 3, 1, 2]), r"expected 3 bytes of data for the sizes \[3\], got 2"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 1, 1, 2]), "expected 1 bytes .* got 2"),
        (bytes([0, 0, 13, 1, 0, 0, 0, 0]), "expected IDX of unsigned bytes with 1 dimensions, got .* 00 00 0d 01"),
        (bytes([0, 0, 8, 3, 0, 0, 0, 0]), "got the first bytes 00 00 08 03"),
        (b"", "Cannot read"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 0]), "holds no data"),
    ],
)
def test_other_formats_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "labels-idx1-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path, 1)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "no gzip", "bit"])
def test_damaged_gzip_is_refused(tmp_path: Path, damage: str) -> None:
    content = bytearray(gzip.compress(idx(torch.arange(200))))
    if damage == "bit":
        content[40] ^= 0xFF
    path = tmp_path / "labels-idx1-ubyte.gz"
    path.write_bytes({"cut": content[:-30], "no gzip": b"hello", "bit": content}[damage])
    with pytest.raises(DataError, match=r"Cannot read '.*labels-idx1-ubyte\.gz': .*Fetch it again"):
        read_idx(path, 1)


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^Cannot read '.*': Is a directory\. Check the path"):
        read_idx(tmp_path, 1)
