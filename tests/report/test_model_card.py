"""The model card says what was measured and breaks at no name."""

import numpy
import pytest

from logitlab.report.model_card import model_card

NAMES = ["a|b", "`tick`", "<script>", "caf\\xe9"]


def description(link="softmax", module=None):
    return {
        "head": {"name": "cosine", "parameters": {}, "module": module},
        "num_features": 16,
        "class_names": NAMES,
        "image_size": 8,
        "channels": 1,
        "link": link,
    }


@pytest.fixture
def record(make):
    found = make.record("cosine", 0, {"kappa": 20}, kappa=20.0, accuracy=0.75)
    found["config"]["data"]["name"] = "my_photos *<b>*\n# x\udce9"
    found["result"] |= {"images": {"train": 10, "validation": 4, "test": 8}, "head_parameters": {"kappa": 20}}
    found["provenance"] |= {"versions": {"torch": "2.11"}, "device": "cpu (x86_64)"}
    return found


OUTPUTS = {
    "confidence": numpy.full(8, 0.85, numpy.float32),
    "validation_confidence": numpy.array([0.9, 0.8, 0.7, 0.6]),
    "validation_max_logit": numpy.array([9.0, 8.0, 7.0, 6.0]),
    "validation_labels": numpy.array([0, 0, 0, 0]),
    "validation_predicted": numpy.array([0, 0, 1, 0]),
}


def test_it_says_what_was_measured_and_on_how_many_images(record):
    card = model_card(record, description(), "W (7), T (1)", OUTPUTS)
    assert "| accuracy | 75.00 % |" in card
    assert "8 test images" in card
    assert "| κ, the inverse temperature at inference | 20 |" in card
    assert "overconfident by 10.00 percentage points" in card
    assert "| 95 % | 0.8 | 50.0 % | 100.00 % (34.2 to 100.0) |" in card
    assert "W (7), T (1)" in card
    assert "`cosine:kappa=20`" in card
    assert "Predictor.load" in card
    assert "logitlab predict . " in card
    assert "torch 2.11" in card


def test_names_of_the_users_break_nothing(record):
    card = model_card(record, description(), "registered by m: a <b>bold</b> | claim", OUTPUTS)
    card.encode()
    assert "\n# x" not in card
    assert "`my_photos *<b>* # x\\xe9`" in card
    assert "`a|b`, `` `tick` ``, `<script>`" in card
    assert r"a \<b>bold\</b> \| claim" in card


def test_without_probabilities_calibration_is_not_claimed(record):
    card = model_card(record, description("none", "my_heads"), "W (10)", OUTPUTS)
    assert "calibration is not defined" in card
    assert "| 95 % | 8 | 50.0 % |" in card
    assert "predict_proba" not in card
    assert "import my_heads" in card
    assert "--plugin my_heads" in card


def test_without_outputs_the_rest_stands(record):
    card = model_card(record, description(), "W (7)")
    assert "Not measured." in card
    assert "| accuracy | 75.00 % |" in card


def test_images_of_another_kind_have_a_table(record):
    measures = {"max_logit_ap": 0.9, "max_logit_auroc": 0.8, "feature_norm_ap": None, "base_rate": 0.5}
    card = model_card({**record, "ood": {"a|noise": measures}}, description(), "W (7)")
    assert r"| a\|noise | 0.9000 | – | 0.8000 | – | 0.5000 |" in card
