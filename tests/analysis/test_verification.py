"""Verification against the protocol written out in loops, scikit-learn, and pairs one by one."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import cosine_similarity, euclidean_distances

from logitlab.analysis import UndefinedError, all_pairs_verification, pair_scores, pairs, verification
from logitlab.config.errors import InputError


def protocol(scores: list[float], same: list[bool], folds: list[int], grid: list[float] | None) -> list[float]:
    """Accuracy of each fold: the threshold that is best on the others, by trying all; the strictest of equal ones."""
    accuracies = []
    for number in sorted(set(folds)):
        train = [index for index, fold in enumerate(folds) if fold != number]
        test = [index for index, fold in enumerate(folds) if fold == number]
        candidates = grid
        if candidates is None:
            distinct = sorted({scores[index] for index in train}, reverse=True)
            candidates = [math.inf, *((a + b) / 2 for a, b in itertools.pairwise(distinct)), -math.inf]
        best, chosen = -1, math.nan
        for threshold in candidates:
            right = 0
            for index in train:
                right += (scores[index] > threshold) == same[index]
            if right > best:
                best, chosen = right, threshold
        accuracies.append(sum((scores[index] > chosen) == same[index] for index in test) / len(test))
    return accuracies


def rates(scores: list[float], same: list[bool], target: float) -> float:
    """The largest true-accept rate of any threshold whose false-accept rate does not exceed the target."""
    positives, negatives = sum(same), len(same) - sum(same)
    best = 0.0
    for threshold in scores:
        accepted = [flag for score, flag in zip(scores, same) if score >= threshold]
        if (len(accepted) - sum(accepted)) / negatives <= target:
            best = max(best, sum(accepted) / positives)
    return best


def area(scores: list[float], same: list[bool]) -> float:
    """Share of (same, different) pairs of pairs in the right order, ties half."""
    won = total = 0.0
    for one, flag in zip(scores, same):
        for other, other_flag in zip(scores, same):
            if flag and not other_flag:
                total += 1
                won += 1.0 if one > other else 0.5 if one == other else 0.0
    return won / total


def sample(count: int, decimals: int, seed: int = 0, share: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    same = generator.random(count) < share
    return np.round(generator.normal(same * 1.2, 1.0), decimals), same


@pytest.mark.parametrize(("decimals", "share"), [(12, 0.5), (1, 0.5), (0, 0.2)])
@pytest.mark.parametrize("given", [True, False])
def test_equals_the_protocol_in_loops(decimals: int, share: float, given: bool) -> None:
    scores, same = sample(203, decimals, share=share)
    # Ten folds of unequal size as they stand: three of 21 and seven of 20.
    folds = [index for index in range(10) for _ in range(21 if index < 3 else 20)]
    if given:
        folds = [(7 * index) % 4 for index in range(203)]
    found = verification(scores, same, folds if given else None, false_accept_rates=[0.3, 0.1, 0.02], split="test")
    oracle = protocol(scores.tolist(), same.tolist(), folds, None)
    assert found.accuracies.tolist() == pytest.approx(oracle, abs=1e-12)
    assert found.value == pytest.approx(sum(oracle) / len(oracle), abs=1e-12)
    assert found.deviation == pytest.approx(np.std(oracle), abs=1e-12)
    assert found.error == pytest.approx(np.std(oracle, ddof=1) / math.sqrt(len(oracle)), abs=1e-12)
    assert found.auc == pytest.approx(area(scores.tolist(), same.tolist()), abs=1e-12)
    assert found.auc == pytest.approx(roc_auc_score(same, scores), abs=1e-12)
    for rate, true in found.tar_at_far.items():
        assert true == pytest.approx(rates(scores.tolist(), same.tolist(), rate), abs=1e-12)
    assert found.base_rate == same.mean()
    assert (found.n, found.split) == (203, "test")


@pytest.mark.parametrize("seed", range(2))
def test_insightfaces_grid_equals_its_protocol(seed: int) -> None:
    generator = np.random.default_rng(seed)
    identity = generator.normal(size=(40, 4))
    first = np.repeat(identity, 3, axis=0) + generator.normal(size=(120, 4))
    same = np.arange(120) % 2 == 0
    second = np.where(same[:, None], np.repeat(identity, 3, axis=0), identity[generator.integers(0, 40, 120)])
    second = second + generator.normal(size=(120, 4))
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (first, second)]
    # Some land on the grid itself: a strict < refuses a distance equal to its threshold.
    distances = np.square(unit[0] - unit[1]).sum(axis=1)
    distances[:40] = np.arange(0, 4, 0.01)[generator.integers(0, 400, 40)]
    found = verification(-distances, same, grid="insightface")
    folds = [index // 12 for index in range(120)]
    grid = [-threshold for threshold in np.arange(0, 4, 0.01).tolist()]
    oracle = protocol((-distances).tolist(), same.tolist(), folds, grid)
    assert found.accuracies.tolist() == pytest.approx(oracle, abs=1e-12)
    assert set(found.thresholds.tolist()) <= {value + 0.0 for value in grid}
    assert "strict <" in found.convention


def test_separable_pairs_are_all_told_apart() -> None:
    generator = np.random.default_rng(0)
    same = generator.random(100) < 0.5
    # In one decimal, so that the most distant pair of one class has its like in another fold.
    scores = -np.where(same, generator.uniform(0.1, 0.5, 100), generator.uniform(1.6, 3.0, 100)).round(1)
    for grid in ("midpoints", "insightface"):
        found = verification(scores, same, grid=grid, false_accept_rates=[0.1])  # type: ignore[arg-type]
        assert (found.value, found.deviation, found.error, found.auc) == (1, 0, 0, 1)
        assert found.tar_at_far == {0.1: 1.0}
        assert bool(((found.thresholds > -1.6) & (found.thresholds < -0.5)).all())
    # Turned round, nothing is.
    assert verification(-scores, same).auc == 0


def test_scores_that_say_nothing() -> None:
    same = [index % 4 == 0 for index in range(40)]
    found = verification([0.5] * 40, same, false_accept_rates=[0.5])
    # All refused, all of one score: three quarters are right.
    assert (found.value, found.auc, found.tar_at_far[0.5]) == (pytest.approx(0.75), 0.5, 0.0)
    mostly = [not flag for flag in same]
    # All accepted.
    assert verification([0.5] * 40, mostly, false_accept_rates=[0.5]).value == pytest.approx(0.75)


def test_the_threshold_is_not_chosen_on_the_fold_itself() -> None:
    # On the other folds 0.5 separates; in this one everything is upside down.
    scores = [0.9, 0.1] * 9 + [0.1, 0.9]
    found = verification(scores, [True, False] * 10, false_accept_rates=[0.5])
    assert found.accuracies.tolist() == [1.0] * 9 + [0.0]
    assert found.thresholds[-1] == pytest.approx(0.5)
    assert found.deviation == pytest.approx(0.3)


def test_neighbouring_numbers_are_separated() -> None:
    low = 0.1
    high = math.nextafter(low, 1.0)
    assert verification([low, high] * 10, [False, True] * 10, false_accept_rates=[0.5]).value == 1
    assert verification([-1.5e308, 1.5e308] * 10, [False, True] * 10, false_accept_rates=[0.5]).value == 1


def test_too_few_impostors_are_told() -> None:
    scores, same = sample(200, 3)
    found = verification(scores, same, false_accept_rates=[0.1, 1e-3, 1e-4])
    assert f"{int((~same).sum())} pairs" in found.warnings[0]
    assert "FAR of 0.001, 0.0001" in found.warnings[0]
    assert found.tar_at_far[1e-3] == rates(scores.tolist(), same.tolist(), 0.0)
    # Exactly enough: one false accept in ten is allowed.
    exact = verification([0.9, 0.8, 0.7] + [0.1] * 9, [1, 0, 1] + [0] * 9, folds=3, false_accept_rates=[0.1])
    assert exact.tar_at_far == {0.1: 1.0}
    assert not any("too few" in warning for warning in exact.warnings)


def test_sorted_pairs_are_told() -> None:
    found = verification([0.9] * 20 + [0.1] * 20, [True] * 20 + [False] * 20, false_accept_rates=[0.5])
    assert "10 of 10 folds hold pairs of one kind only" in found.warnings[0]


def test_result_prints_and_goes_to_json() -> None:
    found = verification(*sample(200, 3), false_accept_rates=[0.1])
    assert "TAR 0." in str(found)
    assert verification(*sample(200, 3), false_accept_rates=[]).headline.endswith(f"AUC {found.auc:.4g}")
    plain = json.loads(json.dumps(found.to_json()))
    assert plain["tar_at_far"] == {"0.1": found.tar_at_far[0.1]}
    assert len(plain["accuracies"]) == 10


def test_verification_refuses_nonsense() -> None:
    with pytest.raises(InputError, match="NaN or infinity in row 1"):
        verification([0.1, float("nan")], [True, False])
    with pytest.raises(InputError, match=r"'same' of shape \[2\]"):
        verification([0.1, 0.2], [True])
    with pytest.raises(InputError, match=r"'fold' of shape \[2\]"):
        verification([0.1, 0.2], [True, False], [0])
    with pytest.raises(InputError, match="at least two folds"):
        verification([0.1, 0.2], [True, False], [3, 3])
    with pytest.raises(InputError, match="'folds' from 2 to 4, the number of pairs. Got 10"):
        verification([0.1, 0.2, 0.3, 0.4], [True, False] * 2)
    with pytest.raises(UndefinedError, match="Got 3 of one kind"):
        verification([0.1, 0.2, 0.3], [True] * 3)
    for wrong in (0.1, "abc"):
        with pytest.raises(InputError, match="'false_accept_rates' as a list of numbers"):
            verification([0.1, 0.2], [True, False], [0, 1], false_accept_rates=wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="integer 'folds' from 2 to 2.* Got 2.0"):
        verification([0.1, 0.2], [True, False], folds=2.0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"false_accept_rates' in \(0, 1\]"):
        verification([0.1, 0.2], [True, False], [0, 1], false_accept_rates=[0.0])
    with pytest.raises(InputError, match="minus squared distances of unit vectors.*0.1 to 0.2"):
        verification([0.1, 0.2], [True, False], [0, 1], grid="insightface")
    with pytest.raises(InputError, match="did you mean 'midpoints'"):
        verification([0.1, 0.2], [True, False], grid="midpoint")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'score' of shape"):
        verification([], [])


def features(count: int = 90, width: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    # Unbalanced classes, one of a single row; some rows twice, so that scores tie.
    labels = np.sort(generator.choice(6, count, p=[0.5, 0.2, 0.1, 0.1, 0.08, 0.02]))
    rows = generator.normal(size=(6, width))[labels] + generator.normal(size=(count, width))
    rows[10:15] = rows[:5]
    return rows, labels


@pytest.mark.parametrize("block", [1, 17, 2**22])
def test_pair_scores_equal_scikit_learn(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "_BLOCK_ELEMENTS", block)
    rows, _ = features()
    generator = np.random.default_rng(1)
    first, second = generator.integers(0, 90, 50), generator.integers(0, 90, 50)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosine = cosine_similarity(rows)[first, second]
    np.testing.assert_allclose(pair_scores(rows, first, second), cosine, atol=1e-12)
    np.testing.assert_allclose(
        pair_scores(rows, first, second, metric="squared_euclidean"),
        -np.square(unit[first] - unit[second]).sum(axis=1),
        atol=1e-12,
    )
    raw = pair_scores(rows, first, second, metric="squared_euclidean", normalized=False)
    np.testing.assert_allclose(raw, -np.square(rows[first] - rows[second]).sum(axis=1), atol=1e-12)
    assert raw.dtype == torch.float64


def test_pair_scores_of_a_memory_map_lists_and_zero_rows(tmp_path: Path) -> None:
    rows = features()[0].astype(np.float32)
    rows[3] = 0
    np.save(tmp_path / "x.npy", rows)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    expected = pair_scores(rows.astype(np.float64), [0, 3, 7], [1, 4, 7])
    for given in (mapped, torch.tensor(rows), rows.astype(np.float64).tolist()):
        np.testing.assert_allclose(pair_scores(given, [0, 3, 7], [1, 4, 7]), expected, atol=1e-12)
    assert expected[1] == 0
    assert expected[2] == pytest.approx(1)
    assert pair_scores(np.array([[3, 4], [4, 3]]), [0], [1]).item() == pytest.approx(24 / 25)


def test_a_face_benchmark_from_features_to_accuracy() -> None:
    # Cosine and squared distance of unit vectors rank alike: the same accuracy but for the grid.
    rows, labels = features(200, 8, seed=4)
    generator = np.random.default_rng(5)
    first, second = generator.integers(0, 200, 400), generator.integers(0, 200, 400)
    same = labels[first] == labels[second]
    cosine = verification(pair_scores(rows, first, second), same)
    distance = verification(pair_scores(rows, first, second, metric="squared_euclidean"), same)
    assert distance.value == cosine.value
    assert distance.auc == pytest.approx(cosine.auc, abs=1e-12)
    grid = verification(pair_scores(rows, first, second, metric="squared_euclidean"), same, grid="insightface")
    assert grid.value == pytest.approx(cosine.value, abs=0.05)


ALL_PAIRS = [("cosine", True), ("squared_euclidean", True), ("squared_euclidean", False)]


@pytest.mark.parametrize(("metric", "normalized"), ALL_PAIRS)
@pytest.mark.parametrize(
    ("rows_a_block", "share"), [(8, 2**-9), (89, 2**-12), (90, 2**-12), (2048, 2**-20)], ids=["8", "89", "90", "2048"]
)
def test_all_pairs_equal_one_big_matrix(
    metric: str, normalized: bool, rows_a_block: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "_BLOCK_ROWS", rows_a_block)
    # Coarser, it is quicker, and more pairs are tied.
    monkeypatch.setattr(pairs, "_RESOLUTION", share)
    rows, labels = features()
    found = all_pairs_verification(
        rows,
        labels,
        metric=metric,
        normalized=normalized,
        false_accept_rates=[0.3, 0.01],  # type: ignore[arg-type]
    )
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    scores = cosine_similarity(rows)
    if metric == "squared_euclidean":
        scores = -np.square(euclidean_distances(unit if normalized else rows))
    upper = np.triu_indices(90, 1)
    same = labels[upper[0]] == labels[upper[1]]
    assert (found.pairs_same, found.pairs_different) == (same.sum(), (~same).sum())
    # On rounded scores it is exact; unrounded, within what it says itself.
    rounded = np.round(scores[upper] / found.resolution)
    assert found.value == pytest.approx(roc_auc_score(same, rounded), abs=1e-12)
    assert abs(found.value - roc_auc_score(same, scores[upper])) <= found.uncertainty + 1e-12
    tied = (rounded[same][:, None] == rounded[~same]).mean()
    assert found.uncertainty == pytest.approx(tied / 2, abs=1e-12)
    assert share > 2**-20 or found.uncertainty < 1e-3
    for rate, true in found.tar_at_far.items():
        thresholds = [t for t in np.unique(rounded) if (rounded[~same] >= t).mean() <= rate]
        assert true == pytest.approx((rounded[same] >= min(thresholds)).mean(), abs=1e-12)
    largest = 1 if metric == "cosine" else 4 if normalized else 4 * np.square(rows).sum(axis=1).max()
    assert found.resolution == pytest.approx(largest * share)


def test_all_pairs_agree_with_chosen_pairs() -> None:
    rows, labels = features(60)
    first, second = np.triu_indices(60, 1)
    listed = verification(pair_scores(rows, first, second), labels[first] == labels[second])
    assert all_pairs_verification(rows, labels).value == pytest.approx(listed.auc, abs=1e-6)


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few scores to count: what a test says of blocks it says as well, and sooner."""
    monkeypatch.setattr(pairs, "_RESOLUTION", 2**-12)


@pytest.mark.usefixtures("coarse")
def test_single_rows_are_blocks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, labels = features(20)
    whole = all_pairs_verification(rows, labels)
    monkeypatch.setattr(pairs, "_BLOCK_ROWS", 1)
    assert all_pairs_verification(rows, labels).to_json() == whole.to_json()


@pytest.mark.usefixtures("coarse")
def test_all_pairs_with_wide_rows_use_smaller_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, labels = features(40, 30)
    whole = all_pairs_verification(rows, labels)
    seen = []
    take = pairs._take
    monkeypatch.setattr(pairs, "_take", lambda values, where: seen.append(found := take(values, where)) or found)
    monkeypatch.setattr(pairs, "_BLOCK_ELEMENTS", 90)
    assert all_pairs_verification(rows, labels).to_json() == whole.to_json()
    assert max(block.numel() for block in seen) == 90


def test_exact_scores_do_not_fall_apart() -> None:
    # Orthogonal, equal and opposite rows, scaled by what rounds: cosines 0, 1 and -1 but for the last bit.
    scale = np.array([0.1, 0.3, 0.7, 1.1])[:, None]
    rows = np.concatenate([scale * [1.0, 1.0, 0.0], scale * [-1.0, -1.0, 0.0], scale * [1.0, -1.0, 0.0]])
    labels = np.repeat([0, 1, 2], 4)
    assert all_pairs_verification(rows, labels).value == 1
    # Between classes the cosines are -1 and 0 only: accepting all of 0 takes 32 of 48.
    found = all_pairs_verification(rows, np.repeat([0, 1, 0], 4), false_accept_rates=[0.5, 1.0])
    # Same: 12 + 6 of cosine 1, 16 of cosine 0; different: 16 of -1 and 16 of 0.
    assert found.tar_at_far == {0.5: 1.0, 1.0: 1.0}
    assert found.value == pytest.approx((18 * 32 + 16 * (16 + 8)) / (34 * 32))
    assert found.uncertainty == pytest.approx(16 * 16 / (34 * 32) / 2)


@pytest.mark.usefixtures("coarse")
def test_all_pairs_of_a_memory_map(tmp_path: Path) -> None:
    rows, labels = features()
    np.save(tmp_path / "x.npy", rows.astype(np.float32))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    one = all_pairs_verification(mapped, torch.tensor(labels), split="test")
    other = all_pairs_verification(rows.astype(np.float32).tolist(), labels.tolist(), split="test")
    assert one.to_json() == other.to_json()
    assert "AUC 0." in str(one)
    assert json.loads(json.dumps(one.to_json()))["pairs_same"] == one.pairs_same


@pytest.mark.usefixtures("coarse")
def test_zero_rows_are_told() -> None:
    rows, labels = features()
    rows[4] = 0
    assert "1 of 90 feature rows are zero" in all_pairs_verification(rows, labels).warnings[0]
    assert not all_pairs_verification(rows, labels, metric="squared_euclidean", normalized=False).warnings


def test_pairs_refuse_nonsense() -> None:
    rows, labels = features()
    with pytest.raises(UndefinedError, match="Got 4005 of one kind"):
        all_pairs_verification(rows, labels * 0)
    with pytest.raises(UndefinedError, match="Got 4005 of one kind"):
        all_pairs_verification(rows, np.arange(90))
    with pytest.raises(UndefinedError, match="Got 0 of one kind"):
        all_pairs_verification(rows[:1], labels[:1])
    with pytest.raises(UndefinedError, match="not all zero"):
        all_pairs_verification(rows * 0, labels, metric="squared_euclidean", normalized=False)
    with pytest.raises(InputError, match="did you mean 'cosine'"):
        all_pairs_verification(rows, labels, metric="cosin")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"'y' of shape \[90\]"):
        all_pairs_verification(rows, labels[:3])
    with pytest.raises(InputError, match="'first' to hold rows of 'x', 0 to 89. Got values from 0 to 90"):
        pair_scores(rows, [0, 90], [0, 1])
    with pytest.raises(InputError, match="'second' to hold rows"):
        pair_scores(rows, [0, 1], [0, -1])
    with pytest.raises(InputError, match=r"'second' of shape \[2\]"):
        pair_scores(rows, [0, 1], [0])
    with pytest.raises(InputError, match="at least one pair"):
        pair_scores(rows, [], [])
    with pytest.raises(InputError, match="without a length"):
        pair_scores(rows, 1, [0])
    with pytest.raises(InputError, match="unknown|Unknown metric"):
        pair_scores(rows, [0], [1], metric="l2")  # type: ignore[arg-type]
    rows[7, 2] = np.nan
    with pytest.raises(InputError, match="NaN or infinity in row 7"):
        pair_scores(rows, [0], [1])
    with pytest.raises(InputError, match="NaN or infinity in row 7"):
        all_pairs_verification(rows, labels)
