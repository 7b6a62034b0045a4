"""The page of pictures that a comparison leaves."""

import pytest

from logitlab.studies import compare

SETTINGS = {
    "heads": ["softmax"],
    "backbone": "mlp:widths=[8]",
    "seeds": 1,
    "epochs": 1,
    "train_limit": 40,
    "ood": "none",
}


@pytest.fixture
def run(tmp_path, diary):
    def call(**changes):
        return compare("digits", **SETTINGS, out=tmp_path, executor="serial", progress=diary, **changes)

    return call


def test_the_page_lies_beside_the_trials(run, tmp_path):
    found = run()
    assert found.report == tmp_path / "report.html"
    text = found.report.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert "softmax" in text
    # The images to look at come from what the trial kept.
    assert "data:image/png;base64," in text
    elsewhere = tmp_path / "copy.html"
    assert found.write_report(elsewhere).read_text(encoding="utf-8") == text


def test_a_page_that_cannot_be_written_costs_nothing_else(run, tmp_path, diary):
    (tmp_path / "report.html").mkdir()
    found = run()
    assert found.report is None
    assert len(found.records) == 1
    (notice,) = (event[1] for event in diary.events if event[0] == "notice")
    assert notice.startswith("The report cannot be written in")


def test_no_page_when_none_is_asked_for(run, tmp_path):
    assert run(report=False).report is None
    assert not (tmp_path / "report.html").exists()
