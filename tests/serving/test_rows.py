"""Answers as CSV and JSON lines."""

import csv
import io
import json
import math

import pytest

from logitlab.config.errors import InputError
from logitlab.serving import Prediction, write_predictions

ANSWERS = [
    Prediction("a,b.png", 0, 'the "cat"', 0.123456789, True),
    Prediction("caf\udce9.png", 1, "dog", 0.5, False),
    Prediction("bad.png", None, "", math.nan, False, "Cannot read it."),
]


def test_csv_is_read_back():
    target, told = io.StringIO(), []
    summary = write_predictions(ANSWERS, target, complain=told.append)
    rows = list(csv.DictReader(io.StringIO(target.getvalue())))
    assert rows == [
        {"path": "a,b.png", "class": 'the "cat"', "probability": "0.1234568", "accepted": "accept", "error": ""},
        {"path": "caf\\xe9.png", "class": "dog", "probability": "0.5", "accepted": "reject", "error": ""},
        {"path": "bad.png", "class": "", "probability": "", "accepted": "", "error": "Cannot read it."},
    ]
    assert told == ["Cannot read it."]
    assert (summary.accepted, summary.rejected, summary.unreadable, summary.images) == (1, 1, 1, 3)
    assert str(summary) == "3 images: 1 accepted, 1 rejected, 1 unreadable."


def test_json_lines_are_read_back():
    target = io.StringIO()
    write_predictions(ANSWERS, target, form="jsonl", score="max_logit")
    rows = [json.loads(line) for line in target.getvalue().splitlines()]
    assert rows[0] == {
        "path": "a,b.png",
        "class": 'the "cat"',
        "max_logit": 0.1234568,
        "accepted": "accept",
        "error": None,
    }
    assert rows[2] == {
        "path": "bad.png",
        "class": None,
        "max_logit": None,
        "accepted": None,
        "error": "Cannot read it.",
    }


def test_another_form_is_refused():
    with pytest.raises(InputError, match="Unknown format 'xml'"):
        write_predictions([], io.StringIO(), form="xml")
