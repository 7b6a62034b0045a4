"""The threshold for a precision against a search of every threshold."""

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitlab.config.errors import InputError
from logitlab.statistics import short_threshold, threshold_for_precision, wilson_interval


def search(scores, hits, precision):
    """The lowest confidence at which the accepted answers reach the precision, straight from the definition."""
    for threshold in sorted(set(scores)):
        accepted = [hit for score, hit in zip(scores, hits) if score >= threshold]
        if sum(accepted) / len(accepted) >= precision:
            return threshold, len(accepted), sum(accepted) / len(accepted)
    return None


@given(
    st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.9]), st.booleans()), min_size=1, max_size=30),
    st.sampled_from([0.05, 0.5, 0.75, 0.9, 0.999]),
)
def test_it_is_the_lowest_that_reaches_the_precision(pairs, precision):
    scores, hits = [score for score, _ in pairs], [hit for _, hit in pairs]
    expected = search(scores, hits, precision)
    if expected is None:
        with pytest.raises(InputError, match="No threshold reaches"):
            threshold_for_precision(scores, hits, precision)
        return
    found = threshold_for_precision(scores, hits, precision)
    assert (found.threshold, found.accepted, found.precision) == expected
    assert found.coverage == found.accepted / len(pairs)
    assert found.interval[0] <= found.precision <= found.interval[1] + 1e-12


@pytest.mark.parametrize(
    ("scores", "hits", "words"),
    [([], [], "one confidence an answer"), ([0.5], [], "1 and 0"), ([float("nan")], [True], "finite")],
)
def test_answers_that_are_none(scores, hits, words):
    with pytest.raises(InputError, match=words):
        threshold_for_precision(scores, hits, 0.5)


@pytest.mark.parametrize(("hits", "count"), [(0, 5), (7, 10), (99, 100), (4, 4)])
def test_wilsons_interval_is_scipys(hits, count):
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson_interval(hits, count) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_no_answers_have_no_interval():
    with pytest.raises(InputError, match="Got none"):
        wilson_interval(0, 0)


@given(st.floats(-1e6, 1e6, width=32))
def test_a_short_threshold_parts_the_same_float32_numbers(value):
    below = float(numpy.nextafter(numpy.float32(value), numpy.float32("-inf")))
    printed = float(f"{short_threshold(value):.9g}")
    assert below < printed <= value
