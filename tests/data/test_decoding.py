from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from PIL import Image

from logitlab.config.errors import DataError
from logitlab.data.decoding import Header, map_in_threads, read_header, read_image, resize, to_pixels


def test_png_pixels_are_exact(tmp_path: Path) -> None:
    pixels = torch.randint(256, (5, 7, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(tmp_path / "a.png")
    assert read_header(tmp_path / "a.png") == Header((7, 5), grey=False)
    assert torch.equal(read_image(tmp_path / "a.png", 3), pixels.permute(2, 0, 1))


@pytest.mark.parametrize(("mode", "grey"), [("1", True), ("L", True), ("LA", True), ("P", False), ("RGBA", False)])
def test_modes(tmp_path: Path, mode: str, grey: bool) -> None:
    Image.new("RGB", (4, 4), (255, 255, 255)).convert(mode).save(tmp_path / "a.png")
    assert read_header(tmp_path / "a.png").grey is grey
    image = read_image(tmp_path / "a.png", 1 if grey else 3)
    assert image.shape == (1 if grey else 3, 4, 4)
    assert bool((image == 255).all())


def test_a_palette_with_transparency_raises_no_warning(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.save(tmp_path / "a.png", transparency=bytes([0, 128]))
    assert read_image(tmp_path / "a.png", 3)[:, 0, 0].tolist() == [200, 100, 50]


def test_the_cameras_orientation_is_applied() -> None:
    stored = Image.new("RGB", (8, 4))
    stored.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter: show it rotated clockwise
    buffer = io.BytesIO()
    stored.save(buffer, "PNG", exif=exif)
    image = read_image(buffer, 3)  # type: ignore[arg-type]
    assert image.shape == (3, 8, 4)
    assert image[0, 0, 3] == 255


def test_resize_is_bilinear_with_antialiasing_and_squashes() -> None:
    ramp = torch.arange(64, dtype=torch.uint8).mul(4).view(1, 1, 1, 64).expand(1, 1, 32, 64)
    small = resize(ramp.contiguous(), 4)
    assert small.shape == (1, 1, 4, 4)
    # The mean of each of four columns of 16 values, away from the borders.
    assert small[0, 0, 1, 1:3].tolist() == pytest.approx([94, 158], abs=2)
    assert resize(small, 4) is small


def test_resize_of_many_equals_resize_of_each() -> None:
    images = torch.randint(256, (1030, 1, 5, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    together = resize(images, 8)
    assert torch.equal(together[1025:1027], torch.cat([resize(images[i : i + 1], 8) for i in (1025, 1026)]))


def test_to_pixels_resizes() -> None:
    assert to_pixels(Image.new("L", (6, 3), 9), 1, 4).unique().tolist() == [9]


def truncated_jpeg(path: Path) -> None:
    noise = torch.randint(256, (64, 64, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    Image.fromarray(noise.numpy()).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:-800])


def test_a_truncated_jpeg_is_named(tmp_path: Path) -> None:
    truncated_jpeg(tmp_path / "bad.jpg")
    read_header(tmp_path / "bad.jpg")
    with pytest.raises(
        DataError, match=r"^Cannot read the image '.*bad\.jpg': image file is truncated .*Replace it\.$"
    ):
        read_image(tmp_path / "bad.jpg", 3)


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xd8\xff"])
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"^Cannot read the image '.*bad\.jpg': it is empty, corrupt or no image"):
        read_header(tmp_path / "bad.jpg")


def test_a_damaged_png_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "bad.png")
    content = bytearray((tmp_path / "bad.png").read_bytes())
    content[content.index(b"IDAT") + 6] ^= 0xFF
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.png") as caught:
        read_image(tmp_path / "bad.png", 3)
    assert "\n" not in str(caught.value)


def test_sixteen_bits_are_refused(tmp_path: Path) -> None:
    Image.new("I;16", (4, 4), 40_000).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match=r"deep\.png': it has more than 8 bits a channel \(mode I;16\); convert it"):
        read_header(tmp_path / "deep.png")


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (40, 40)).save(tmp_path / "bomb.png")
    for limit in (1000, 100):  # Pillow warns above the limit and raises above twice the limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(DataError, match=r"bomb\.png': Image size \(1600 pixels\) exceeds limit"):
            map_in_threads(read_header, [str(tmp_path / "bomb.png")])


def test_map_in_threads_keeps_order() -> None:
    assert map_in_threads(str, range(1000)) == [str(number) for number in range(1000)]
    assert map_in_threads(str, []) == []


def test_map_in_threads_names_the_first_fault_and_counts_the_others() -> None:
    def fail(number: int) -> int:
        if number % 100 == 7:
            raise DataError(f"Number {number} is bad.")
        return number

    with pytest.raises(DataError, match=r"^Number 7 is bad\. 2 more cannot be read\.$"):
        map_in_threads(fail, range(300))
    with pytest.raises(DataError, match=r"^Number 7 is bad\.$"):
        map_in_threads(fail, range(100))
