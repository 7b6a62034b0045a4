"""The device that a script runs on: asked for, named with its versions, waited for; or the word that there is none."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import sys

import torch

#: Said instead of figures. Nothing else is printed then, so that no file can pass for a result.
NOT_RUN = "not run: no GPU"

PEERS = ("liger-kernel", "cut-cross-entropy")


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that all scripts share."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--device", default="cuda", help="cuda (default), or cpu to see that the script runs")
    made.add_argument("--quick", action="store_true", help="tiny shapes: shows that the script runs, and nothing else")
    return made


def device_of(options: argparse.Namespace) -> torch.device:
    """The device asked for; without it the program ends in peace, since a figure is not a fault."""
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print(NOT_RUN)
        sys.exit(0)
    if device.type == "cuda":
        # What a device is by default may differ between versions: float32 is float32 here.
        torch.backends.cuda.matmul.allow_tf32 = False
        return torch.device("cuda", torch.cuda.current_device())
    torch.set_num_threads(1)
    return device


def describe(device: torch.device) -> str:
    """Device and versions, and for a CPU that these are no figures of a GPU."""
    versions = [f"Python {platform.python_version()}", f"torch {torch.__version__}"]
    if device.type == "cuda":
        versions += [f"CUDA {torch.version.cuda}", f"NCCL {'.'.join(map(str, torch.cuda.nccl.version()))}"]
    versions += [version(name) for name in ("triton", *PEERS)]
    if device.type != "cuda":
        return f"CPU: a trial of the script, no figures of a GPU. {', '.join(versions)}"
    of_device = torch.cuda.get_device_properties(device)
    return (
        f"{of_device.name}, {of_device.multi_processor_count} multiprocessors, "
        f"{of_device.total_memory / 2**30:.0f} GiB, {torch.cuda.device_count()} of them\n{', '.join(versions)}"
    )


def version(package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"no {package}"


def wait(device: torch.device) -> None:
    """Until all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def first_line(fault: BaseException) -> str:
    """A fault as one short line."""
    text = (str(fault).strip().splitlines() or [""])[0]
    return f"{type(fault).__name__}: {text}"[:160]


def say(text: str) -> None:
    """Print at once: what a killed run has printed remains."""
    print(text, flush=True)
