"""A study as it lies on disk, made up: its definition, its plan, and what its trials have left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fabricated import make_config

from logitlab.config.study import StudyDefinition
from logitlab.records import OodRecord, Store, write_ood
from logitlab.records.stages import write_stage
from logitlab.records.study import (
    PlannedRow,
    PlannedTrial,
    StageSource,
    StudyPlan,
    study_folder,
    write_definition,
    write_plan,
)

STAGE = StageSource(name="linear_probe", identity="ab" * 8, options={"data": ["digits"]})
OOD = {"name": "noise", "title": "noise", "fingerprint": "cd" * 32}
KAPPAS = (5, 10)
EPOCHS = 3
#: The points of the search.
RATES = (0.01, 0.1)


def identity(row: int, seed: int, role: str = "final") -> str:
    return f"{row:08x}{seed:06x}{'00' if role == 'final' else '5e'}"


def label(row: int) -> str:
    return f"κ = {KAPPAS[row]}"


class FabricatedStudy:
    """Two rows of a fixed κ by three seeds, and two trials of a search for the second; nothing has run.

    Attributes:
        root: of the store.
        store: its records.
        name: of the study.
    """

    def __init__(
        self, root: Path, name: str = "made-up", *, stages: bool = False, ood: bool = False, **rows: Any
    ) -> None:
        self.root, self.name = root, name
        self.store = Store(root)
        self.stages, self.ood = stages, ood
        definition = {
            "name": name,
            "title": "A made-up study",
            "source": "nowhere",
            "heads": [{"head": "cosine", "label": "κ = {head.kappa:g}", "grid": {"head.kappa": KAPPAS}}],
            "seeds": 3,
            "columns": [{"measure": "test.accuracy", "title": "Accuracy", "factor": 100.0, "better": "higher"}],
        }
        self.definition = StudyDefinition.model_validate(definition)
        planned = [
            PlannedRow(
                label=label(row),
                entry="cosine",
                head=f"cosine:kappa={kappa}",
                settings={"head.kappa": kappa},
                chosen={"training.learning_rate": 0.1} if row == 1 else {},
                expected=5 if row == 1 else 3,
                **rows.get(f"row_{row}", {}),
            )
            for row, kappa in enumerate(KAPPAS)
        ]
        search = [
            PlannedTrial(
                identity=identity(1, point, "search"),
                row=label(1),
                seed=0,
                role="search",
                settings={"training.learning_rate": rate},
            )
            for point, rate in enumerate(RATES)
        ]
        final = [
            PlannedTrial(identity=identity(row, seed), row=label(row), seed=seed)
            for seed in range(3)
            for row in range(len(KAPPAS))
        ]
        self.plan = StudyPlan(
            rows=tuple(planned),
            trials=(*search, *final),
            ood=(OOD,) if ood else (),
            stages=(STAGE,) if stages else (),
            workers=2,
        )
        self.folder = study_folder(root, name)
        write_definition(self.folder, self.definition)
        write_plan(self.folder, self.plan)

    def finish(self, row: int, seed: int, role: str = "final", *, seconds: float = 10.0, beside: bool = True) -> str:
        """Let a trial end well; ``beside`` says whether its stages and OOD sets ran too."""
        name = identity(row, seed, role)
        history = [
            {
                "epoch": epoch,
                "learning_rate": 0.1,
                "loss": 1 / epoch,
                "accuracy": 0.5,
                "validation_loss": 2 / epoch,
                "validation_accuracy": 0.4,
                "kappa": None,
                "kappa_star": 5.0,
            }
            for epoch in range(1, EPOCHS + 1)
        ]
        measures = {"accuracy": 0.5 + 0.1 * row + 0.01 * seed, "nll": None}
        result = {
            "test": measures if role == "final" else {},
            "validation": measures,
            "history": history,
            "selected_epoch": EPOCHS,
            "parameters": 1000 + row,
        }
        provenance = {
            "seconds": seconds,
            "started": "2026-11-21T15:45:03+00:00",
            "finished": "2026-11-21T15:46:04+00:00",
            "device": "cpu (x86_64)",
            "versions": {"python": "3.11.7", "torch": "2.15.0"},
            "warnings": [],
        }
        config = self.config(row, seed)
        if role == "search":
            config["training"]["learning_rate"] = RATES[seed]
        self.store.write_record(name, config, result, provenance)
        folder = self.store.trial_folder(name)
        if role == "final" and beside and self.stages:
            write_stage(folder, STAGE, {"digits": {"accuracy": 0.75}})
        if role == "final" and beside and self.ood:
            import numpy

            measured = dict.fromkeys(("max_logit_ap", "max_logit_auroc", "feature_norm_ap", "feature_norm_auroc"), 0.9)
            record = OodRecord(
                name="noise", fingerprint=OOD["fingerprint"], images=2, measures={**measured, "base_rate": 0.5}
            )
            scores = {key: numpy.zeros(2, "float32") for key in ("max_logit", "feature_norm")}
            write_ood(folder, record, scores)
        return name

    def finish_all(self, **options: Any) -> None:
        """Let every trial end well."""
        for point in range(2):
            self.finish(1, point, "search", **options)
        for row in range(len(KAPPAS)):
            for seed in range(3):
                self.finish(row, seed, **options)

    def fail(self, row: int, seed: int, message: str = "the loss\nis nan", kind: str = "TrialError") -> str:
        """Let a trial fail."""
        name = identity(row, seed)
        self.store.write_error(name, self.config(row, seed), {"kind": kind, "message": message, "traceback": "…"})
        return name

    def config(self, row: int, seed: int) -> dict[str, Any]:
        """Of a trial."""
        config = make_config("cosine", seed, EPOCHS)
        config["head"]["parameters"] = {"kappa": KAPPAS[row]}
        return config
