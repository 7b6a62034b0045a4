"""Time and memory of R², CKA, spectra and Mahalanobis on features that are read from memory maps.

Two float32 arrays are written to a temporary folder, and each measurement runs in a process of its own, on one thread.
A thread of that process watches ``RssAnon``: memory that is not a page of a mapped file. What is compared:

- R² with a column sum in float32 over the same map, chunk by chunk (the quickest of several chunk sizes, in torch, and
  in NumPy, whose sum over rows is the quicker one); and its value with a second way to compute it in float64. Its time
  depends on how the class sums fit the cache: 1000 classes in random order are the worst case (16 MB of sums, each row
  adds to another part of them); the same rows class by class and 100 classes stand beside it.
- linear CKA with the three products XᵀX, YᵀY, XᵀY in float64 (our dtype) of one chunk of our size that lies in memory,
  as often as there are chunks: no reading, no conversion.

Wall time counts what other processes take from a busy machine; processor time does not. Ratios of both are printed.

    python benchmarks/analysis_scale.py | tee benchmarks/results/analysis_scale.txt
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from logitlab.analysis import arrays, class_separation, fit_mahalanobis, linear_cka, products, singular_values

CLASSES = 1000
MEMORY = 1.5  # GiB
NAMES = ("separation", "spectra", "mahalanobis", "cka")


class Watch:
    """Samples the anonymous resident memory of this process."""

    def __init__(self) -> None:
        self.peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._done.is_set():
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    self.peak = max(self.peak, int(line.split()[1]))
            self._done.wait(0.01)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def clock(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return seconds of wall time, of processor time, and the result."""
    wall, processor = time.perf_counter(), time.thread_time()
    result = work()
    return time.perf_counter() - wall, time.thread_time() - processor, result


def best(times: list[tuple[float, float, Any]]) -> list[float]:
    return [min(each[0] for each in times), min(each[1] for each in times)]


def write(folder: Path, rows: int, columns: int) -> None:
    """Features after a ReLU with class means, and a second array that depends on the first."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, CLASSES, rows)
    means = generator.standard_normal((CLASSES, columns), dtype=np.float32) * 0.3
    x1, x2 = (
        np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.float32, shape=(rows, columns))
        for name in ("x1", "x2")
    )
    for start in range(0, rows, 2048):
        part = slice(start, min(start + 2048, rows))
        noise = generator.standard_normal((part.stop - start, columns), dtype=np.float32)
        x1[part] = np.maximum(means[y[part]] + noise, 0)
        x2[part] = np.maximum(np.roll(x1[part], 7, axis=1) + noise[:, ::-1], 0)
    x1.flush()
    x2.flush()
    np.save(folder / "y.npy", y)


def second_way(x: Any, y: Any) -> float:
    """R² by gathering the rows of each class, twice: means, then distances to them."""
    members = np.split(np.argsort(y, kind="stable"), np.cumsum(np.bincount(y, minlength=CLASSES))[:-1])

    def unit(rows: Any) -> Any:
        chunk = x[rows].astype(np.float64)
        return chunk / np.sqrt((chunk**2).sum(axis=1, keepdims=True))

    members = [rows for rows in members if len(rows)]
    means = np.stack([unit(rows).mean(axis=0) for rows in members])
    within = np.mean([((unit(rows) - mean) ** 2).sum(axis=1).mean() for rows, mean in zip(members, means)])
    between = ((means - means.mean(axis=0)) ** 2).sum(axis=1).mean()
    return float(between / (between + within))


def separation(folder: Path, repeats: int) -> dict[str, Any]:
    x, y = np.load(folder / "x1.npy", mmap_mode="r"), np.load(folder / "y.npy")
    tensor = torch.from_numpy(np.load(folder / "x1.npy", mmap_mode="r+"))

    def torch_sum(step: int) -> None:
        total = torch.zeros(x.shape[1])
        for start in range(0, len(x), step):
            total += tensor[start : start + step].sum(dim=0)

    def numpy_sum(step: int) -> None:
        total = np.zeros(x.shape[1], dtype=np.float32)
        for start in range(0, len(x), step):
            total += x[start : start + step].sum(axis=0)

    labels = {"1000 classes, shuffled": y, "1000 classes, in order": np.sort(y), "100 classes, shuffled": y % 100}
    ours: dict[str, list[tuple[float, float, Any]]] = {name: [] for name in labels}
    by_torch, by_numpy = [], []
    with Watch() as watch:
        for repeat in range(repeats + 1):
            measured = {name: clock(lambda: class_separation(x, given)) for name, given in labels.items()}  # noqa: B023
            # The first round brings the file into memory.
            sums = [
                min((clock(lambda: work(step)) for step in (128, 256, 1024)), key=lambda each: each[1])  # noqa: B023
                for work in (torch_sum, numpy_sum)
            ]
            if repeat:
                for name, times in measured.items():
                    ours[name].append(times)
                by_torch.append(sums[0])
                by_numpy.append(sums[1])
    value = next(iter(ours.values()))[0][2].value
    return {
        "peak": watch.peak,
        "ours": best(next(iter(ours.values()))),
        "cases": {name: best(times) for name, times in ours.items()},
        "torch": best(by_torch),
        "numpy": best(by_numpy),
        "value": value,
        "error": abs(value / second_way(x, y) - 1),
    }


def spectra(folder: Path, repeats: int) -> dict[str, Any]:
    x = np.load(folder / "x1.npy", mmap_mode="r")
    with Watch() as watch:
        measured = clock(lambda: singular_values(x))
    return {"peak": watch.peak, "ours": measured[:2], "value": float(measured[2].value[0])}


def mahalanobis(folder: Path, repeats: int) -> dict[str, Any]:
    x, y = np.load(folder / "x1.npy", mmap_mode="r"), np.load(folder / "y.npy")
    with Watch() as watch:
        measured = clock(lambda: fit_mahalanobis(x, y).score(x))
    return {"peak": watch.peak, "ours": measured[:2], "value": float(measured[2].mean())}


def cka(folder: Path, repeats: int) -> dict[str, Any]:
    x1, x2 = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("x1", "x2"))
    rows, columns = x1.shape
    step = products.PRODUCT_CHUNKS * arrays._CHUNK_ELEMENTS // columns
    one, other = (torch.from_numpy(x[:step].astype(np.float64)) for x in (x1, x2))
    totals = [torch.zeros(columns, columns, dtype=torch.float64) for _ in range(3)]

    def bare() -> None:
        for start in range(0, rows, step):
            first, second = one[: rows - start], other[: rows - start]
            for total, (a, b) in zip(totals, ((first, first), (second, second), (first, second))):
                total.addmm_(a.T, b)

    with Watch() as watch:
        rounds = [(clock(lambda: linear_cka(x1, x2)), clock(bare)) for _ in range(repeats)]
    return {
        "peak": watch.peak,
        "ours": best([each[0] for each in rounds]),
        "bare": best([each[1] for each in rounds]),
        "value": rounds[0][0][2].value,
    }


def child(name: str, folder: Path, repeats: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", name, "--folder", str(folder), "--repeats", str(repeats)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def ratios(ours: list[float], base: list[float], limit: float) -> str:
    wall, processor = (a / b for a, b in zip(ours, base))
    verdict = "within" if processor <= limit else "NOT within"
    return f"{wall:.2f} x (wall), {processor:.2f} x (processor), {verdict} {limit} x by processor time"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--columns", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3, help="rounds of R²; CKA has one")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--child", choices=NAMES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="where the arrays are written and deleted; default: temporary")
    options = parser.parse_args()
    if options.child:
        torch.set_num_threads(1)
        print(json.dumps(globals()[options.child](options.folder, options.repeats)))
        return
    print(
        f"torch {torch.__version__}, numpy {np.__version__}, {platform.machine()}, 1 thread; "
        f"{options.rows} x {options.columns} float32 from a memory map, {CLASSES} classes; "
        f"load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        write(folder, options.rows, options.columns)
        for measurement in options.only:
            found = child(measurement, folder, 1 if measurement == "cka" else options.repeats)
            peak = found["peak"] / 2**20
            print(
                f"{measurement:12} {found['ours'][0]:8.2f} s wall {found['ours'][1]:8.2f} s processor, "
                f"RssAnon at most {peak:.2f} GiB ({'within' if peak <= MEMORY else 'NOT within'} {MEMORY}); "
                f"{found['value']:.9g}"
            )
            if measurement == "separation":
                for which, quickest in (("torch", found["torch"]), ("numpy", found["numpy"])):
                    print(f"  float32 column sum in {which}: {quickest[0]:.3f} s wall, {quickest[1]:.3f} s processor;")
                    for case, times in found["cases"].items():
                        print(f"    R², {case}: {ratios(times, quickest, 3)}")
                print(f"  relative difference to float64 in two passes over the classes: {found['error']:.1e}")
            elif measurement == "cka":
                print(
                    f"  three bare float64 products: {found['bare'][0]:.1f} s wall, {found['bare'][1]:.1f} s processor;"
                )
                print(f"  CKA takes {ratios(found['ours'], found['bare'], 1.3)}")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
