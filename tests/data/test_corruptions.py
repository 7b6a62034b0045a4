"""The corruptions of ImageNet-C against brute force, closed forms, and other libraries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from scipy import fft, ndimage, signal
from sklearn.datasets import load_sample_image
from torch.nn import functional as F

from logitlab.config.errors import DataError, InputError
from logitlab.data.corruptions import (
    CORRUPTIONS,
    SEVERITIES,
    CorruptedImages,
    available_corruptions,
    corrupt,
    published_for,
    weather,
)
from logitlab.data.corruptions.blur import disc, frosted, smear
from logitlab.data.corruptions.constants import CIFAR_10_C, IMAGENET_C, TINY_IMAGENET_C
from logitlab.data.corruptions.digital import elastic_transform
from logitlab.data.corruptions.grid import clipped_zoom
from logitlab.data.images import MemoryImages

DRAW_NOTHING = {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"}


def flower(side: int, channels: int = 3) -> torch.Tensor:
    """A photograph, uint8 [1, C, side, side]."""
    picture = Image.fromarray(load_sample_image("flower.jpg")[60:400, 120:460]).resize((side, side))
    pixels = np.array(picture if channels == 3 else picture.convert("L"))
    return torch.from_numpy(pixels.reshape(side, side, channels)).permute(2, 0, 1)[None]


def levels(values: np.ndarray) -> torch.Tensor:
    """[H, W, C] in [0, 1] to uint8 [1, C, H, W], cut down to whole levels."""
    cut = np.floor(np.clip(values, 0, 1) * 255 + 1e-6).astype(np.uint8)
    return torch.from_numpy(cut).permute(2, 0, 1)[None]


def plain(pixels: torch.Tensor) -> np.ndarray:
    """uint8 [1, C, H, W] to float64 [H, W, C] in [0, 1]."""
    return pixels[0].permute(1, 2, 0).numpy() / 255


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Frost photographs of one colour, installed as a package would."""
    folder = tmp_path / "imagecorruptions" / "frost"
    folder.mkdir(parents=True)
    for name in ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg", "frost6.jpg"):
        Image.new("RGB", (90, 70), (200, 100, 50)).save(folder / name, quality=100, subsampling=0)
    metadata = tmp_path / "imagecorruptions_imaug-1.1.5.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: imagecorruptions-imaug\nVersion: 1.1.5\n")
    monkeypatch.syspath_prepend(tmp_path)
    weather._photograph.cache_clear()
    return folder


@pytest.mark.parametrize("side", [8, 28, 64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_any_size_and_colour(name: str, channels: int, side: int, photographs: Path) -> None:
    images = flower(side, channels).expand(2, -1, -1, -1)
    before = images.clone()
    for severity in (1, 3, 5):
        found = corrupt(images, name, severity)
        assert found.dtype == torch.uint8
        assert found.shape == images.shape
        assert found.is_contiguous()
        if name in DRAW_NOTHING:
            assert torch.equal(found[0], found[1])
    assert not torch.equal(found, images)
    # Frost of one colour looks the same wherever it is cut.
    assert torch.equal(found[0], found[1]) == (name in DRAW_NOTHING | {"frost"})
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_neither_batch_nor_order_nor_global_seed_matters(name: str, photographs: Path) -> None:
    images = torch.cat([flower(16), flower(16).flip(3), 255 - flower(16)])
    whole = corrupt(images, name, 4, seed=3)
    torch.manual_seed(1)
    np.random.seed(1)
    order = torch.tensor([2, 0, 1])
    assert torch.equal(corrupt(images[order], name, 4, seed=3, indices=order), whole[order])
    alone = [corrupt(images[i : i + 1], name, 4, seed=3, indices=torch.tensor([i])) for i in range(3)]
    assert torch.equal(torch.cat(alone), whole)
    other = corrupt(images, name, 4, seed=4)
    assert torch.equal(other, whole) == (name in DRAW_NOTHING | {"frost"})


# As published, not every step is one in mean square: what is smoothed more, or moved by chance, may come nearer; the
# elastic transform begins with large affine maps and ends with small ripples.
STEADY = ["gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "zoom_blur", "brightness", "contrast"]
STEADY += ["pixelate", "jpeg_compression"]


def distances(image: torch.Tensor, name: str, copies: int) -> list[float]:
    batch = image.expand(copies, -1, -1, -1)
    return [(corrupt(batch, name, severity).double() - image).square().mean().item() for severity in SEVERITIES]


@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize("name", STEADY)
def test_each_severity_is_worse(name: str, side: int) -> None:
    found = distances(flower(side), name, 1 if name in DRAW_NOTHING else 4)
    assert found == sorted(found)
    assert found[4] > 1.3 * found[0] > 0


@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize("name", ["glass_blur", "motion_blur", "snow", "fog"])
def test_the_last_severity_is_worse_than_the_first(name: str, side: int) -> None:
    found = distances(flower(side), name, 10)
    assert found[4] > found[0] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", STEADY)
def test_each_severity_is_worse_at_imagenets_size(name: str) -> None:
    found = distances(flower(224), name, 1)
    assert found == sorted(found)


def test_constants_are_of_the_nearest_size_and_complete() -> None:
    expected = {
        8: CIFAR_10_C,
        45: CIFAR_10_C,
        46: TINY_IMAGENET_C,
        119: TINY_IMAGENET_C,
        120: IMAGENET_C,
        500: IMAGENET_C,
    }
    assert {side: published_for(side) for side in expected} == expected
    for published in (CIFAR_10_C, TINY_IMAGENET_C, IMAGENET_C):
        assert tuple(published.severities) == CORRUPTIONS
        assert {len(values) for values in published.severities.values()} == {5}


def test_constants_are_still_those_compared_with_the_published_code() -> None:
    # Each weighed by its severity (1 to 5) and its place (from 1): no constant can change, or change places, unseen.
    expected = [
        [1.26, 1850, 0.69, 23.1, 106.75, 174, 18.2, 1729.7, 24.55, 81.45, 3, 4.9, 5.27, 11.55, 784],
        [2.06, 795, 1.22, 35.28, 127.2, 230, 18.2, 1710.45, 26.1, 87.3, 5.5, 2.25, 5.62, 9.5, 616],
        [3.8, 181, 2.45, 125.2, 196.4, 565, 19.29, 1937.55, 30.8, 86.2, 5.5, 2.25, 12.210893, 5.25, 181],
    ]
    for published, sums in zip((CIFAR_10_C, TINY_IMAGENET_C, IMAGENET_C), expected, strict=True):
        for (name, constants), total in zip(published.severities.items(), sums, strict=True):
            weighed = sum(
                severity * place * value
                for severity, constant in enumerate(constants, start=1)
                for place, value in enumerate(np.atleast_1d(constant), start=1)
            )
            assert weighed == pytest.approx(total, abs=1e-5), (published.name, name)


def test_noise_has_the_published_moments() -> None:
    grey = torch.full((1, 3, 64, 64), 102, dtype=torch.uint8)  # 0.4
    # 12,288 draws: the error of a deviation is 0.64 %, of a mean 0.9 % of the deviation.
    for severity in (1, 2):
        found = corrupt(grey, "gaussian_noise", severity).double() / 255
        deviation = (0.04, 0.08)[severity - 1]
        assert found.std().item() == pytest.approx(deviation, rel=0.03)
        # Cutting down to whole levels takes half a level on average.
        assert found.mean().item() == pytest.approx(0.4 - 0.5 / 255, abs=0.04 * deviation)
        photons = (250, 100)[severity - 1]
        found = corrupt(grey, "shot_noise", severity).double() / 255
        assert found.var().item() == pytest.approx(0.4 / photons, rel=0.06)
    for severity, share in enumerate((0.01, 0.02, 0.05, 0.08, 0.14), start=1):
        found = corrupt(grey, "impulse_noise", severity)
        struck = found != 102
        assert struck.double().mean().item() == pytest.approx(share, abs=4 * (share / 12_288) ** 0.5)
        assert set(found[struck].tolist()) == {0, 255}
        assert (found[struck] == 255).double().mean().item() == pytest.approx(0.5, abs=2 / struck.sum().item() ** 0.5)


def test_noise_of_channels_and_images_is_independent() -> None:
    found = corrupt(torch.full((2, 3, 64, 64), 128, dtype=torch.uint8), "gaussian_noise", 5).double().flatten(2)
    correlation = torch.corrcoef(found.flatten(0, 1))
    # 4,096 pixels: a correlation of independent noise is 0 ± 0.016.
    assert (correlation - torch.eye(6)).abs().max().item() < 0.08


@pytest.mark.parametrize(("radius", "deviation"), [(3, 0.1), (0.3, 0.4), (1.5, 0.1), (2.5, 0.01), (8, 0.5), (10, 0.5)])
def test_disc_is_a_disc_with_a_smooth_edge(radius: float, deviation: float) -> None:
    reach, half = (8, 1) if radius <= 8 else (int(radius), 2)
    grid = range(-reach, reach + 1)
    sharp = np.array([[float(i * i + j * j <= radius**2) for j in grid] for i in grid])
    normal = np.exp(-(np.arange(-half, half + 1) ** 2) / 2 / deviation**2)
    smooth = signal.convolve2d(
        np.pad(sharp / sharp.sum(), half, mode="reflect"), np.outer(normal, normal) / normal.sum() ** 2, mode="valid"
    )
    kernel = disc(radius, deviation)
    border = (len(smooth) - len(kernel)) // 2
    np.testing.assert_allclose(np.pad(kernel, border), smooth, atol=1e-12)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_defocus_is_a_convolution_with_it(severity: int) -> None:
    image = flower(64)
    kernel = torch.from_numpy(disc(*TINY_IMAGENET_C.severities["defocus_blur"][severity - 1]).copy())[None, None]
    padded = F.pad(image.double().transpose(0, 1), (len(kernel[0, 0]) // 2,) * 4, mode="reflect")
    expected = (F.conv2d(padded, kernel).transpose(0, 1) + 1e-6).floor()
    difference = (corrupt(image, "defocus_blur", severity).double() - expected).abs()
    assert difference.max() <= 1
    assert (difference > 0).double().mean() < 1e-3


@pytest.mark.parametrize(("farthest", "rounds"), [(1, 1), (2, 3), (4, 2)])
def test_glass_moves_pixels_as_the_published_loop_does(farthest: int, rounds: int) -> None:
    height, width = 20, 17
    seen = np.arange(height * width * 3).reshape(height, width, 3)
    steps = np.random.default_rng(5).integers(
        -farthest, farthest, size=(rounds, (height - 2 * farthest) * (width - 2 * farthest), 2)
    )
    expected = seen.copy()
    for one_round in steps:
        draws = iter(one_round)
        for row in range(height - farthest, farthest, -1):
            for column in range(width - farthest, farthest, -1):
                across, down = next(draws)
                # An exchange of views: what the second takes has changed by then.
                expected[row, column], expected[row + down, column + across] = (
                    expected[row + down, column + across],
                    expected[row, column],
                )
    source = frosted(height, width, farthest, rounds, np.random.default_rng(5))
    np.testing.assert_array_equal(seen.reshape(-1, 3)[source].reshape(seen.shape), expected)


# What ImageMagick 6.9.11 (16 bits) makes of it: convert -motion-blur RADIUSxDEVIATION+ANGLE.
_IMAGEMAGICK = {
    (6, 1, 0): (
        "2e75773f8688497d59aebb7e8d62c2fd718c5b7645613a7d9dc5a1c9a5ceb3fd"
        "6f588d76ab93bd7d9a8fbf6e65a7a4fdb26f71ad6a6caf7d4b945e6db68095fd"
    ),
    (6, 2, -30.5): (
        "446b77557b7b5f7d517b8c6e984885a878ae74834ba595bc78a366917d9790bb"
        "ac65b571bf8fe4bf9272b49483ca87bba0b453a59076dcbf4b80a14ca9b17fbb"
    ),
    (9, 2.5, 44): (
        "63b47d8854acadc67e77b3659d4597b4a97eb186ba92a6c769b551d76de791b4"
        "65ad933fd27ae8c98e4bd38a4bdb98c3af764cc79271f2da73845d96aa8dcbfd"
    ),
}


@pytest.mark.parametrize(("radius", "deviation", "angle"), list(_IMAGEMAGICK))
def test_motion_blur_is_imagemagicks(radius: int, deviation: float, angle: float) -> None:
    i = np.arange(8)
    image = (i[:, None] * 37 + i * 91 + i[:, None] * i * 13) % 256
    found = np.rint(smear(image[..., None] / 255, radius, deviation, angle) * 255)[..., 0]
    assert found.astype(np.uint8).tobytes().hex() == _IMAGEMAGICK[radius, deviation, angle]


def test_motion_of_a_point_draws_half_a_bell() -> None:
    image = np.zeros((9, 30, 1))
    image[4, 25] = 1
    weight = np.exp(-(np.arange(13) ** 2) / 2 / 4)
    found = smear(image, 6, 2, 0)
    np.testing.assert_allclose(found[4, 13:26, 0][::-1], weight / weight.sum(), atol=1e-15)
    assert np.count_nonzero(found) == 13
    assert smear(np.full((5, 5, 1), 0.3), 10, 5, 33) == pytest.approx(0.3, abs=1e-12)


@pytest.mark.parametrize(
    ("shape", "factor"), [((28, 28, 1), 1.01), ((32, 32, 3), 1.25), ((40, 33, 3), 2.25), ((8, 8, 1), 1.0)]
)
def test_zoom_is_scipys_of_the_middle(shape: tuple[int, int, int], factor: float) -> None:
    image = np.random.default_rng(0).random(shape)
    height, width = (int(np.ceil(size / factor)) for size in shape[:2])
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    grown = ndimage.zoom(image[top : top + height, left : left + width], (factor, factor, 1), order=1)
    top, left = (grown.shape[0] - shape[0]) // 2, (grown.shape[1] - shape[1]) // 2
    np.testing.assert_allclose(
        clipped_zoom(image, factor), grown[top : top + shape[0], left : left + shape[1]], atol=1e-12
    )


@pytest.mark.parametrize("severity", SEVERITIES)
def test_zoom_blur_averages_enlargements(severity: int) -> None:
    image = flower(32)
    factors = np.arange(1, (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1], 0.01)
    enlarged = [plain(image), *(clipped_zoom(plain(image), factor) for factor in factors)]
    difference = corrupt(image, "zoom_blur", severity).int() - levels(np.mean(enlarged, axis=0)).int()
    assert difference.abs().max() <= 1
    assert (difference != 0).double().mean() < 1e-3


def test_snow_whitens_and_falls_twice() -> None:
    image = np.full((32, 32, 3), [0.2, 0.4, 0.1])
    generator = np.random.default_rng(0)
    # A threshold that no flake reaches leaves the whitened picture.
    luma = 0.299 * 0.2 + 0.587 * 0.4 + 0.114 * 0.1
    bare = weather.snow(image, (0.1, 0.2, 1, 9.0, 8, 3, 0.8), generator, CIFAR_10_C)
    np.testing.assert_allclose(bare, 0.8 * image + 0.2 * (luma * 1.5 + 0.5), atol=1e-12)
    flakes = weather.snow(image, (0.1, 0.2, 1, 0.3, 8, 3, 0.8), generator, CIFAR_10_C) - bare
    np.testing.assert_allclose(flakes, np.rot90(flakes, 2), atol=1e-12)
    assert flakes.min() >= -1e-12
    assert flakes.max() > 0.05
    grey = weather.snow(image[..., :1], (0.1, 0.2, 1, 9.0, 8, 3, 0.8), generator, CIFAR_10_C)
    np.testing.assert_allclose(grey, 0.8 * 0.2 + 0.2 * 0.8, atol=1e-12)


def test_frost_adds_the_photograph(photographs: Path) -> None:
    assert weather.frost_folder() == photographs
    assert available_corruptions() == CORRUPTIONS
    picture = torch.tensor([40, 80, 20], dtype=torch.uint8).reshape(1, 3, 1, 1).expand(1, 3, 32, 32)
    colour = corrupt(picture, "frost", 5)
    # Of a JPEG of one colour a level may be lost.
    expected = 0.75 * np.array([40, 80, 20]) + 0.45 * np.array([200, 100, 50])
    np.testing.assert_allclose(colour[0, :, 3, 5].numpy(), expected, atol=2)
    grey = corrupt(picture[:, :1], "frost", 5)
    luma = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    assert grey.double().mean().item() == pytest.approx(0.75 * 40 + 0.45 * luma, abs=2)
    # A photograph that is too small is enlarged.
    assert corrupt(torch.zeros(1, 3, 150, 150, dtype=torch.uint8), "frost", 1).min() > 10


def test_frost_is_cut_anywhere_out_of_any_photograph(photographs: Path) -> None:
    for number, file in enumerate(sorted(photographs.iterdir())):
        column = np.arange(400, dtype=np.uint8) % 200
        ramp = np.broadcast_to(column[:, None] // 4 + 40 * number, (400, 400))
        Image.fromarray(np.stack([ramp] * 3, axis=2).astype(np.uint8)).save(file, quality=100, subsampling=0)
    black = torch.zeros(60, 1, 32, 32, dtype=torch.uint8)
    means = (corrupt(black, "frost", 1).double().mean(dim=(1, 2, 3)) / 0.2).tolist()
    # Five photographs, 40 levels apart, of 0 to 49: all are used, at different places; the sixth never, as published.
    assert {int(mean // 40) for mean in means} == {0, 1, 2, 3, 4}
    assert len({round(mean) for mean in means}) > 20


def test_frost_without_photographs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weather, "_PACKAGES", ("no-such-package",))
    assert weather.frost_folder() is None
    assert available_corruptions() == tuple(name for name in CORRUPTIONS if name != "frost")
    with pytest.raises(DataError, match=r"'frost' needs the photographs of .*logitlab\[corruptions\]"):
        corrupt(flower(8), "frost", 1)


@pytest.mark.parametrize("side", [2, 8, 32])
def test_plasma_is_diamond_square_point_by_point(side: int) -> None:
    generator = np.random.default_rng(4)
    heights = {(0, 0): 0.0}
    step, wibble = side, 100.0
    while step >= 2:
        half = step // 2
        places = range(0, side, step)
        middles = [(row + half, column + half) for row in places for column in places]
        edges = [(row, column + half) for row in places for column in places]
        sides = [(row + half, column) for row in places for column in places]
        for targets, diagonal in ((middles, True), (edges, False), (sides, False)):
            draws = generator.uniform(-wibble, wibble, (len(places), len(places))).ravel()
            around = (
                [(half, half), (half, -half), (-half, half), (-half, -half)]
                if diagonal
                else [(half, 0), (-half, 0), (0, half), (0, -half)]
            )
            for (row, column), draw in zip(targets, draws):
                near = [heights[(row + down) % side, (column + across) % side] for down, across in around]
                heights[row, column] = sum(near) / 4 + wibble * draw
        step, wibble = half, wibble / 1.7
    expected = np.array([[heights[row, column] for column in range(side)] for row in range(side)])
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    np.testing.assert_allclose(weather.plasma(side, 1.7, np.random.default_rng(4)), expected, atol=1e-12)


def test_fog_keeps_the_brightest_and_black() -> None:
    image = flower(28)
    for severity in SEVERITIES:
        assert corrupt(image, "fog", severity).max() <= image.max()
    assert corrupt(torch.zeros_like(image), "fog", 5).max() == 0
    # With clouds p: (x + w p) m / (m + w); all channels get the same cloud.
    grey = torch.full((1, 3, 16, 16), 100, dtype=torch.uint8)
    found = corrupt(grey, "fog", 5)
    assert torch.equal(found[:, 0], found[:, 2])
    darkest = int((100 / 255) ** 2 / (100 / 255 + 1.5) * 255)
    assert (found.min().item(), found.max().item()) == (darkest, 100)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_raises_the_value_of_hsv(severity: int) -> None:
    image = torch.cat([flower(16), torch.zeros(1, 3, 16, 16, dtype=torch.uint8)], dim=3)
    hsv = rgb_to_hsv(plain(image))
    hsv[..., 2] = np.minimum(hsv[..., 2] + (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1], 1)
    assert torch.equal(corrupt(image, "brightness", severity), levels(hsv_to_rgb(hsv)))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_contrast_draws_towards_the_mean(severity: int) -> None:
    image = flower(32)
    left = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    mean = plain(image).mean(axis=(0, 1))
    assert torch.equal(corrupt(image, "contrast", severity), levels(left * plain(image) + (1 - left) * mean))


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("channels", [1, 3])
def test_elastic_equals_torchs_sampling_of_the_grid(severity: int, channels: int) -> None:
    side = 32
    image = plain(flower(side, channels))
    constant = CIFAR_10_C.severities["elastic_transform"][severity - 1]
    found = elastic_transform(image, constant, np.random.default_rng(9), CIFAR_10_C)
    generator = np.random.default_rng(9)
    corners = np.array([[26, 26], [26, 6], [6, 6]])
    moved = corners + generator.uniform(-constant[2] * side, constant[2] * side, (3, 2))
    # The 2 x 3 map from where a corner came to rest to where it was, by least squares.
    back = np.linalg.lstsq(np.column_stack([moved, np.ones(3)]), corners, rcond=None)[0]
    row, column = (axis.astype(float) for axis in np.mgrid[:side, :side])
    place = np.stack([column, row, np.ones_like(row)], axis=2) @ back
    planes = torch.from_numpy(image).permute(2, 0, 1)[None]
    grid = torch.from_numpy(2 * place / (side - 1) - 1)[None]
    planes = F.grid_sample(planes, grid, padding_mode="reflection", align_corners=True)
    if constant[0] > 0:
        fields = [generator.uniform(-1, 1, (side, side)) for _ in range(2)]
        across, down = (
            ndimage.gaussian_filter(field, constant[1] * side, mode="reflect", truncate=3) * constant[0] * side
            for field in fields
        )
        place = np.stack([column + across, row + down], axis=2)
        grid = torch.from_numpy((2 * place + 1) / side - 1)[None]
        planes = F.grid_sample(planes, grid, padding_mode="reflection", align_corners=False)
    np.testing.assert_allclose(found, planes[0].permute(1, 2, 0).numpy(), atol=1e-9)


def test_pixelate_averages_boxes() -> None:
    image = flower(224)
    found = corrupt(image, "pixelate", 5)
    # A quarter of the side is left: boxes of 4 x 4.
    boxes = image.double().reshape(1, 3, 56, 4, 56, 4).mean(dim=(3, 5))
    assert (found.reshape(1, 3, 56, 4, 56, 4) - boxes[:, :, :, None, :, None]).abs().max() <= 1
    assert torch.equal(found, found[:, :, ::4, ::4].repeat_interleave(4, 2).repeat_interleave(4, 3))
    grey = corrupt(flower(224, 1), "pixelate", 5)
    assert torch.equal(grey, grey[:, :, ::4, ::4].repeat_interleave(4, 2).repeat_interleave(4, 3))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_jpeg_rounds_cosines_of_blocks(severity: int) -> None:
    # The standard's table of luminance (ITU-T T.81, K.1), scaled to a quality as libjpeg does.
    table = np.array(
        [
            [16, 11, 10, 16, 24, 40, 51, 61],
            [12, 12, 14, 19, 26, 58, 60, 55],
            [14, 13, 16, 24, 40, 57, 69, 56],
            [14, 17, 22, 29, 51, 87, 80, 62],
            [18, 22, 37, 56, 68, 109, 103, 77],
            [24, 35, 55, 64, 81, 104, 113, 92],
            [49, 64, 78, 87, 103, 121, 120, 101],
            [72, 92, 95, 98, 112, 100, 103, 99],
        ]
    )
    quality = (65, 58, 50, 40, 25)[severity - 1]
    step = np.maximum((table * (200 - 2 * quality if quality >= 50 else 5000 // quality) + 50) // 100, 1)
    image = flower(64, 1)
    blocks = image[0, 0].numpy().reshape(8, 8, 8, 8).swapaxes(1, 2) - 128.0
    cosines = np.rint(fft.dctn(blocks, axes=(2, 3), norm="ortho") / step) * step
    expected = fft.idctn(cosines, axes=(2, 3), norm="ortho").swapaxes(1, 2).reshape(64, 64) + 128
    difference = np.abs(corrupt(image, "jpeg_compression", severity)[0, 0].numpy() - np.clip(expected, 0, 255))
    # libjpeg computes in integers: seldom a cosine lands on the other step.
    assert np.median(difference) < 0.6
    assert difference.mean() < 0.1 * (image[0, 0].numpy() - expected).std()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "gausian_noise"}, "Got 'gausian_noise'. Did you mean 'gaussian_noise'?"),
        ({"severity": 0}, "severity from 1 to 5. Got 0"),
        ({"severity": 6}, "severity from 1 to 5. Got 6"),
        ({"seed": -1}, "seed of at least 0. Got -1"),
        ({"images": torch.zeros(1, 3, 8, 8)}, r"uint8 \[B, C, H, W\] with 1 or 3 channels. Got torch.float32"),
        ({"images": torch.zeros(3, 8, 8, dtype=torch.uint8)}, r"Got torch.uint8 \[3, 8, 8\]"),
        ({"images": torch.zeros(1, 4, 8, 8, dtype=torch.uint8)}, r"1 or 3 channels. Got torch.uint8 \[1, 4, 8, 8\]"),
        ({"images": torch.zeros(1, 1, 8, 7, dtype=torch.uint8)}, r"at least 8 pixels. Got \[8, 7\]"),
        ({"indices": torch.arange(3)}, r"'indices' as integers \[2\].*\[3\]"),
        ({"indices": torch.zeros(2)}, r"'indices' as integers \[2\].*float32"),
        ({"indices": torch.tensor([0, -4])}, "at least 0. Got -4"),
    ],
)
def test_nonsense_is_refused(arguments: dict[str, object], message: str) -> None:
    sound = {"images": torch.zeros(2, 1, 8, 8, dtype=torch.uint8), "name": "contrast", "severity": 1}
    with pytest.raises(InputError, match=message):
        corrupt(**{**sound, **arguments})


def test_no_images_stay_none() -> None:
    assert corrupt(torch.zeros(0, 3, 32, 32, dtype=torch.uint8), "fog", 1).shape == (0, 3, 32, 32)


def test_images_are_corrupted_where_they_are_read() -> None:
    pixels = torch.cat([flower(8).roll(shift, 3) for shift in range(7)])
    images = MemoryImages(pixels, torch.arange(7) % 3)
    whole = corrupt(pixels, "gaussian_noise", 3, seed=2)
    found = CorruptedImages(images, "gaussian_noise", 3, seed=2)
    assert len(found) == 7
    for batch_size in (1, 3, 7):
        batches = list(found.batches(torch.arange(7), batch_size))
        assert torch.equal(torch.cat([batch for batch, _ in batches]), whole)
        assert torch.equal(torch.cat([labels for _, labels in batches]), images.labels)
    order = torch.tensor([5, 1, 5, 0])
    assert torch.equal(torch.cat([batch for batch, _ in found.batches(order, 3)]), whole[order])
    part = found.select(torch.tensor([6, 2, 4]))
    assert torch.equal(part.labels, images.labels[[6, 2, 4]])
    again = part.select(torch.tensor([2, 0]))
    assert torch.equal(next(again.batches(torch.arange(2), 2))[0], whole[[4, 6]])


def test_a_fault_is_found_before_images_are_read() -> None:
    with pytest.raises(InputError, match="Got 'rain'"):
        CorruptedImages(MemoryImages(flower(8), torch.tensor([0])), "rain", 1)
