"""A whole comparison as it lies on disk, made up: records, outputs and OOD scores."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy

from logitlab.config.trial import canonical_json
from logitlab.records import write_arrays, write_outputs

EPOCHS = 4


def fabricate(
    root: Path,
    heads: Sequence[str] = ("softmax", "cosine_ls", "sigmoid"),
    *,
    seeds: int = 3,
    classes: int = 5,
    images: int = 200,
    names: Sequence[str] | None = None,
    ood: Sequence[str] = ("photographs",),
    side: int = 8,
    channels: int = 1,
    epochs: int = EPOCHS,
    link: str = "softmax",
) -> list[dict[str, Any]]:
    """Write the folders of finished trials below ``root`` and return their records, head by head."""
    draw = numpy.random.default_rng(0)
    names = list(names or [str(number) for number in range(classes)])
    records = []
    for place, head in enumerate(heads):
        for seed in range(seeds):
            identity = f"{place * 100 + seed:016x}"
            folder = root / "trials" / identity
            outputs = make_outputs(draw, images, classes, skill=0.85 - 0.05 * place, side=side, channels=channels)
            if link == "none":
                outputs["confidence"][:] = numpy.nan
            write_outputs(folder, outputs)
            (folder / "model.json").write_text(json.dumps({"class_names": names}))
            record = make_record(identity, head, seed, outputs, epochs, link)
            for number, name in enumerate(ood):
                scores = {key: (0.5 * outputs[key]).astype("float32") for key in ("max_logit", "feature_norm")}
                stem = folder / "ood" / f"{number:016x}"
                write_arrays(stem.with_suffix(".npz"), scores)
                measures = {
                    "max_logit_ap": 0.9 + 0.01 * seed,
                    "max_logit_auroc": 0.95,
                    "feature_norm_ap": 0.8,
                    "feature_norm_auroc": 0.85,
                    "base_rate": 0.5,
                }
                stem.with_suffix(".json").write_text(
                    json.dumps({"format_version": 1, "name": name, "fingerprint": "0" * 64, "measures": measures})
                )
                record.setdefault("ood", {})[name] = measures
            records.append(record)
    return records


def make_outputs(
    draw: numpy.random.Generator, images: int, classes: int, *, skill: float, side: int, channels: int
) -> dict[str, numpy.ndarray]:
    labels = draw.integers(0, classes, images)
    predicted = numpy.where(draw.random(images) < skill, labels, draw.integers(0, classes, images))
    right = predicted == labels
    confidence = numpy.clip(draw.normal(0.6 + 0.25 * right, 0.12), 0.05, 1.0)
    worst = numpy.flatnonzero(~right)
    worst = worst[numpy.argsort(-confidence[worst])][:12]
    least = numpy.argsort(confidence)[:12]
    examples = numpy.concatenate([worst, least])
    validation = images // 4
    return {
        "labels": labels.astype("int32"),
        "predicted": predicted.astype("int32"),
        "confidence": confidence.astype("float32"),
        "max_logit": (10 * confidence).astype("float32"),
        "feature_norm": draw.gamma(9, 1, images).astype("float32"),
        "own_cosine": numpy.clip(draw.normal(0.2 + 0.5 * right, 0.1), -1, 1).astype("float32"),
        "kappa_star": draw.normal(5, 0.5, images).astype("float32"),
        "validation_labels": labels[:validation].astype("int32"),
        "validation_predicted": predicted[:validation].astype("int32"),
        "validation_confidence": confidence[:validation].astype("float32"),
        "validation_max_logit": (10 * confidence[:validation]).astype("float32"),
        "example_index": examples.astype("int32"),
        "example_pixels": draw.integers(0, 256, (len(examples), channels, side, side)).astype("uint8"),
        "example_kind": numpy.repeat([0, 1], [len(worst), len(least)]).astype("int8"),
    }


def make_config(head: str, seed: int, epochs: int = EPOCHS) -> dict[str, Any]:
    data = {"name": "digits", "image_size": None, "train_limit": None, "validation_fraction": 0.1, "split_seed": 0}
    return {
        "data": data,
        "data_fingerprint": "ab" * 32,
        "backbone": {"name": "small_cnn", "parameters": {}, "module": None, "source": None, "resolved": None},
        "head": {"name": head, "parameters": {}, "module": None, "source": None, "resolved": {"loss": "softmax"}},
        "training": {"epochs": epochs, "batch_size": 32, "learning_rate": 0.1},
        "seed": seed,
    }


def make_record(
    identity: str, head: str, seed: int, outputs: dict[str, numpy.ndarray], epochs: int, link: str
) -> dict[str, Any]:
    accuracy = float((outputs["predicted"] == outputs["labels"]).mean())
    history = [
        {
            "epoch": epoch,
            "learning_rate": 0.1,
            "loss": 2.0 / epoch + 0.01 * seed,
            "accuracy": 1 - 0.5 / epoch,
            "validation_loss": 2.1 / epoch + 0.02 * seed,
            "validation_accuracy": 0.9 - 0.5 / epoch,
            "kappa": None,
            "kappa_star": 5 + 1 / epoch,
        }
        for epoch in range(1, epochs + 1)
    ]
    honest = link != "none"
    test = {
        "accuracy": accuracy,
        "balanced_accuracy": accuracy - 0.001,
        "nll": 1 - accuracy if honest else None,
        "ece": 0.05 + 0.001 * seed if honest else None,
        "class_separation": 0.8 - 0.01 * seed,
        "miss_ap": 0.95 + 0.002 * seed,
        "miss_base_rate": accuracy,
        "kappa": None,
        "kappa_star": 5.0 + 0.1 * seed,
    }
    config = make_config(head, seed, epochs)
    return {
        "identity": identity,
        "config": config,
        "result": {
            "test": test,
            "history": history,
            "selected_epoch": epochs,
            "parameters": 94186,
            "link": link,
            "head_parameters": {"loss": "softmax"},
            "images": {"train": 300, "validation": len(outputs["validation_labels"]), "test": len(outputs["labels"])},
        },
        "result_sha256": canonical_json(test)[:8],
        "provenance": {
            "versions": {"python": "3.11.7", "torch": "2.15.0"},
            "device": "cpu (x86_64)",
            "threads": 1,
            "platform": "Linux",
            "started": "2026-11-21T15:45:03+00:00",
            "finished": "2026-11-21T15:45:04+00:00",
            "seconds": 1.5 + seed,
            "warnings": [],
        },
    }


def make_failure(head: str, seed: int, message: str) -> dict[str, Any]:
    identity = "f" * 15 + str(seed)
    return {
        "identity": identity,
        "config": make_config(head, seed),
        "error": {"kind": "TrialError", "message": message},
    }


def written(records, root):
    """The page of a made-up study, as text."""
    from logitlab.report import write_report

    return write_report(records, root, root / "report.html").read_text(encoding="utf-8")


def pictures(text):
    """The SVGs of a page."""
    return re.findall(r"<svg viewBox.*?</svg>", text, flags=re.DOTALL)
