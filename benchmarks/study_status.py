"""Seconds of ``logitlab study status`` on a study of many trials, the whole command in a process of its own.

Makes records of realistic size (a history of 30 epochs) in a temporary folder, with failed, running and waiting trials
beside them; the times are those of ``python -m logitlab study status FOLDER``, Python's own start included, the first
of them with what the file system keeps in memory of files that were just written.

    python benchmarks/study_status.py --records 10000
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from logitlab.config.study import EntryConfig, StudyDefinition
from logitlab.config.trial import canonical_json
from logitlab.records.claims import take_claim
from logitlab.records.study import PlannedRow, PlannedTrial, StudyPlan, study_folder, write_definition, write_plan

EPOCHS, ROWS, FAILED, RUNNING, LEFT = 30, 40, 200, 4, 96


def identity(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:16]


def make_record(number: int) -> str:
    measures = dict.fromkeys(("accuracy", "nll", "ece", "miss_ap", "class_separation", "angle"), 0.1 + 1e-09 * number)
    history = [
        {"epoch": epoch, "learning_rate": 0.1, **dict.fromkeys(("loss", "accuracy", "kappa"), 0.123456789 / epoch)}
        | dict.fromkeys(("validation_loss", "validation_accuracy", "kappa_star"), 0.987654321 / epoch)
        for epoch in range(1, EPOCHS + 1)
    ]
    result = {"test": measures, "validation": measures, "history": history, "selected_epoch": EPOCHS}
    value = {
        "format_version": 1,
        "identity": identity(number),
        "config": {"head": {"name": "cosine"}, "training": {f"field_{index}": index for index in range(30)}},
        "result": result,
        "result_sha256": hashlib.sha256(canonical_json(result).encode()).hexdigest(),
        "provenance": {
            "seconds": 60.0 + number % ROWS,
            "versions": {f"package_{index}": "1.2.3" for index in range(15)},
        },
    }
    return json.dumps(value, indent=1)


def fabricate(root: Path, records: int) -> int:
    """Write the study; return the bytes of its records."""
    total = records + FAILED + RUNNING + LEFT
    size = 0
    for number in range(records + FAILED):
        folder = root / "trials" / identity(number)
        folder.mkdir(parents=True)
        if number < records:
            text = make_record(number)
            size += len(text)
            (folder / "record.json").write_text(text)
            for name in ("model.json", "model.safetensors", "outputs.npz"):
                (folder / name).touch()
        else:
            error = {
                "kind": "TrialError",
                "message": f"The loss is nan at epoch {number % 3}.",
                "traceback": "x" * 3000,
            }
            (folder / "error.json").write_text(json.dumps({"error": error}))
            (folder / "claim.1.json").write_text('{"released": true}')
    trials = tuple(
        PlannedTrial(identity=identity(number), row=f"row {number % ROWS}", seed=number // ROWS)
        for number in range(total)
    )
    rows = tuple(
        PlannedRow(
            label=f"row {row}", entry="cosine", head="cosine", settings={"head.kappa": row}, expected=total // ROWS
        )
        for row in range(ROWS)
    )
    definition = StudyDefinition(name="large", heads=(EntryConfig(head="cosine"),))
    folder = study_folder(root, "large")
    write_definition(folder, definition)
    write_plan(folder, StudyPlan(rows=rows, trials=trials, workers=RUNNING))
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        size = fabricate(root, options.records)
        first = options.records + FAILED
        claims = [take_claim(root / "trials" / identity(first + number)) for number in range(RUNNING)]
        command = [sys.executable, "-m", "logitlab", "study", "status", name]
        whole = [measure(command) for _ in range(options.rounds)]
        bare = [measure([*command[:3], "--version"]) for _ in range(options.rounds)]
        for claim in claims:
            if claim is not None:
                claim.release(done=False)
    print("\n".join(whole[0].shown.splitlines()[:3]))
    size_text = f"{options.records} records of {size / options.records / 1000:.1f} kB"
    print(f"{size_text}, Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} cores")
    for title, runs in (("study status", whole), ("--version", bare)):
        print(
            f"logitlab {title}: {', '.join(f'{run.seconds:.2f}' for run in runs)} s, "
            f"median {statistics.median(run.seconds for run in runs):.2f} s; "
            f"of the processor: {statistics.median(run.busy for run in runs):.2f} s"
        )


@dataclass(frozen=True)
class Run:
    seconds: float
    busy: float
    shown: str


def measure(command: list[str]) -> Run:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Run(seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, shown)


if __name__ == "__main__":
    main()
