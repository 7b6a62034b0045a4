"""What a trial keeps of out-of-distribution sets."""

from __future__ import annotations

import json

import numpy as np
import pytest

from logitlab.config.errors import RecordError
from logitlab.records import OOD_MEASURES, OodRecord, has_ood, read_ood, read_ood_scores, write_ood

FINGERPRINT = "0123456789abcdef" * 4
SCORES = {name: np.arange(3, dtype="float32") for name in ("max_logit", "feature_norm")}


def make(**changes):
    values = {"name": "noise", "fingerprint": FINGERPRINT, "images": 3, "measures": dict.fromkeys(OOD_MEASURES, 0.5)}
    return OodRecord(**{**values, **changes})


def test_files_are_those_of_the_contract(tmp_path):
    write_ood(tmp_path, make(), SCORES)
    assert sorted(path.name for path in (tmp_path / "ood").iterdir()) == [
        "0123456789abcdef.json",
        "0123456789abcdef.npz",
    ]
    assert json.loads((tmp_path / "ood" / "0123456789abcdef.json").read_text()) == {
        "format_version": 1,
        "name": "noise",
        "fingerprint": FINGERPRINT,
        "images": 3,
        "measures": dict.fromkeys(OOD_MEASURES, 0.5),
    }
    assert read_ood(tmp_path, FINGERPRINT)["measures"]["max_logit_ap"] == 0.5
    np.testing.assert_array_equal(read_ood_scores(tmp_path, FINGERPRINT)["feature_norm"], [0, 1, 2])
    assert has_ood(tmp_path, FINGERPRINT)
    assert not has_ood(tmp_path, "f" * 64)


@pytest.mark.parametrize("damage", ["cut", "version", "no scores", "another set", "a measure less"])
def test_damaged_files_count_as_missing(tmp_path, damage):
    write_ood(tmp_path, make(), SCORES)
    path = tmp_path / "ood" / "0123456789abcdef.json"
    value = json.loads(path.read_text())
    if damage == "cut":
        path.write_text(path.read_text()[:40])
    elif damage == "version":
        path.write_text(json.dumps({**value, "format_version": 2}))
    elif damage == "no scores":
        path.with_suffix(".npz").unlink()
    elif damage == "another set":
        path.write_text(json.dumps({**value, "fingerprint": "0123456789abcdef" + 48 * "0"}))
    else:
        del value["measures"]["base_rate"]
        path.write_text(json.dumps(value))
    assert not has_ood(tmp_path, FINGERPRINT)
    with pytest.raises(RecordError, match="0123456789abcdef"):
        read_ood(tmp_path, FINGERPRINT)


def test_scores_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(RecordError, match="expected 4 values of 'max_logit'"):
        write_ood(tmp_path, make(images=4), SCORES)
    with pytest.raises(RecordError, match="damaged|There is no"):
        read_ood_scores(tmp_path, FINGERPRINT)
