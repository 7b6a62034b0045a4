"""Clustering against a plain average linkage in loops, and cuts against SciPy."""

from __future__ import annotations

import itertools
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import fcluster
from scipy.stats import pearsonr

from logitlab.analysis import AgreementMatrix, agreement_matrix, cluster_models
from logitlab.config.errors import InputError


def matrix(count: int, seed: int = 0) -> AgreementMatrix:
    generator = np.random.default_rng(seed)
    return agreement_matrix({f"m{index}": generator.integers(0, 3, 200) for index in range(count)}, split="test")


def average_linkage(distances: np.ndarray) -> list[tuple[frozenset[int], float]]:
    """The clusters made and their distances, by the definition: the mean over all pairs of members."""
    clusters = [frozenset([index]) for index in range(len(distances))]
    made = []
    while len(clusters) > 1:
        pairs = []
        for one, other in itertools.combinations(clusters, 2):
            apart = [distances[a, b] for a in one for b in other]
            pairs.append((sum(apart) / len(apart), one, other))
        distance, one, other = min(pairs, key=lambda pair: pair[0])
        clusters = [cluster for cluster in clusters if cluster not in (one, other)] + [one | other]
        made.append((one | other, distance))
    return made


@pytest.mark.parametrize("seed", range(3))
def test_average_linkage_equals_the_definition(seed: int) -> None:
    similarity = matrix(9, seed)
    found = cluster_models(similarity)
    distances = 1 - similarity.value.numpy()
    oracle = average_linkage(distances)
    members = [frozenset([index]) for index in range(9)]
    merged_at = np.zeros((9, 9))
    for row, (cluster, distance) in zip(found.linkage.tolist(), oracle, strict=True):
        one, other = members[int(row[0])], members[int(row[1])]
        members.append(one | other)
        assert members[-1] == cluster
        assert row[2] == pytest.approx(distance, abs=1e-12)
        assert row[3] == len(cluster)
        for a, b in itertools.product(one, other):
            merged_at[a, b] = merged_at[b, a] = distance
    upper = np.triu_indices(9, 1)
    assert found.value == pytest.approx(pearsonr(merged_at[upper], distances[upper]).statistic, abs=1e-12)
    assert sorted(found.order) == list(range(9))
    assert (found.n, found.split, found.names) == (200, "test", similarity.names)


def test_leaves_of_a_cluster_stand_side_by_side() -> None:
    found = cluster_models(matrix(12, 4))
    members = [{index} for index in range(12)]
    for row in found.linkage.tolist():
        members.append(members[int(row[0])] | members[int(row[1])])
        places = sorted(found.order.index(model) for model in members[-1])
        assert places == list(range(places[0], places[0] + len(places)))


@pytest.mark.parametrize("seed", range(3))
def test_no_turn_of_a_branch_brings_neighbours_closer(seed: int) -> None:
    similarity = matrix(7, seed)
    found = cluster_models(similarity)
    distances = 1 - similarity.value.numpy()

    def length(order: tuple[int, ...]) -> float:
        return sum(distances[a, b] for a, b in itertools.pairwise(order))

    # All orders of the leaves that the tree allows: at each merge one branch or the other comes first.
    lengths = []
    for turns in itertools.product([False, True], repeat=6):
        orders: list[tuple[int, ...]] = [(index,) for index in range(7)]
        for row, turned in zip(found.linkage.tolist(), turns, strict=True):
            one, other = orders[int(row[0])], orders[int(row[1])]
            orders.append(other + one if turned else one + other)
        lengths.append(length(orders[-1]))
    assert length(found.order) == pytest.approx(min(lengths), abs=1e-12)
    assert max(lengths) > min(lengths) + 0.01


@pytest.mark.parametrize("count", range(1, 11))
def test_groups_equal_scipys_cut(count: int) -> None:
    # Numbers that never tie: of merges at one distance fcluster makes all or none.
    value = np.random.default_rng(2).random((10, 10))
    value = np.triu(value, 1) + np.triu(value, 1).T + np.eye(10)
    found = cluster_models(SimpleNamespace(names="abcdefghij", value=value))
    groups = list(found.groups(count).values())
    oracle = fcluster(found.linkage.numpy(), count, "maxclust")
    assert len(set(groups)) == count
    for (a, x), (b, y) in itertools.combinations(zip(groups, oracle, strict=True), 2):
        assert (a == b) == (x == y)
    # Numbered in the order in which the names meet them.
    assert list(dict.fromkeys(groups)) == list(range(count))


def test_ties_still_give_the_count_asked_for() -> None:
    value = np.full((5, 5), 0.5) + np.eye(5) / 2
    found = cluster_models(SimpleNamespace(names=list("abcde"), value=value))
    assert [len(set(found.groups(count).values())) for count in range(1, 6)] == [1, 2, 3, 4, 5]
    assert math.isnan(found.value)
    assert "equally far" in found.warnings[0]


def test_models_that_answer_alike_are_merged_at_zero() -> None:
    answers = {"a": [0, 1, 2], "copy": [0, 1, 2], "b": [2, 2, 0]}
    found = cluster_models(agreement_matrix(answers))
    assert sorted(found.linkage[0, :2].tolist()) == [0, 1]
    assert found.linkage[0, 2:].tolist() == [0, 2]
    assert found.groups(2) == {"a": 0, "copy": 0, "b": 1}
    assert found.value == pytest.approx(1)


def test_two_models() -> None:
    found = cluster_models(agreement_matrix({"a": [0, 1, 2, 3], "b": [0, 1, 2, 2]}))
    assert found.linkage.tolist() == [[0, 1, 0.25, 2]]
    assert sorted(found.order) == [0, 1]
    assert math.isnan(found.value)
    assert found.groups(2) == {"a": 0, "b": 1}
    assert json.loads(json.dumps(found.to_json()))["value"] is None


@pytest.mark.parametrize("method", ["single", "complete"])
def test_other_linkages(method: str) -> None:
    # Points 0, 1, 3 on a line, distances over 10: the pair {0, 1} is 2 or 3 from the third.
    value = 1 - torch.tensor([[0, 1, 3], [1, 0, 2], [3, 2, 0]]) / 10
    found = cluster_models(SimpleNamespace(names="abc", value=value), method)  # type: ignore[arg-type]
    assert found.linkage[1, 2] == pytest.approx(0.2 if method == "single" else 0.3, abs=1e-7)
    assert found.convention.startswith(method)


def test_a_cka_matrix_names_its_rows() -> None:
    value = torch.tensor([[1.0, 0.5, 0.2], [0.5, 1.0 + 1e-12, 0.2], [0.2, 0.2, 1.0]], dtype=torch.float64)
    similarity = SimpleNamespace(rows=("a", "b", "c"), columns=("a", "b", "c"), value=value, n=7, split=None)
    assert cluster_models(similarity).groups(2) == {"a": 0, "b": 0, "c": 1}
    assert cluster_models(similarity).n == 7
    similarity.columns = ("x", "y", "z")
    with pytest.raises(InputError, match="rows and columns alike"):
        cluster_models(similarity)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[1.0]], "at least two models"),
        ([[1.0, 0.5], [0.4, 1.0]], "symmetric"),
        ([[1.0, 1.5], [1.5, 1.0]], r"in \[0, 1\]. Got values from 1 to 1.5"),
        ([[1.0, -0.1], [-0.1, 1.0]], r"in \[0, 1\]"),
        ([[1.0, 0.5], [0.5, 0.9]], "similarity 1 to itself. Got 0.9"),
        ([[1.0, 0.5, 0.5], [0.5, 1.0, 0.5]], "square"),
        (torch.tensor([[1.0, float("nan")], [float("nan"), 1.0]]), "leave out the models"),
    ],
)
def test_what_is_no_similarity_is_refused(value: object, message: str) -> None:
    names = "ab" if len(value) == 2 else "a"  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        cluster_models(SimpleNamespace(names=names, value=value))


def test_similarities_in_single_precision_may_be_rounded() -> None:
    value = np.array([[1, 0.5, 0.2], [0.5, 1 - 1e-7, 0.3], [0.2, 0.3 + 1e-7, 1]])
    found = cluster_models(SimpleNamespace(names="abc", value=value.astype(np.float32)))
    assert found.groups(2) == {"a": 0, "b": 0, "c": 1}
    with pytest.raises(InputError, match="symmetric"):
        cluster_models(SimpleNamespace(names="abc", value=value))


def test_nonsense_is_refused() -> None:
    with pytest.raises(InputError, match="'names' and 'value'.*Got ndarray"):
        cluster_models(np.eye(3))
    with pytest.raises(InputError, match="one name a model. Got 3 names and 2 models"):
        cluster_models(SimpleNamespace(names="abc", value=[[1.0, 0.5], [0.5, 1.0]]))
    with pytest.raises(InputError, match="did you mean 'average'"):
        cluster_models(matrix(3), "averag")  # type: ignore[arg-type]
    # For Euclidean distances only.
    with pytest.raises(InputError, match="linkage 'ward'"):
        cluster_models(matrix(3), "ward")  # type: ignore[arg-type]
    for count in (0, 4, True):
        with pytest.raises(InputError, match="from 1 to 3"):
            cluster_models(matrix(3)).groups(count)
