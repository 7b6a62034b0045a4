"""Out-of-distribution images by name or path."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from logitlab.config.errors import DataError
from logitlab.data import OodSet, list_ood_sets, load_data, load_ood


def pixels_of(found: OodSet) -> torch.Tensor:
    return torch.cat([pixels for pixels, _ in found.images.batches(torch.arange(len(found.images)), 64)])


@pytest.mark.parametrize("name", ["noise", "patches"])
@pytest.mark.parametrize(("channels", "image_size"), [(1, 8), (3, 32)])
def test_embedded_sets_fit_the_model_and_never_change(name, channels, image_size):
    torch.manual_seed(1)
    found = load_ood(name, channels=channels, image_size=image_size)
    pixels = pixels_of(found)
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (1000, channels, image_size, image_size)
    torch.manual_seed(2)
    again = load_ood(name.upper(), channels=channels, image_size=image_size)
    assert torch.equal(pixels, pixels_of(again))
    assert found.fingerprint == again.fingerprint
    assert found.name == again.name == name
    assert load_ood(name, channels=channels, image_size=image_size + 1).fingerprint != found.fingerprint


def test_noise_is_uniform():
    pixels = pixels_of(load_ood("noise", channels=1, image_size=8)).double()
    # Of 64,000 draws the mean is 127.5 ± .3, the deviation 73.9 ± .2.
    assert pixels.mean().item() == pytest.approx(127.5, abs=1.5)
    assert pixels.std().item() == pytest.approx(73.9, abs=1.0)
    assert len(pixels.unique()) == 256


def test_patches_are_of_the_photographs():
    pixels = pixels_of(load_ood("patches", channels=3, image_size=32))
    photographs = [load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    # Crops in turn: each half has about the colours of its photograph (edges are rarer in crops).
    for index, photograph in enumerate(photographs):
        colour = pixels[index::2].double().mean(dim=(0, 2, 3)).numpy()
        np.testing.assert_allclose(colour, photograph.mean(axis=(0, 1)), atol=25)
    assert len({tuple(patch.flatten().tolist()) for patch in pixels}) == 1000


def test_grey_is_the_luma_of_the_colour():
    grey = pixels_of(load_ood("patches", channels=1, image_size=16)).double()
    colour = pixels_of(load_ood("patches", channels=3, image_size=16)).double()
    luma = (colour * torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64).view(3, 1, 1)).sum(1, keepdim=True)
    assert (grey - luma).abs().max() <= 2


def test_a_large_size_makes_fewer_images(monkeypatch):
    monkeypatch.setattr("logitlab.data.ood.MEMORY_LIMIT", 10 * 3 * 64**2)
    assert len(load_ood("noise", channels=3, image_size=64).images) == 10
    with pytest.raises(DataError, match="OOD set 'patches': patches: one image resized to"):
        load_ood("patches", channels=3, image_size=4096)


def test_a_data_set_gives_its_test_part_in_the_models_form():
    digits = load_data("digits")
    found = load_ood("digits", channels=3, image_size=16)
    assert found.fingerprint == digits.fingerprint
    assert len(found.images) == len(digits.test)
    pixels = pixels_of(found)
    assert pixels.shape[1:] == (3, 16, 16)
    assert torch.equal(pixels[:, 0], pixels[:, 2])
    chosen = found.images.select(torch.tensor([5]))
    assert torch.equal(next(chosen.batches(torch.arange(1), 1))[0][0], pixels[5])


def test_a_folder_with_classes_gives_its_test_part(image_folder):
    folder = image_folder(count=10)
    found = load_ood(str(folder), channels=1, image_size=8)
    assert (found.name, len(found.images)) == ("images", 4)
    assert found.fingerprint == load_data(str(folder)).fingerprint


@pytest.mark.parametrize("depth", ["flat", "one folder"])
def test_a_folder_without_classes_gives_all_images(image_folder, depth):
    folder = image_folder(classes=("cat",), count=6, size=(12, 9))
    place = folder / "cat" if depth == "flat" else folder
    (place / "notes.txt").write_text("no image")
    (place / ".hidden.png").write_text("no image")
    found = load_ood(str(place), channels=1, image_size=8)
    assert pixels_of(found).shape == (6, 1, 8, 8)
    before = found.fingerprint
    Image.new("RGB", (12, 9)).save(folder / "cat" / "3.png")
    assert load_ood(str(place), channels=1, image_size=8).fingerprint != before


def test_a_large_flat_folder_is_streamed(image_folder, monkeypatch):
    folder = image_folder(classes=("cat",), count=4) / "cat"
    whole = pixels_of(load_ood(str(folder), channels=3, image_size=8))
    monkeypatch.setattr("logitlab.data.ood.MEMORY_LIMIT", 3 * 8 * 8 * 2)
    found = load_ood(str(folder), channels=3, image_size=8)
    found.images.workers = 0
    assert torch.equal(pixels_of(found), whole)


def test_names_win_over_folders(tmp_path, monkeypatch, image_folder):
    image_folder(name="noise", classes=("cat",), count=3)
    monkeypatch.chdir(tmp_path)
    assert len(load_ood("noise", channels=1, image_size=8).images) == 1000
    assert len(load_ood("./noise", channels=1, image_size=8).images) == 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nois", "it is not known. Did you mean 'noise'?"),
        ("fashion_mnist", "Did you mean 'fashion-mnist'?"),
        ("zzzzzz", "it is not known. Give noise, patches"),
        ("", "The name of the data set is empty"),
        ("./nowhere", "Cannot find the folder './nowhere'"),
        ("npz:nowhere.npz", "Cannot find the file 'nowhere.npz'"),
        ("notmnist", "Cannot find 't10k-images-idx3-ubyte.gz' in"),
        ("dtd", "DTD"),
        ("empty", "has no images"),
        ("broken", "Cannot read the image"),
    ],
)
def test_faults_are_told_in_one_line_with_the_name(tmp_path, monkeypatch, name, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError) as caught:
        load_ood(name, channels=1, image_size=8, root=tmp_path)
    assert str(caught.value).startswith(f"OOD set '{name}': ")
    assert words.lower() in str(caught.value).lower()
    assert "\n" not in str(caught.value)


def test_the_list_names_all():
    assert {"noise", "patches", "notmnist", "dtd", "digits", "svhn"} <= set(list_ood_sets())


@pytest.mark.real_data
def test_real_sets_by_name(real_data):
    letters = load_ood("notmnist", channels=3, image_size=28, root=real_data)
    assert len(letters.images) == 10_000
    assert pixels_of(letters).shape[1:] == (3, 28, 28)
    textures = load_ood("dtd", channels=1, image_size=28, root=real_data)
    # A fifth of ten classes with 120 images each.
    assert (textures.name, len(textures.images)) == ("dtd", 240)
    assert load_ood("mnist", channels=1, image_size=28, root=real_data).name == "mnist"
