"""The page as a text: what it says, what it escapes, what it does without."""

import html
import json
import re
import subprocess
import sys

import fabricated
import numpy
import pytest

from logitlab.config.errors import InputError, RecordError
from logitlab.records import read_outputs
from logitlab.report import (
    artefacts,
    comparison_table,
    evidence,
    page,
    page_parts,
    sections,
    write_report,
)
from logitlab.report.recommendations import advise


def test_a_whole_comparison(root):
    records = fabricated.fabricate(root)
    text = fabricated.written(records, root)
    assert len(text.encode()) < page.MOST_BYTES
    # 8 measures with OOD, balanced accuracy, 4 curves, 1 of classes; for each of 3 heads 3 pictures and 2 of OOD
    assert len(fabricated.pictures(text)) >= 9 + 4 + 1 + 3 * 5
    assert text.count("data:image/png") == sum(
        len(read_outputs(root / "trials" / f"{head * 100:016x}")["example_kind"]) for head in range(3)
    )
    text = text.replace("<wbr>", "")
    for line in ("Which head for which purpose", "photographs", "cpu (x86_64)", "training.learning_rate"):
        assert line in text


def test_the_same_records_give_the_same_bytes(root):
    records = fabricated.fabricate(root, heads=("softmax",), seeds=1)
    before = fabricated.written(records, root)
    # Else the page that is there would be left as it is.
    (root / "report.html").unlink()
    assert fabricated.written(records, root) == before


def test_nothing_leads_outside(root):
    text = fabricated.written(fabricated.fabricate(root, heads=("softmax",), seeds=1, classes=40), root)
    assert not re.findall(r"https?://|//[a-z]", re.sub(r"data:image/png;base64,[^\"]*", "", text.split("<script>")[0]))
    for target in re.findall(r'(?:src|href)="([^"]*)"', text):
        assert target.startswith(("#", "data:image/png;base64,"))


def test_identifiers_are_unique_and_every_reference_has_its_target(root):
    text = fabricated.written(fabricated.fabricate(root), root)
    identifiers = re.findall(r'\bid="([^"]*)"', text)
    assert len(identifiers) == len(set(identifiers))
    used = set(re.findall(r'href="#([^"]*)"', text)) | set(re.findall(r"url\(#([^)]*)\)", text))
    assert used <= set(identifiers)


def test_names_are_escaped_everywhere(root):
    evil = '<script>alert("x")</script>'
    names = [evil, "a&b", "$x$", "</svg><b>", "caf\udce9", "日本語"]
    records = fabricated.fabricate(root, heads=("softmax",), classes=6, names=names, ood=["<img src=x>"])
    for record in records:
        record["config"]["data"]["name"] = "/data/<i>shirts</i>"
    records.append(fabricated.make_failure("cosine", 0, "<u>broken</u>\x01 image"))
    text = fabricated.written(records, root)
    for tag in ("<script>alert", "</svg><b>", "<img src=x>", "<i>", "<u>"):
        assert tag not in text
    assert html.escape(evil, quote=False) in html.unescape(text).replace(evil, html.escape(evil, quote=False))
    assert "$x$" in text
    assert "日本語" in text
    assert r"caf\xe9" in text


def test_a_failed_head_and_a_failed_seed_are_named(root):
    records = fabricated.fabricate(root, heads=("softmax",), seeds=2)
    records.append(fabricated.make_failure("softmax", 7, "The loss of epoch 2 is not finite."))
    records.append(fabricated.make_failure("arcface", 0, "No room on the device."))
    text = fabricated.written(records, root)
    assert "2 trials failed" in text
    assert "<b>arcface</b>, seed 0: No room on the device." in text
    assert "<b>softmax</b>, seed 7: The loss of epoch 2 is not finite." in text


def test_only_failures_and_no_records_at_all(root):
    assert "No trial has finished" in fabricated.written([fabricated.make_failure("arcface", 0, "No.")], root)
    assert "No trial has finished" in fabricated.written([], root)


@pytest.mark.parametrize("damage", ["missing", "cut", "old"])
def test_outputs_that_cannot_be_read_are_said_in_words(root, damage):
    records = fabricated.fabricate(root, heads=("softmax", "cosine"), seeds=1)
    for record in records[:1]:
        path = root / "trials" / record["identity"] / "outputs.npz"
        if damage == "missing":
            path.unlink()
        elif damage == "cut":
            path.write_bytes(path.read_bytes()[:500])
        else:
            numpy.savez(path, labels=numpy.zeros(3, dtype="int32"))
    text = fabricated.written(records, root)
    assert "No outputs of this head could be read: the top of the page says why." in text
    assert "The answers of 1 trial cannot be read" in text
    assert "outputs.npz" in text
    # The OOD set was measured already: only one that was not makes the outputs again.
    assert "<code>--ood noise</code> makes the answers again" in text


def test_the_remedy_names_a_set_that_was_not_measured(root):
    for ood, name in ((("noise",), "patches"), (("noise", "patches"), "SET")):
        records = fabricated.fabricate(root, heads=("softmax",), seeds=1, ood=ood)
        (root / "trials" / records[0]["identity"] / "outputs.npz").unlink()
        assert f"<code>--ood {name}</code>" in fabricated.written(records, root)
        # A set of an earlier call, which this one does not show, is measured all the same.
        del records[0]["ood"]
        assert f"<code>--ood {name}</code>" in fabricated.written(records, root)


@pytest.mark.parametrize("value", [-1, 5, 2**30])
def test_a_damaged_label_costs_one_trial_its_pictures(root, value):
    """``model.json`` says how many classes there are, so that no array is made of a number that means nothing."""
    records = fabricated.fabricate(root, heads=("softmax",), seeds=3)
    path = root / "trials" / records[1]["identity"] / "outputs.npz"
    arrays = read_outputs(path.parent)
    arrays["labels"][3] = value
    numpy.savez(path, **arrays)
    with pytest.raises(RecordError, match="'labels'"):
        read_outputs(path.parent, classes=5)
    text = html.unescape(fabricated.written(records, root))
    assert f"<b>softmax</b>, seed 1: '{path}' is damaged: expected 'labels'" in text
    assert "400 answers, 2 seeds together." in text


def test_records_of_an_older_version(root):
    """What the first version of a record did not hold."""
    records = fabricated.fabricate(root, heads=("softmax",), seeds=1, ood=())
    for record in records:
        (root / "trials" / record["identity"] / "outputs.npz").unlink()
        (root / "trials" / record["identity"] / "model.json").unlink()
        record["result"] = {"test": {"accuracy": 0.9}, "history": []}
        record["provenance"] = {}
    text = fabricated.written(records, root)
    assert "The records hold no such history." in text
    assert "No OOD set was measured." in text


def test_a_head_without_probabilities(root):
    text = fabricated.written(fabricated.fabricate(root, heads=("squared_error",), link="none"), root)
    assert "no probabilities (link “none”)" in text
    assert "max logit" in text


def test_seconds_are_sorted_with_the_fewest_on_top(root):
    records = fabricated.fabricate(root, heads=("softmax",), seeds=1)
    grid = sections.sortable(comparison_table(records), artefacts.gather(records, root))
    first = dict(grid.headings)
    assert (first["seconds"], first["NLL ↓"], first["accuracy % ↑"]) == ("ascending", "ascending", "descending")


def test_a_frozen_backbone_has_a_card_without_a_choice(root):
    records = fabricated.fabricate(root, heads=("softmax", "cosine"))
    for record in records:
        record["config"]["training"]["freeze_backbone"] = True
    text = fabricated.written(records, root)
    assert "The backbone is frozen and transfers alike whatever the head." in text
    assert "Evidence: R²" not in text


def test_long_names_break_between_their_parts(root):
    text = fabricated.written(fabricated.fabricate(root, heads=("softmax",), seeds=1, link="normalized_sigmoid"), root)
    assert "data.<wbr>validation_<wbr>fraction" in text
    assert "normalized_<wbr>sigmoid" in text
    assert "<td>0.1</td>" in text
    assert str(page_parts.breakable("a_<b>.c_")) == "a_<wbr>&lt;b&gt;.<wbr>c_"


def test_the_policy_allows_the_script_of_the_page_alone(root):
    text = fabricated.written(fabricated.fabricate(root, heads=("softmax",), seeds=1), root)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src &#39;none&#39;; img-src data:;")
    assert "sha256-" in policy
    assert "http" not in policy


def test_records_of_two_data_sets_are_refused(root):
    records = fabricated.fabricate(root, heads=("softmax",), seeds=2)
    records[1]["config"]["data_fingerprint"] = "cd" * 32
    with pytest.raises(InputError, match="one data set"):
        write_report(records, root, root / "report.html")
    assert not (root / "report.html").exists()


def test_ood_sets_that_were_not_asked_for_stay_out(root):
    records = fabricated.fabricate(root, heads=("softmax",), seeds=1, ood=("noise", "letters"))
    del records[0]["ood"]["letters"]
    text = fabricated.written(records, root)
    assert "noise" in text
    assert "letters" not in text


def test_the_evidence_is_the_test_of_the_recommendation(root):
    records = fabricated.fabricate(root, heads=("softmax", "sigmoid", "cosine"), seeds=3)
    for record in records:
        head, seed = record["config"]["head"]["name"], record["config"]["seed"]
        accuracy = {"softmax": 0.95, "sigmoid": 0.94, "cosine": 0.3}[head] + 0.001 * seed
        record["result"]["test"].update(
            accuracy=accuracy, class_separation=0.5 + (head == "softmax") * 0.1 + seed / 100
        )
    heads = artefacts.gather(records, root)
    found = {each.purpose: each for each in evidence.with_evidence(advise(records), heads)}
    accuracy = found["Accuracy"]
    assert heads[accuracy.taken].label == "softmax"
    assert accuracy.sentence.startswith("95.10 ± 0.06 %; every other head is significantly worse")
    assert [row.label for row in accuracy.evidence] == ["softmax", "sigmoid", "cosine"]
    # Three seeds each, s = 0.001: t = 0.01 / (0.001 √(2/3)) = 12.25 with four degrees of freedom.
    assert [row.p for row in accuracy.evidence] == ["best", "< 0.001", "< 0.001"]
    assert accuracy.evidence[1].verdict == "lower"
    # A head that learnt nothing has no part in transfer, as in the recommendation.
    assert [row.label for row in found["Transfer"].evidence] == ["sigmoid", "softmax"]
    assert set(found) == {
        "Accuracy",
        "Calibrated confidence",
        "Rejecting its own mistakes",
        "Rejecting strange inputs",
        "Transfer",
    }
    assert all(each.evidence for each in found.values())


def test_the_table_sorts_by_exact_numbers(root):
    records = fabricated.fabricate(root, heads=("softmax",), seeds=3)
    (head,) = artefacts.gather(records, root)
    grid = sections.ood_table([head])[0][1]
    assert json.loads(grid.rows[0][2][0].value) == pytest.approx(0.91)
    assert grid.rows[0][2][0].error == "0.006"


def test_pictures_are_imported_when_a_page_is_written():
    code = (
        "import sys, logitlab.report as report; assert report.write_report;"
        "print([name for name in ('matplotlib', 'jinja2', 'numpy', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_page_is_written_without_torch(root):
    fabricated.fabricate(root, heads=("softmax",), seeds=1)
    code = (
        "import sys; from logitlab.report import write_report;"
        f"write_report([], {str(root)!r}, {str(root / 'empty.html')!r}); assert 'torch' not in sys.modules;"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (root / "empty.html").stat().st_size > 5000
