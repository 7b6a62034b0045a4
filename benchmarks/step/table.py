"""The tables as text."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

import torch

from .figures import Figures


def environment(threads: int) -> str:
    """Machine, threads and versions; no date, so that equal measurements print equal lines."""
    versions = [f"Python {platform.python_version()}", f"torch {torch.__version__}"]
    try:
        versions.append(f"pytorch-metric-learning {importlib.metadata.version('pytorch-metric-learning')}")
    except importlib.metadata.PackageNotFoundError:
        versions.append("no pytorch-metric-learning")
    return (
        f"{processor()}, {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores, load {load()}; "
        f"{threads} {'thread' if threads == 1 else 'threads'}, float32\n{', '.join(versions)}"
    )


def processor() -> str:
    """What Linux calls the processor, or the kind of machine."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return f"{platform.machine()}, {line.partition(':')[2].strip()}"
    return platform.machine()


def load() -> str:
    """How many processes wanted to run in the last minute: above one, and the figures are those of a busy machine."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def table(figures: Figures) -> str:
    """A row a form: median and least time, ratio to the first form, peaks above the inputs, agreement."""
    found = figures.first
    rounds = len(found.times[figures.base])
    width = max(len(form) for form in (*found.times, *found.absent))
    several = f", medians of {len(figures.runs)} runs" if len(figures.runs) > 1 else ""
    lines = [
        f"(B, C, D) = {found.shape}, features: {found.family}; {rounds} round{'s' * (rounds > 1)}{several}",
        f"{'':{width}s} {'ms':>9s} {'least':>9s} {'ratio':>7s} {'MB alloc.':>10s} {'MB resid.':>10s} "
        f"{'differs by':>11s}",
    ]
    for form in found.times:
        middle, least = figures.milliseconds(form)
        ratio = figures.ratio(form)
        assert ratio is not None
        peak = found.memory.get(form, {})
        difference = found.differences.get(form)
        lines.append(
            f"{form:{width}s} {middle:9.2f} {least:9.2f} {ratio.middle:7.2f} {_megabytes(peak.get('allocated'))} "
            f"{_megabytes(peak.get('resident'))} {'' if difference is None else f'{difference:.0e}':>11s}".rstrip()
        )
    lines += [f"{form:{width}s} not there: {reason}" for form, reason in found.absent.items()]
    lines += [
        f"  κ* of {form}: energy at most {regret:.0e} above the least of the grid (float64)"
        for form, regret in found.regrets.items()
    ]
    lines += [f"  {form}: {remark}" for form, remark in found.remarks.items()]
    return "\n".join(lines)


def _megabytes(value: float | None) -> str:
    return f"{'' if value is None else f'{value:.1f}':>10s}"
