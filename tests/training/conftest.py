"""Small tasks that a network learns in a second."""

from __future__ import annotations

import pytest
import torch

from logitlab.config.trial import ComponentConfig, DataConfig, TrialConfig
from logitlab.data import MemoryImages, load_data


@pytest.fixture
def bars():
    """Images of 8 x 8 pixels in 3 classes: a bright bar in one of three rows, over noise."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(96) % 3
    pixels = torch.randint(0, 120, (96, 1, 8, 8), generator=generator, dtype=torch.uint8)
    pixels[torch.arange(96), 0, 2 * labels + 1] = 200
    return MemoryImages(pixels, labels)


@pytest.fixture(scope="session")
def fingerprint():
    return load_data("digits").fingerprint


@pytest.fixture
def make_trial(fingerprint):
    def make(head="softmax", *, parameters=None, seed=0, backbone=None, module=None, limit=60, **training):
        values = {
            "data": DataConfig(name="digits", train_limit=limit),
            "data_fingerprint": fingerprint,
            "backbone": ComponentConfig(name="mlp", parameters={"widths": [16]}),
            "head": ComponentConfig(name=head, parameters=parameters or {}, module=module),
            "training": {"epochs": 2, "batch_size": 16, **training},
            "seed": seed,
        }
        if backbone is not None:
            values["backbone"] = backbone
        return TrialConfig(**values)

    return make
