"""The directions that the papers found, on real images, in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

import logitlab as ll

KAPPAS = (5, 10, 20, 60)


def sweep(folder: Path) -> dict[str, dict[str, float]]:
    """Least squares and four fixed κ on digits, one seed: every measure."""
    heads = ["cosine_ls", *(f"cosine:kappa={kappa}" for kappa in KAPPAS)]
    result = ll.compare(
        "digits", heads=heads, seeds=1, epochs=6, out=folder, executor="serial", device="cpu", ood="none", report=False
    )
    assert not result.failed
    measured: dict[str, dict[str, float]] = {}
    for record in result.records:
        parameters = record["config"]["head"]["parameters"]
        name = f"kappa={parameters['kappa']}" if parameters else "least squares"
        measured[name] = record["result"]["test"]
    return measured


@pytest.mark.slow
def test_kappa_spreads_the_classes_as_the_papers_found(tmp_path: Path) -> None:
    measures = sweep(tmp_path)
    adaptive = measures["least squares"]
    # T Table 2: κ* 5.39 for the ten classes of CIFAR-10.
    assert 3.5 < adaptive["kappa"] < 6
    assert 3.5 < adaptive["kappa_star"] < 6
    # W Table 6: R² grows with τ = 1/κ. T Table 3, first column: the angle to the class weight grows with κ.
    separation = [measures[f"kappa={kappa}"]["class_separation"] for kappa in KAPPAS]
    angle = [measures[f"kappa={kappa}"]["class_angle"] for kappa in KAPPAS]
    assert separation == sorted(separation, reverse=True)
    assert angle == sorted(angle)
    assert adaptive["class_separation"] > separation[1]
    assert adaptive["class_angle"] < angle[1]
    assert min(each["accuracy"] for each in measures.values()) > 0.95
