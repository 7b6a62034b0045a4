"""Where, when and with what a trial ran: the part of a record that may differ between equal trials."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

_PACKAGES = ("logitlab", "torchvision", "timm", "numpy", "safetensors")


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Return versions, device, threads and platform; no name of a host, a user or a folder.

    >>> sorted(describe_environment(torch.device("cpu")))
    ['device', 'platform', 'threads', 'versions']
    """
    model = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    # torch's own word names the CUDA that it was built for, which the package's version may not.
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
    return {
        "versions": versions | {name: _version(name) for name in _PACKAGES},
        "device": f"{device.type} ({model})",
        "threads": torch.get_num_threads(),
        "platform": f"{platform.system()} {platform.release()}",
    }


def now() -> str:
    """Return the time in UTC as ISO 8601, to the second.

    >>> now().endswith("+00:00")
    True
    """
    return datetime.now(UTC).isoformat(timespec="seconds")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        # A source tree that was put on the path without being installed.
        return None
