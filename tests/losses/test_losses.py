from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from logitlab.config.errors import InputError, ParameterError
from logitlab.losses import LabelSmoothing, LogitPenalty, Loss, SigmoidCrossEntropy, SoftmaxCrossEntropy, SquaredError

ALL = [
    SoftmaxCrossEntropy(),
    SigmoidCrossEntropy(),
    SquaredError(9.0, 6.0),
    LabelSmoothing(0.1),
    LogitPenalty(0.01),
    LogitPenalty(0.01, LabelSmoothing(0.2, SigmoidCrossEntropy())),
]


@pytest.mark.parametrize("loss", ALL, ids=repr)
def test_mean_and_sum_are_those_of_none(loss: Loss) -> None:
    logits, target = torch.randn(9, 4), torch.randint(4, (9,))
    values = loss(logits, target, reduction="none")
    assert values.shape == (9,)
    torch.testing.assert_close(loss(logits, target), values.mean())
    torch.testing.assert_close(loss(logits, target, reduction="sum"), values.sum())


@pytest.mark.parametrize("loss", ALL, ids=repr)
def test_an_index_and_its_one_hot_row_agree(loss: Loss) -> None:
    logits, target = torch.randn(2, 5, 4, dtype=torch.float64), torch.randint(4, (2, 5))
    one_hot = F.one_hot(target, 4).double()
    torch.testing.assert_close(loss(logits, one_hot), loss(logits, target))


@pytest.mark.parametrize("loss", ALL, ids=repr)
def test_gradcheck(loss: Loss) -> None:
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: loss(values, torch.tensor([0, 2, -100, 1])), logits)


@pytest.mark.parametrize("loss", ALL, ids=repr)
def test_half_precision_is_computed_in_float32(loss: Loss) -> None:
    logits = torch.randn(6, 4).half()
    value = loss(logits, torch.randint(4, (6,)))
    assert value.dtype == torch.float32


@pytest.mark.parametrize("alpha", [0.04, 0.1, 0.5])
@pytest.mark.parametrize("weighted", [False, True])
def test_label_smoothing_is_torchs_over_one_minus_alpha(alpha: float, weighted: bool) -> None:
    logits, target = torch.randn(20, 6, dtype=torch.float64), torch.randint(6, (20,))
    target[4] = -100
    weight = torch.rand(6, dtype=torch.float64) + 0.2 if weighted else None
    expected = F.cross_entropy(logits, target, weight, label_smoothing=alpha) / (1 - alpha)
    torch.testing.assert_close(LabelSmoothing(alpha)(logits, target, class_weight=weight), expected)


@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(), SigmoidCrossEntropy(), SquaredError(9.0, 6.0)], ids=repr)
def test_smoothing_equals_the_smoothed_target_of_the_paper(loss: Loss) -> None:
    """W Eq. (2): t' = t (1-α) + α/K, scaled by 1/(1-α)."""
    alpha, classes = 0.3, 5
    logits, target = torch.randn(7, classes, dtype=torch.float64), torch.randint(classes, (7,))
    smoothed = F.one_hot(target, classes).double() * (1 - alpha) + alpha / classes
    torch.testing.assert_close(LabelSmoothing(alpha, loss)(logits, target), loss(logits, smoothed) / (1 - alpha))


def test_label_smoothing_third_form_of_the_paper() -> None:
    """W Eq. (3)."""
    alpha, logits = 0.1, torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64)
    logsumexp = math.log(math.e**2 + math.e + 1)
    expected = -2.0 + logsumexp / (1 - alpha) - alpha / ((1 - alpha) * 3) * 3.0
    assert LabelSmoothing(alpha)(logits, torch.tensor([0])).item() == pytest.approx(expected, rel=1e-14)


def test_logit_penalty_by_hand() -> None:
    logits = torch.tensor([[3.0, 4.0]])
    expected = math.log(1 + math.e) + 0.1 * 25
    assert LogitPenalty(0.1)(logits, torch.tensor([0])).item() == pytest.approx(expected)


def test_the_penalty_carries_the_weight_of_its_sample() -> None:
    logits, weight = torch.randn(2, 2), torch.tensor([1.0, 4.0])
    plain = LogitPenalty(0.1)(logits, torch.tensor([0, 1]), reduction="none")
    weighted = LogitPenalty(0.1)(logits, torch.tensor([0, 1]), reduction="none", class_weight=weight)
    torch.testing.assert_close(weighted, plain * weight)


@pytest.mark.parametrize(
    "loss",
    [
        SigmoidCrossEntropy(),
        SquaredError(2.0, 3.0),
        LabelSmoothing(0.3, SigmoidCrossEntropy()),
        LogitPenalty(0.2, LabelSmoothing(0.3, SquaredError(2.0, 3.0))),
    ],
    ids=repr,
)
def test_class_weight_multiplies_the_whole_sample(loss: Loss) -> None:
    logits, weight = torch.randn(2, 3, dtype=torch.float64), torch.tensor([1.0, 5.0, 2.0], dtype=torch.float64)
    options = {"reduction": "none", "class_weight": weight}
    plain = loss(logits, torch.tensor([1, 2]), reduction="none")
    torch.testing.assert_close(loss(logits, torch.tensor([1, 2]), **options), plain * weight[1:])
    soft = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    expected = loss(logits, soft, reduction="none") * torch.tensor([3.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(loss(logits, soft, **options), expected)


@pytest.mark.parametrize("loss", ALL, ids=repr)
def test_autocast_changes_nothing(loss: Loss) -> None:
    logits, soft, weight = torch.randn(6, 4), torch.randn(6, 4).softmax(-1), torch.rand(4) + 0.5
    expected = loss(logits, soft, class_weight=weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(loss(logits, soft, class_weight=weight), expected, rtol=0, atol=0)


class Hard(Loss):
    """A loss of class indices only."""

    soft_targets = False

    def per_sample(
        self, logits: torch.Tensor, target: torch.Tensor, class_weight: torch.Tensor | None = None
    ) -> torch.Tensor:
        assert class_weight is None
        return -logits.gather(-1, target.unsqueeze(-1)).squeeze(-1)


def test_a_loss_of_class_indices_only_says_so() -> None:
    logits = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    assert Hard()(logits, torch.tensor([0, 1])).item() == -3.0
    assert Hard()(logits, torch.tensor([0, 1]), class_weight=torch.tensor([1.0, 3.0])).item() == -4.0
    with pytest.raises(InputError, match="Hard takes class indices only"):
        Hard()(logits, logits.softmax(-1))
    with pytest.raises(ParameterError, match="Hard takes class indices only"):
        LabelSmoothing(0.1, Hard())
    with pytest.raises(InputError, match="class indices only"):
        LogitPenalty(0.1, Hard())(logits, logits.softmax(-1))


def test_a_class_weight_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(InputError, match=r"class weight of shape \[3\]. Got \[7\]"):
        SoftmaxCrossEntropy()(torch.zeros(1, 3), torch.tensor([0]), class_weight=torch.ones(7))


def test_links() -> None:
    assert [loss.link for loss in ALL] == [
        "softmax", "normalized_sigmoid", "none", "softmax", "softmax", "normalized_sigmoid",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LabelSmoothing(3), r"The 'alpha' parameter of LabelSmoothing must be a float in the range \[0, 1\)"),
        (lambda: LogitPenalty(-1.0), "The 'beta' parameter of LogitPenalty"),
        (lambda: SquaredError(0.0, -1.0), "(?s)'target_weight'.*'target_value'"),
    ],
)
def test_ranges(build, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ParameterError, match=message):
        build()


def test_targets_are_checked() -> None:
    with pytest.raises(InputError, match="Got 4"):
        SoftmaxCrossEntropy()(torch.zeros(1, 3), torch.tensor([4]))


def test_repr_shows_the_numbers() -> None:
    assert "alpha=0.2" in repr(ALL[-1])
    assert "beta=0.01" in repr(ALL[-1])
    assert "target_weight=9.0" in repr(ALL[2])
