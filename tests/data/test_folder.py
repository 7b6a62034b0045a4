from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from logitlab.config.errors import DataError
from logitlab.data import MemoryImages, load_data, load_ood
from logitlab.data.folder import load_folder

Folder = Callable[..., Path]


def test_a_bare_folder_is_split(image_folder: Folder) -> None:
    data = load_data(str(image_folder(classes=("dog", "cat", "owl"), count=10)))
    assert data.name == "images"
    assert data.class_names == ("cat", "dog", "owl")
    assert torch.bincount(data.train.labels).tolist() == [8, 8, 8]
    assert torch.bincount(data.test.labels).tolist() == [2, 2, 2]
    assert (data.channels, data.image_size, data.augmentation) == (3, 8, "crop")
    assert data.validation is None


def test_the_pixels_are_those_of_the_files(image_folder: Folder) -> None:
    folder = image_folder(count=2)
    data = load_folder(folder)
    assert isinstance(data.train, MemoryImages)
    stored = {}
    for path in folder.rglob("*.png"):
        with Image.open(path) as image:
            rows = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        stored[tuple(rows.view(8, 8, 3).permute(2, 0, 1).flatten().tolist())] = path
    assert len(stored) == 4
    for pixels, label in zip(data.train.pixels, data.train.labels):
        assert stored[tuple(pixels.flatten().tolist())].parent.name == data.class_names[label]


def test_grey_files_give_one_channel_and_one_colour_file_gives_three(image_folder: Folder) -> None:
    folder = image_folder(mode="L")
    assert load_folder(folder).channels == 1
    Image.new("RGB", (8, 8), (1, 2, 3)).save(folder / "cat" / "colour.png")
    data = load_folder(folder)
    assert data.channels == 3
    grey, _ = next(data.train.batches(torch.arange(len(data.train)), 100))
    assert int((grey[:, 0] == grey[:, 1]).flatten(1).all(1).sum()) >= len(data.train) - 1


def test_train_and_test_folders(image_folder: Folder) -> None:
    root = image_folder("set/train", count=6).parent
    image_folder("set/test", count=3)
    data = load_folder(root)
    assert (len(data.train), len(data.test), data.validation) == (12, 6, None)
    assert data.name == "set"
    without = data.fingerprint
    image_folder("set/val", count=2)
    data = load_folder(root)
    assert data.validation is not None
    assert (len(data.train), len(data.test), len(data.validation)) == (12, 6, 4)
    assert data.fingerprint != without


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_val_alone_is_the_test_part(image_folder: Folder, name: str) -> None:
    root = image_folder("set/train", count=6).parent
    image_folder(f"set/{name}", count=2)
    data = load_folder(root)
    assert (len(data.test), data.validation) == (4, None)


def test_a_class_may_be_called_train(image_folder: Folder) -> None:
    assert load_folder(image_folder(classes=("bus", "train"))).class_names == ("bus", "train")


def test_hidden_files_and_other_files_are_passed_over(image_folder: Folder) -> None:
    folder = image_folder(count=5)
    before = load_folder(folder).fingerprint
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / "cat" / "._0.png").write_bytes(b"a Mac's second file")
    (folder / "cat" / "notes.txt").write_text("no image")
    (folder / "index.csv").write_text("no image")
    data = load_folder(folder)
    assert data.fingerprint == before
    assert len(data.train) + len(data.test) == 10


def test_fingerprint_moves_with_the_folder_and_sees_names_and_contents(image_folder: Folder, tmp_path: Path) -> None:
    folder = image_folder(count=5)
    before = load_folder(folder).fingerprint
    moved = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    assert load_folder(moved).fingerprint == before
    assert load_folder(moved, image_size=4).fingerprint == before
    (moved / "cat" / "0.png").rename(moved / "cat" / "00.png")
    assert load_folder(moved).fingerprint != before
    (moved / "cat" / "00.png").rename(moved / "cat" / "0.png")
    assert load_folder(moved).fingerprint == before
    Image.new("RGB", (8, 8)).save(moved / "cat" / "0.png")
    assert load_folder(moved).fingerprint != before


def test_fingerprint_of_a_streamed_set_sees_both_ends_of_a_file(image_folder: Folder) -> None:
    folder = image_folder(count=2, size=(128, 128), suffix=".bmp")
    path = folder / "cat" / "0.bmp"
    original = path.read_bytes()
    assert len(original) > 3 * 8192

    def fingerprint_with(position: int, memory_limit: int) -> str:
        content = bytearray(original)
        content[position] ^= 1
        path.write_bytes(content)
        return load_folder(folder, memory_limit=memory_limit).fingerprint

    path.write_bytes(original)
    before = load_folder(folder, memory_limit=0).fingerprint
    assert fingerprint_with(1000, 0) != before
    assert fingerprint_with(len(original) - 1000, 0) != before
    # Held in memory, a file is hashed from end to end.
    path.write_bytes(original)
    whole = load_folder(folder).fingerprint
    assert fingerprint_with(len(original) // 2, 10**9) != whole


def test_a_truncated_jpeg_is_named(image_folder: Folder) -> None:
    folder = image_folder(suffix=".jpg", size=(32, 32))
    bad = folder / "dog" / "3.jpg"
    bad.write_bytes(bad.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"^Cannot read the image '.*dog/3\.jpg': image file is truncated") as caught:
        load_folder(folder)
    assert "\n" not in str(caught.value)


def test_several_bad_files_are_counted(image_folder: Folder) -> None:
    folder = image_folder()
    for index in range(3):
        (folder / "cat" / f"{index}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"cat/0\.png.* 2 more cannot be read: '.*cat/1\.png', '.*cat/2\.png'\.$"):
        load_folder(folder)


def test_a_pipe_among_the_images_is_not_waited_for(image_folder: Folder) -> None:
    folder = image_folder()
    os.mkfifo(folder / "cat" / "pipe.png")
    with pytest.raises(DataError, match=r"cat/pipe\.png': it is no regular file\. Replace it\.$"):
        load_folder(folder)
    with pytest.raises(DataError, match=r"OOD set '.*cat': .*cat/pipe\.png': it is no regular file"):
        load_ood(str(folder / "cat"), channels=3, image_size=8)


def test_an_empty_class_is_named(image_folder: Folder) -> None:
    folder = image_folder()
    (folder / "owl").mkdir()
    (folder / "owl" / ".hidden.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"^The class folder '.*owl' has no images \(expected .jpg"):
        load_folder(folder)


def test_mixed_sizes_are_named_or_resized(image_folder: Folder) -> None:
    folder = image_folder()
    Image.new("RGB", (9, 8)).save(folder / "dog" / "2.png")
    with pytest.raises(
        DataError, match=r"^Images differ in size: '.*' is 8x8, '.*dog/2\.png' is 9x8; pass --image-size N"
    ):
        load_folder(folder)
    assert load_folder(folder, image_size=8).image_size == 8


def test_wide_images_are_refused_or_resized(image_folder: Folder) -> None:
    folder = image_folder(size=(10, 8))
    with pytest.raises(DataError, match=r"'.*\.png': expected square images\. Got 10x8; pass --image-size N"):
        load_folder(folder)
    data = load_folder(folder, image_size=16)
    assert isinstance(data.train, MemoryImages)
    assert data.train.pixels.shape == (8, 3, 16, 16)


def test_train_without_test_is_refused(image_folder: Folder) -> None:
    root = image_folder("set/train").parent
    with pytest.raises(DataError, match=r"has train/ but neither val/ nor test/.* give '.*train' to have a fifth"):
        load_folder(root)
    assert len(load_folder(root / "train").test) == 2


def test_parts_with_other_classes_are_refused(image_folder: Folder) -> None:
    root = image_folder("set/train").parent
    image_folder("set/test", classes=("cat", "dog", "yak"))
    with pytest.raises(DataError, match=r"The class 'yak' is in only one of '.*train' and '.*test'"):
        load_folder(root)


def test_a_single_class_is_refused(image_folder: Folder) -> None:
    with pytest.raises(DataError, match=r"at least 2 class folders in '.*', one a class. Found only 'cat'"):
        load_folder(image_folder(classes=("cat",)))


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="Found none"):
        load_folder(tmp_path)


def test_a_class_too_small_to_split_is_named(image_folder: Folder) -> None:
    folder = image_folder()
    for index in range(1, 5):
        (folder / "dog" / f"{index}.png").unlink()
    with pytest.raises(DataError, match="Class 'dog' has 1 image"):
        load_folder(folder)


NOT_UTF8 = os.fsdecode(b"caf\xe9")


def test_names_that_are_not_utf8(image_folder: Folder) -> None:
    folder = image_folder(classes=("dog", NOT_UTF8))
    (folder / "dog" / "0.png").rename(folder / "dog" / f"{NOT_UTF8}.png")
    data = load_folder(folder)
    assert data.class_names == ("caf\\xe9", "dog")
    assert torch.bincount(data.train.labels).tolist() == [4, 4]
    # Another name is another set, though both look alike.
    (folder / "dog" / f"{NOT_UTF8}.png").rename(folder / "dog" / "caf\\xe9.png")
    assert load_folder(folder).fingerprint != data.fingerprint
    assert load_folder(folder, memory_limit=0).class_names == data.class_names
    assert load_folder(Path(folder.rename(folder.with_name(NOT_UTF8)))).name == "caf\\xe9"


def test_names_in_utf8_keep_their_fingerprint(image_folder: Folder) -> None:
    # Records of earlier versions name it; another would make all of their trials run again.
    root = image_folder("set/train", classes=("café", "κ")).parent
    image_folder("set/test", classes=("café", "κ"))
    text = ""
    for part in ("train", "test"):
        text += f"{part}\n"
        for path in sorted((root / part).rglob("*.png")):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            text += f"{path.relative_to(root).as_posix()}\t{path.stat().st_size}\t{digest}\n"
    assert load_folder(root).fingerprint == hashlib.sha256(text.encode()).hexdigest()


def test_a_faulty_file_whose_name_is_not_utf8_can_be_named(image_folder: Folder) -> None:
    folder = image_folder(classes=("dog", NOT_UTF8))
    (folder / NOT_UTF8 / f"{NOT_UTF8}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"Cannot read the image '.*caf\\xe9/caf\\xe9\.png'") as caught:
        load_folder(folder)
    assert str(caught.value).encode()


def test_two_classes_must_not_be_written_alike(image_folder: Folder) -> None:
    with pytest.raises(DataError, match=r"Two class folders in '.*' are written 'caf\\xe9'\. Rename one"):
        load_folder(image_folder(classes=("caf\\xe9", "dog", NOT_UTF8)))


def test_a_class_that_may_not_be_listed_is_not_called_empty(
    image_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = image_folder()
    for path in (folder / "dog").iterdir():
        path.unlink()
    listed = Path.iterdir

    def listing(path: Path) -> Iterator[Path]:
        if path.name == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", listing)
    with pytest.raises(DataError, match=r"^Cannot read '.*/dog': Permission denied\."):
        load_data(str(folder))


def test_one_image_must_fit_in_memory(image_folder: Folder) -> None:
    with pytest.raises(
        DataError, match=r"^'.*': one image resized to 100000x100000 would take 27\.9 GiB; .* most 13377\.$"
    ):
        load_folder(image_folder(), image_size=100_000)
