"""Real trials, short ones: what the executors deliver and what a user of one's own head sees."""

import pytest

from logitlab.studies import compare

TWENTY_LINES = '''
"""A head of one's own: cross-entropy on features of unit length, with a scale that is learned."""

from logitlab.heads import Head, register_head


class UnitHead(Head):
    """Cosine softmax whose scale starts at 4."""

    def __init__(self, in_features, num_classes, scale=4.0):
        super().__init__(in_features, num_classes, classifier="cosine", temperature="trainable", kappa=scale)


@register_head("unit_plugin")
def unit(in_features, num_classes, scale=4.0):
    return UnitHead(in_features, num_classes, scale)
'''


def run(out, **changes):
    options = {
        "heads": ["softmax", "unit_plugin:scale=8"],
        "backbone": "mlp",
        "seeds": 1,
        "epochs": 2,
        "train_limit": 200,
        "ood": "none",
        "report": False,
        "out": out,
    }
    return compare("digits", **{**options, **changes})


@pytest.mark.slow
def test_both_executors_give_the_same_bits_and_take_a_users_head(tmp_path, own_modules):
    (tmp_path / "unit_plugin.py").write_text(TWENTY_LINES)
    plugins = [str(tmp_path / "unit_plugin.py")]
    here = run(tmp_path / "serial", plugins=plugins, executor="serial")
    there = run(tmp_path / "process", plugins=plugins, executor="process", workers=2)
    assert [record["result_sha256"] for record in here.records] == [record["result_sha256"] for record in there.records]
    assert [row.label for row in there.table.rows] == ["softmax", "unit_plugin:scale=8"]
    for record in there.records:
        assert record["result"]["test"]["accuracy"] > 0.3
        assert len(record["result"]["history"]) == 2
        assert record["provenance"]["seconds"] > 0
    softmax, mine = (record["result"]["test"] for record in here.records)
    assert softmax["kappa"] is None
    # It starts at 8 and is learned; T finds that it grows.
    assert 8 < mine["kappa"] < 80


@pytest.mark.slow
def test_a_head_that_diverges_is_recorded_and_the_others_go_on(tmp_path):
    comparison = run(tmp_path, heads=["softmax", "squared_error:preset=imagenet"], executor="serial", learning_rate=1e4)
    (failed,) = [record for record in comparison.failed if record["config"]["head"]["name"] == "squared_error"]
    assert failed["error"]["kind"] == "TrialError"
    assert "squared_error" in failed["error"]["message"]
    assert "epoch" in failed["error"]["message"]
    assert len(comparison.records) == 2
