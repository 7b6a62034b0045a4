from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from logitlab.config.errors import DataError
from logitlab.data import ImageFiles, MemoryImages, StreamedImages, load_data
from logitlab.data.folder import load_folder

# Python 3.12 and later warn of forking beside threads; DataLoader's workers touch neither torch's pool nor CUDA.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture
def files(tmp_path: Path) -> StreamedImages:
    """Ten grey images; image i is filled with i."""
    paths = []
    for index in range(10):
        Image.new("L", (4, 4), index).save(tmp_path / f"{index}.png")
        paths.append(str(tmp_path / f"{index}.png"))
    return StreamedImages(ImageFiles(tuple(paths), channels=1), torch.arange(10) % 3, workers=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_follow_the_indices(files: StreamedImages, workers: int) -> None:
    files.workers = workers
    order = torch.tensor([7, 1, 1, 9, 0])
    batches = list(files.batches(order, 2))
    assert [pixels[:, 0, 0, 0].tolist() for pixels, _ in batches] == [[7, 1], [1, 9], [0]]
    assert [labels.tolist() for _, labels in batches] == [[1, 1], [1, 0], [0]]
    assert batches[0][0].dtype == torch.uint8


def test_no_indices_give_no_batches(files: StreamedImages) -> None:
    assert list(files.batches(torch.arange(0), 4)) == []


def test_select_of_select(files: StreamedImages) -> None:
    chosen = files.select(torch.tensor([8, 6, 4])).select(torch.tensor([2, 0]))
    assert len(chosen) == 2
    assert chosen.labels.tolist() == [1, 2]
    assert next(chosen.batches(torch.arange(2), 2))[0][:, 0, 0, 0].tolist() == [4, 8]


def test_reading_leaves_torchs_global_generator(files: StreamedImages) -> None:
    state = torch.get_rng_state()
    list(files.batches(torch.arange(10), 3))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_file_is_named_in_one_line(files: StreamedImages, workers: int) -> None:
    assert isinstance(files.source, ImageFiles)
    Path(files.source.paths[5]).write_bytes(b"broken")
    files.workers = workers
    batches = files.batches(torch.arange(10), 4)
    assert next(batches)[1].tolist() == [0, 1, 2, 0]
    with pytest.raises(DataError, match=r"^Cannot read the image '.*5\.png': .*Replace it\.$"):
        next(batches)


def test_a_daemonic_process_decodes_by_itself(files: StreamedImages, monkeypatch: pytest.MonkeyPatch) -> None:
    files.workers = 2
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    assert len(next(files.batches(torch.arange(10), 10))[1]) == 10


def test_workers_default_to_a_few(files: StreamedImages) -> None:
    assert 1 <= StreamedImages(files.source, files.labels).workers <= 4


def test_labels_must_match(files: StreamedImages) -> None:
    with pytest.raises(DataError, match=r"Expected 10 labels, one an image. Got 2"):
        StreamedImages(files.source, torch.tensor([0, 1]))


def test_a_large_folder_streams_the_same_images(image_folder: Callable[..., Path]) -> None:
    folder = image_folder(count=10)
    held = load_folder(folder)
    streamed = load_folder(folder, memory_limit=20 * 8 * 8 * 3 - 1, workers=0)
    assert isinstance(held.train, MemoryImages)
    assert isinstance(load_folder(folder, memory_limit=20 * 8 * 8 * 3).train, MemoryImages)
    assert isinstance(streamed.train, StreamedImages)
    assert len(streamed.test) == len(held.test) == 4
    indices = torch.arange(len(held.train))
    for (pixels, labels), (expected, expected_labels) in zip(
        streamed.train.batches(indices, 5), held.train.batches(indices, 5), strict=True
    ):
        assert torch.equal(pixels, expected)
        assert torch.equal(labels, expected_labels)


def test_a_known_size_streams_too(image_folder: Callable[..., Path]) -> None:
    data = load_folder(image_folder(size=(9, 7)), image_size=6, memory_limit=0, workers=0)
    assert next(data.train.batches(torch.arange(3), 3))[0].shape == (3, 3, 6, 6)
    assert load_data(str(image_folder("other"))).image_size == 8
