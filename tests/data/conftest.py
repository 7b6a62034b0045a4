from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

Folder = Callable[..., Path]


@pytest.fixture
def real_data() -> Path:
    """The folder that holds real data sets; the test is skipped without it."""
    folder = Path(os.environ.get("LOGITLAB_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
    if not (folder / "fashion-mnist").is_dir():
        pytest.skip("needs real images: set LOGITLAB_DATA to the folder that holds fashion-mnist, gtsrb, ...")
    return folder


@pytest.fixture
def image_folder(tmp_path: Path) -> Folder:
    """Makes a folder of PNG files, `count` a class, each of a random grey or colour."""

    def make(
        name: str = "images",
        classes: tuple[str, ...] = ("cat", "dog"),
        count: int = 5,
        size: tuple[int, int] = (8, 8),
        mode: str = "RGB",
        suffix: str = ".png",
    ) -> Path:
        generator = torch.Generator().manual_seed(len(name))
        for class_name in classes:
            (tmp_path / name / class_name).mkdir(parents=True)
            for index in range(count):
                shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
                pixels = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
                Image.fromarray(pixels.numpy()).save(tmp_path / name / class_name / f"{index}{suffix}")
        return tmp_path / name

    return make
