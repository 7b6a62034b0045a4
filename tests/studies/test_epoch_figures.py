"""A study whose figures go through the epochs is planned, run and drawn."""

from __future__ import annotations

from pathlib import Path

from logitlab.studies import run


def test_kappa_through_the_epochs_of_a_real_study(tmp_path: Path) -> None:
    found = run(
        {
            "name": "tiny",
            "data": {"name": "digits", "train_limit": 200},
            "backbone": "mlp",
            "training": {"epochs": 2},
            "seeds": 1,
            "heads": ["softmax", {"head": "cosine:temperature=trainable", "label": "Trainable"}],
            "figures": [{"title": "T Figure 1", "kind": "epochs", "measures": ["kappa", "error"], "logarithmic": True}],
        },
        executor="serial",
        out=tmp_path,
    )
    assert found.failed == ()
    assert found.report is not None
    page = found.report.read_text(encoding="utf-8")
    assert "T Figure 1" in page
    assert "Left out, for the history holds no such number (κ): softmax." in page
    assert 'aria-label="κ, through 2 epochs. Trainable: ' in page
    assert 'aria-label="error on the training images, %, through 2 epochs. softmax: ' in page
