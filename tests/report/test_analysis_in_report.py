"""The page of a comparison that has an analysis beside it."""

import analysed
import fabricated

from logitlab.records.analysis import Analysis, write_analysis
from logitlab.report import page

ONLY = ("separation", "separation_by_layer")


def beside(root, identities):
    """Write an analysis of softmax and cosine into the folder of a comparison."""
    given = analysed.make_analysis(("cosine", "softmax"), points=10, only=ONLY).to_json()
    for model, identity in zip(given["models"], identities):
        model["identity"] = identity
    return write_analysis(root / "analysis", Analysis.model_validate_json(analysed.json.dumps(given)))


def test_the_analysis_stands_in_the_report_in_the_colours_of_its_heads(root):
    records = fabricated.fabricate(root, heads=("softmax", "cosine"), seeds=1)
    assert 'id="analysis"' not in fabricated.written(records, root)
    # The analysis names its models in another order than the comparison its heads.
    beside(root, [records[1]["identity"], records[0]["identity"]])
    text = fabricated.written(records, root)
    assert 'id="analysis"' in text
    assert 'href="#analysis-layers"' in text
    assert "random labels 0.009" in text
    assert "are those of the heads above" in text
    part = text[text.index('id="analysis-layers"') :]
    assert part.index("swatch") < part.index("cosine")
    assert 'data-series="series-1"' in part[: part.index("cosine")]
    assert len(text.encode()) < page.MOST_BYTES


def test_models_of_one_head_have_places_of_their_own(root):
    records = fabricated.fabricate(root, heads=("softmax",), seeds=2)
    beside(root, [records[0]["identity"], records[1]["identity"]])
    assert "are the models' own" in fabricated.written(records, root)
    beside(root, [records[0]["identity"], None])
    assert "are the models' own" in fabricated.written(records, root)


def test_a_damaged_analysis_is_said_in_words(root):
    records = fabricated.fabricate(root, heads=("softmax",), seeds=1)
    file = beside(root, [None, None])
    before = fabricated.written(records, root)
    file.write_text("{")
    text = fabricated.written(records, root)
    assert "The analysis of these models cannot be shown. Cannot read" in text
    assert "analysis-layers" not in text
    assert "analysis-layers" in before
