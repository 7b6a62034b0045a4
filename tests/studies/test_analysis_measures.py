"""From matrices between all models to numbers of each model: every mean worked out by hand."""

import pytest

from logitlab.records.analysis import AnalysedData, AnalysedModel, Analysis
from logitlab.studies.analysis_measures import analysis_measures

NAMES = ["a, seed 0", "a, seed 1", "b, seed 0", "b, seed 1"]
ROWS = {"a0": "a", "a1": "a", "b0": "b", "b1": "b"}
SAME = [[1.0, 0.9, 0.5, 0.6], [0.9, 1.0, 0.7, 0.4], [0.5, 0.7, 1.0, 0.8], [0.6, 0.4, 0.8, 1.0]]


def analysis(names=NAMES, identities=("a0", "a1", "b0", "b1"), ood=None, **between):
    return Analysis(
        data=AnalysedData(name="d", fingerprint="f", part="test", images=3, class_names=("x", "y")),
        models=tuple(
            AnalysedModel(label=name, checkpoint="c", head="softmax", backbone="mlp", identity=identity)
            for name, identity in zip(names, identities)
        ),
        between=between,
        ood=ood or {},
    )


def test_agreement_within_a_row_and_with_others():
    other = [[0.0] * 4] * 4
    found = analysis_measures(
        analysis(
            agreement=[
                {"names": NAMES, "kind": "same", "value": SAME},
                {"names": NAMES, "kind": "same_when_both_wrong", "value": other},
            ]
        ),
        ROWS,
    )
    assert found["a0"] == {
        "analysis.agreement.same_row": pytest.approx(0.9),
        "analysis.agreement.other_rows": pytest.approx((0.5 + 0.6) / 2),
    }
    assert found["b1"]["analysis.agreement.other_rows"] == pytest.approx((0.6 + 0.4) / 2)
    assert found.keys() == ROWS.keys()


def test_votes_of_a_row_are_compared_with_those_of_other_rows():
    names = ["a", "b", "c"]
    identities = ("a0", "b0", "b1", "c0")
    votes = [[1.0, 0.9, 0.6], [0.9, 1.0, 0.8], [0.6, 0.8, 1.0]]
    accuracy = [[0.7, 0.5, 0.3], [0.5, 0.9, 0.6], [0.3, 0.6, 0.8]]
    found = analysis_measures(
        analysis(
            ["a, seed 0", "b, seed 0", "b, seed 1", "c, seed 0"],
            identities,
            agreement=[{"names": names, "kind": "same_answer_of_ensembles", "value": votes}],
            ensembles={"names": names, "value": accuracy, "size": 2},
        ),
        {**ROWS, "c0": "c"},
    )
    assert found["a0"] == {
        "analysis.agreement.ensembles": pytest.approx((0.9 + 0.6) / 2),
        "analysis.ensembles.same_row": 0.7,
        "analysis.ensembles.other_rows": pytest.approx((0.5 + 0.3) / 2),
    }
    # All models of a row share its vote, which counts once.
    assert "b1" not in found
    assert found["b0"]["analysis.agreement.ensembles"] == pytest.approx((0.9 + 0.8) / 2)
    assert found["b0"]["analysis.ensembles.same_row"] == 0.9
    assert found["c0"]["analysis.ensembles.other_rows"] == pytest.approx((0.3 + 0.6) / 2)


def test_ensembles_of_what_is_no_row_of_the_study_are_left_out():
    ensembles = {"names": ["softmax"], "value": [[0.7]], "size": 2}
    assert analysis_measures(analysis(ensembles=ensembles), ROWS) == {}


def test_a_row_of_one_model_agrees_with_nobody_of_its_own():
    names = NAMES[1:]
    matrix = [line[1:] for line in SAME[1:]]
    found = analysis_measures(
        analysis(names, ("a1", "b0", "b1"), agreement=[{"names": names, "kind": "same", "value": matrix}]), ROWS
    )
    assert found["a1"]["analysis.agreement.same_row"] is None
    assert found["a1"]["analysis.agreement.other_rows"] == pytest.approx((0.7 + 0.4) / 2)


def test_layers_are_compared_with_the_same_layer_of_other_rows():
    layers = ["stem", "block", "features"]

    def pair(first, second, start, end, columns=layers):
        value = [[start, 0.0, 0.0], [0.0, 0.3, 0.0], [0.0, 0.0, end]]
        return {"first": first, "second": second, "rows": layers, "columns": columns, "value": value}

    pairs = [
        pair(NAMES[0], NAMES[0], 1.0, 1.0),
        pair(NAMES[0], NAMES[1], 0.99, 0.99),
        pair(NAMES[0], NAMES[2], 0.8, 0.2),
        pair(NAMES[0], NAMES[3], 0.6, 0.4),
        pair(NAMES[1], NAMES[2], 0.5, 0.1, columns=["stem", "other", "features"]),
        pair(NAMES[0], f"{NAMES[0]} (control)", 0.1, 0.0),
    ]
    found = analysis_measures(analysis(cka=pairs), ROWS)
    assert found == {
        "a0": {"analysis.cka.first": pytest.approx(0.7), "analysis.cka.last": pytest.approx(0.3)},
        "b0": {"analysis.cka.first": pytest.approx(0.8), "analysis.cka.last": pytest.approx(0.2)},
        "b1": {"analysis.cka.first": pytest.approx(0.6), "analysis.cka.last": pytest.approx(0.4)},
    }


def test_an_analysis_without_them_says_nothing():
    assert analysis_measures(analysis(clustering={"names": NAMES}), ROWS) == {}
    # Trials that the study does not know are left out.
    agreement = [{"names": NAMES, "kind": "same", "value": SAME}]
    assert analysis_measures(analysis(agreement=agreement), {}) == {}


def test_every_score_against_strange_images():
    ood = {NAMES[1]: {"noise": {"max_logit": {"ap": 0.25, "auroc": None}, "feature_norm": {"ap": 0.5}}}}
    assert analysis_measures(analysis(ood=ood), ROWS) == {
        "a1": {
            "analysis.ood.noise.max_logit.ap": 0.25,
            "analysis.ood.noise.max_logit.auroc": None,
            "analysis.ood.noise.feature_norm.ap": 0.5,
        }
    }


def test_models_that_started_alike_are_not_compared():
    """Of one seed: the same first weights and the same batches under two losses."""
    layers = ["stem", "features"]
    cka = [
        {
            "first": NAMES[one],
            "second": NAMES[other],
            "rows": layers,
            "columns": layers,
            "value": [[first, 0], [0, 0.5]],
        }
        for one, other, first in ((0, 2, 0.99), (0, 3, 0.7))
    ]
    made = analysis(agreement=[{"names": NAMES, "kind": "same", "value": SAME}], cka=cka)
    seeded = made.model_copy(
        update={
            "models": tuple(model.model_copy(update={"seed": place % 2}) for place, model in enumerate(made.models))
        }
    )
    found = analysis_measures(seeded, ROWS)
    # Only the model of the other seed counts: SAME[0][3].
    assert found["a0"]["analysis.agreement.other_rows"] == pytest.approx(0.6)
    assert found["a0"]["analysis.agreement.same_row"] == pytest.approx(0.9)
    assert found["a0"]["analysis.cka.first"] == pytest.approx(0.7)
    assert "analysis.cka.first" not in found["b0"]
