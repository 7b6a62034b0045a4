from __future__ import annotations

import pytest
import torch
from torchvision.transforms import v2

from logitlab.data import prepare_batch
from logitlab.data.augmentation import _draw_parts, auto_augment, random_crop, random_flip, random_resized_crop

ZERO, ONE = torch.zeros(3), torch.ones(3)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_images(count: int = 4, size: int = 8, channels: int = 3) -> torch.Tensor:
    return torch.randint(1, 256, (count, channels, size, size), generator=seeded(1), dtype=torch.uint8)


def test_none_normalises_as_torchvision_does() -> None:
    images = random_images()
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.1, 0.2, 0.3])
    expected = v2.functional.normalize(v2.functional.to_dtype(images, scale=True), mean.tolist(), std.tolist())
    result = prepare_batch(images, mean, std)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize(("size", "padding"), [(32, 4), (8, 1), (4, 1), (28, 4), (224, 28)])
def test_crop_is_a_window_of_the_padded_image(size: int, padding: int) -> None:
    images = random_images(24, size, channels=1)
    shifted = random_crop(images, seeded())
    padded = torch.nn.functional.pad(images, [padding] * 4)
    seen = set()
    for image, frame in zip(shifted, padded):
        found = [
            (top, left)
            for top in range(2 * padding + 1)
            for left in range(2 * padding + 1)
            if torch.equal(image, frame[:, top : top + size, left : left + size])
        ]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) > 4  # images are shifted independently of one another


def test_crop_uses_every_shift_equally_often() -> None:
    # One white pixel in the middle of 8x8: where it lands tells the shift.
    images = torch.zeros(9000, 1, 8, 8, dtype=torch.uint8)
    images[:, :, 4, 4] = 255
    count = random_crop(images, seeded()).eq(255).sum(0)[0]
    assert count[3:6, 3:6].sum() == 9000
    assert (count[3:6, 3:6] - 1000).abs().max() < 5 * 30


def test_flip_mirrors_half_of_the_images() -> None:
    images = random_images(1000)
    flipped = random_flip(images, seeded())
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    same = (flipped == images).flatten(1).all(1)
    assert bool((mirrored ^ same).all())
    assert abs(int(mirrored.sum()) - 500) < 5 * 16


def test_auto_augment_equals_torchvisions_policy_image_by_image() -> None:
    images = random_images(6, 32)
    result = auto_augment(images, seeded(3))
    seed = int(torch.randint(2**31, (), generator=seeded(3)))
    policy = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        expected = torch.stack([policy(image) for image in images])
    assert torch.equal(result, expected)
    assert not torch.equal(result, images)


@pytest.mark.parametrize(("size", "name"), [(64, "CIFAR10"), (65, "IMAGENET")])
def test_auto_augment_takes_the_policy_for_the_size(size: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    original = v2.AutoAugment

    def spy(policy: v2.AutoAugmentPolicy) -> v2.AutoAugment:
        asked.append(policy.name)
        return original(policy)

    monkeypatch.setattr(v2, "AutoAugment", spy)
    auto_augment(random_images(1, size), seeded())
    assert asked == [name]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "augmentation", ["crop", "crop_flip", "resized_crop_flip", "autoaugment", "resized_autoaugment"]
)
def test_augmentation_is_reproducible_and_leaves_the_global_generator(augmentation: str, channels: int) -> None:
    images = random_images(16, 16, channels)
    before = images.clone()
    state = torch.get_rng_state()

    def prepared(seed: int) -> torch.Tensor:
        return prepare_batch(images, ZERO[:channels], ONE[:channels], augmentation, seeded(seed))  # type: ignore[arg-type]

    first = prepared(0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, prepared(0))
    assert not torch.equal(first, prepared(1))
    assert first.shape == images.shape
    assert first.dtype == torch.float32
    assert torch.equal(images, before)


@pytest.mark.parametrize(
    "augmentation", ["none", "crop", "crop_flip", "resized_crop_flip", "autoaugment", "resized_autoaugment"]
)
def test_an_empty_batch_stays_empty(augmentation: str) -> None:
    images = torch.zeros(0, 3, 8, 8, dtype=torch.uint8)
    assert prepare_batch(images, ZERO, ONE, augmentation, seeded()).shape == (0, 3, 8, 8)  # type: ignore[arg-type]


def test_each_augmentation_adds_to_the_one_before() -> None:
    images = random_images(8)
    crop = prepare_batch(images, ZERO, ONE, "crop", seeded())
    crop_flip = prepare_batch(images, ZERO, ONE, "crop_flip", seeded())
    assert torch.equal(crop, random_crop(images, seeded()).float() / 255)
    # The same shifts, then some images mirrored.
    mirrored = (crop_flip == crop.flip(-1)).flatten(1).all(1)
    same = (crop_flip == crop).flatten(1).all(1)
    assert bool((mirrored | same).all())
    assert 0 < int(mirrored.sum()) < 8


def test_augmentation_needs_a_generator() -> None:
    with pytest.raises(ValueError, match=r"'crop' needs a torch.Generator"):
        prepare_batch(random_images(), ZERO, ONE, "crop")


def test_resized_crop_is_torchvisions_of_the_same_part() -> None:
    images = random_images(64, 24)
    cut = random_resized_crop(images, seeded())
    assert cut.shape == images.shape
    assert cut.dtype == torch.uint8
    top, left, rows, columns = (values.int().tolist() for values in _draw_parts(64, 24, 24, seeded()))
    for image, result, *part in zip(images, cut, top, left, rows, columns):
        # Enlarging, as here, antialiasing changes nothing; rounding may differ by one.
        expected = v2.functional.resized_crop(image, *part, size=[24, 24], antialias=False)
        assert (result.int() - expected.int()).abs().max() <= 1
    assert not torch.equal(cut, images)


def test_resized_crops_have_the_areas_aspects_and_places_of_the_paper() -> None:
    # W A.1: 10-100 % of the image, aspect ratios of 0.75 to 1.33.
    count, side = 20000, 224
    top, left, rows, columns = _draw_parts(count, side, side, seeded())
    share = rows * columns / side**2
    aspect = columns / rows
    # Rows and columns are whole numbers: half a pixel of 60 is 1 %.
    assert 0.098 < share.min() < 0.11
    assert 0.99 < share.max() <= 1
    assert 0.735 < aspect.min() < 0.76
    assert 1.32 < aspect.max() < 1.36
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + rows <= side).all()
    assert (left + columns <= side).all()
    # Small crops fit always: there, areas are uniform, the aspect is symmetric in its logarithm, and so are the places.
    small = share < 0.5
    assert share[small].mean() == pytest.approx(0.3, abs=0.01)
    assert aspect[small].log().mean() == pytest.approx(0, abs=0.01)
    for start, length in ((top, rows), (left, columns)):
        assert (start / (side - length).clamp_min(1))[small].mean() == pytest.approx(0.5, abs=0.02)


def test_where_no_part_fits_the_whole_image_is_taken() -> None:
    # A tenth of 1 x 100 pixels, with these aspects, is at least three rows high.
    top, left, rows, columns = _draw_parts(50, 1, 100, seeded())
    assert rows.tolist() == [1] * 50
    assert columns.tolist() == [100] * 50
    assert top.tolist() == left.tolist() == [0] * 50
    images = torch.randint(256, (50, 3, 1, 100), generator=seeded(1), dtype=torch.uint8)
    assert torch.equal(random_resized_crop(images, seeded()), images)


def test_resized_crop_flip_cuts_before_it_mirrors() -> None:
    images = random_images(40)
    cut = random_resized_crop(images, seeded()).float() / 255
    prepared = prepare_batch(images, ZERO, ONE, "resized_crop_flip", seeded())
    mirrored = (prepared == cut.flip(-1)).flatten(1).all(1)
    same = (prepared == cut).flatten(1).all(1)
    assert bool((mirrored | same).all())
    assert 8 < int(mirrored.sum()) < 32


def test_resized_crops_do_not_depend_on_how_many_are_cut_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    images = random_images(20)
    whole = random_resized_crop(images, seeded())
    monkeypatch.setattr("logitlab.data.augmentation._RESIZED", 7)
    assert torch.equal(random_resized_crop(images, seeded()), whole)
