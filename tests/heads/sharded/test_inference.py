"""What a split head answers without a target is what the dense head answers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ranks import run_ranks
from torch import Tensor
from torch.nn.functional import normalize

import logitlab as ll
from logitlab.config.errors import InputError
from logitlab.functional import projection_energy
from logitlab.heads import Head, ShardedHead, create_head

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")

DOUBLE = torch.float64
D, C = 12, 41

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "softmax": ("softmax", {}),
    "unit weight": ("head", {"classifier": "unit_weight", "bias": True}),
    "sphereface": ("sphereface", {}),
    "arcface": ("arcface", {"inference_kappa": "per_sample"}),
    "trainable": ("cosine", {"temperature": "trainable", "bias": True}),
    "centers": ("subcenter_arcface", {"centers": 3}),
    "least squares": ("cosine_ls", {}),
    "least squares each": ("cosine_2ls", {"inference_kappa": "per_sample"}),
    "likelihood each": ("cosine", {"temperature": "maximum_likelihood", "inference_kappa": "per_sample"}),
    "thumb each": ("cosine", {"temperature": "rule_of_thumb", "inference_kappa": "per_sample"}),
    "adacos": ("cosine", {"temperature": "adacos_dynamic"}),
}


def build(name: str, **parameters: Any) -> Head:
    torch.manual_seed(3)
    maker: Any = Head if name == "head" else lambda *sizes, **rest: create_head(name, *sizes, **rest)
    head: Head = maker(D, C, dtype=DOUBLE, **parameters)
    if head.bias is not None:
        torch.nn.init.normal_(head.bias)
    return head


def answers(rank: int, head: Head, features: Tensor, sizes: tuple[int, ...], kappa: Any) -> dict[str, Any]:
    split = ShardedHead(head)
    mine = features.split(sizes)[rank]
    given = kappa.split(sizes)[rank] if isinstance(kappa, Tensor) and kappa.ndim else kappa
    best = split.best(mine, 5, kappa=given)
    found = {
        "logits": split(mine, kappa=given),
        "method": split.logits(mine, kappa=given),
        "best": best.logits,
        "classes": best.classes,
        "predict": split.predict(mine),
        "all": split.best(mine, C).classes,
        "proba": split.predict_proba(mine),
        "kappa": None if head.temperature is None else split.kappa_star(mine),
        "kept": split.kappa,
    }
    assert not found["logits"].requires_grad
    return found


@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_answers_are_those_of_the_dense_head(case: str, training: bool) -> None:
    name, parameters = CASES[case]
    head = build(name, **parameters).train(training)
    target = torch.randint(C, (9,))
    features = 3 * normalize(head.weight.detach()[target * head.centers] + 0.1 * torch.randn(9, D))
    features[4] = 0
    for sizes in ((5, 4), (2, 0, 7)):
        for kappa in (None, 4.0, 1 + 9 * torch.rand(9)) if head.classifier == "cosine" else (None,):
            parts = run_ranks(answers, len(sizes), head, features, sizes, kappa)
            whole = {
                key: None if parts[0][key] is None else torch.cat([part[key] for part in parts])
                for key in parts[0]
                if key != "kept"
            }
            logits = head(features, kappa=kappa)
            plain = head(features)
            torch.testing.assert_close(whole["logits"], logits, rtol=1e-9, atol=1e-9)
            assert torch.equal(whole["logits"], whole["method"])
            top = logits.topk(5, dim=1)
            torch.testing.assert_close(whole["best"], top.values, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(logits.gather(1, whole["classes"]), whole["best"], rtol=1e-9, atol=1e-9)
            assert torch.equal(whole["predict"][features.any(dim=1)], head.predict(features)[features.any(dim=1)])
            assert torch.equal(whole["all"].sort(dim=1).values, torch.arange(C).expand(9, C))
            torch.testing.assert_close(whole["proba"], head.probabilities(plain), rtol=1e-9, atol=1e-9)
            if isinstance(head.temperature, ll.LeastSquares):
                x, w = normalize(features), normalize(head.weight.detach())
                energies = [projection_energy(x, w, found) for found in (whole["kappa"], head.kappa_star(features))]
                assert float((energies[0] - energies[1]).abs().max()) <= 2e-6
            elif head.temperature is not None:
                torch.testing.assert_close(whole["kappa"], head.kappa_star(features), rtol=1e-9, atol=1e-9)
            # No answer moves a mean.
            assert all(part["kept"] is None or part["kept"] == head.kappa for part in parts)


def shaped(rank: int, head: Head) -> tuple[Any, ...]:
    split = ShardedHead(head).eval()
    features = torch.ones(2, 3, D, dtype=DOUBLE) * (rank + 1)
    one = features[0, 0]
    loss, logits = split(features, torch.zeros(2, 3, dtype=torch.int64), return_logits=True)
    return (
        split(features).shape,
        split(one).shape,
        split(one, torch.tensor(3)).shape,
        split(one, torch.tensor(3), kappa=torch.tensor(3.0)).shape,
        split.best(features, 2).classes.shape,
        split.predict(one).shape,
        split.kappa_star(features).shape,
        split.kappa_star(one).shape,
        loss.shape,
        bool((logits == split(features)).all()),
        split(features[:, :0]).shape,
    )


def test_shapes() -> None:
    for found in run_ranks(shaped, 2, build("cosine_ls")):
        assert [tuple(part) if isinstance(part, torch.Size) else part for part in found] == [
            (2, 3, C), (C,), (), (), (2, 3, 2), (), (2, 3), (), (), True, (2, 0, C),
        ]  # fmt: skip


def tied(rank: int, head: Head, features: Tensor) -> tuple[Tensor, Tensor]:
    split = ShardedHead(head)
    best = split.best(features, 4)
    return split.predict(features), best.classes


def test_of_equal_classes_on_several_ranks_the_first_is_predicted() -> None:
    head = build("cosine")
    with torch.no_grad():
        head.weight[[7, 20, 33]] = head.weight[3].clone()
    features = head.weight.detach()[[3, 3]]
    for ranks in (2, 3):
        for predicted, classes in run_ranks(tied, ranks, head, features):
            assert torch.equal(predicted, head.predict(features))
            assert classes.sort(dim=1).values.tolist() == [[3, 7, 20, 33]] * 2


def test_one_process_without_a_group() -> None:
    head = build("cosine_ls", inference_kappa="per_sample")
    split = ShardedHead(head)
    features = torch.randn(5, D, dtype=DOUBLE)
    assert split.classes == (0, C)
    assert split.traffic == ()
    torch.testing.assert_close(split.eval()(features), head.eval()(features), rtol=1e-9, atol=1e-9)
    assert split.traffic == ()


def test_what_cannot_be_asked() -> None:
    split = ShardedHead(build("softmax"))
    features = torch.randn(2, D, dtype=DOUBLE)
    with pytest.raises(InputError, match="no temperature"):
        split.kappa_star(features)
    for k in (0, C + 1):
        with pytest.raises(InputError, match=f"k from 1 to the {C} classes. Got {k}"):
            split.best(features, k)
    with pytest.raises(InputError, match="without a temperature"):
        split(features, kappa=3.0)
    with pytest.raises(InputError, match=rf"shape \[..., {D}\]. Got torch.float64 \[2, 3\]"):
        split.predict(torch.zeros(2, 3, dtype=DOUBLE))
    with pytest.raises(InputError, match="shape"):
        split.kappa_star(torch.zeros(2, 3, dtype=DOUBLE)) if split.temperature else split.logits(torch.zeros(2, 3))


def counted(rank: int, head: Head) -> list[int]:
    split = ShardedHead(head)
    lengths = []
    for _ in range(3):
        split.best(torch.ones(2, D, dtype=DOUBLE))
        lengths.append(len(split.traffic))
    return lengths


def test_the_count_of_the_traffic_does_not_grow_with_the_answers() -> None:
    for lengths in run_ranks(counted, 2, build("cosine")):
        assert lengths[2] == lengths[0]
