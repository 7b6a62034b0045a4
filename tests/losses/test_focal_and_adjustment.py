"""Focal loss and logit adjustment as modules: what they share with every loss, and what only they do."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch.nn import functional as F

from logitlab.config.errors import InputError, ParameterError
from logitlab.losses import FocalLoss, LabelSmoothing, LogitAdjustment, LogitPenalty, Loss, SigmoidCrossEntropy

COUNTS = [90, 30, 8, 1]
ALL: list[Loss] = [
    FocalLoss(),
    FocalLoss(0.5),
    LogitAdjustment(),
    LogitAdjustment(COUNTS),
    LogitAdjustment(COUNTS, 0.5, FocalLoss(1.0)),
    LabelSmoothing(0.2, LogitAdjustment(COUNTS, 2.0)),
    LogitPenalty(0.1, LabelSmoothing(0.1, FocalLoss())),
]


@pytest.mark.parametrize("loss", ALL, ids=repr)
def test_the_contract_of_a_loss(loss: Loss) -> None:
    logits, target = torch.randn(9, 4, dtype=torch.float64), torch.randint(4, (9,))
    values = loss(logits, target, reduction="none")
    torch.testing.assert_close(loss(logits, target), values.mean())
    torch.testing.assert_close(loss(logits, target, reduction="sum"), values.sum())
    one_hot = F.one_hot(target, 4).double()
    torch.testing.assert_close(loss(logits, one_hot, reduction="none"), values)
    weight = torch.tensor([1.0, 3.0, 0.5, 2.0], dtype=torch.float64)
    torch.testing.assert_close(
        loss(logits, one_hot, class_weight=weight, reduction="none"),
        loss(logits, target, class_weight=weight, reduction="none"),
    )
    # Linear in the target: what label smoothing relies on.
    soft, other = torch.randn(9, 4).softmax(-1).double(), torch.randn(9, 4).softmax(-1).double()
    mixed = loss(logits, 0.3 * soft + 0.7 * other, reduction="none")
    expected = 0.3 * loss(logits, soft, reduction="none") + 0.7 * loss(logits, other, reduction="none")
    torch.testing.assert_close(mixed, expected)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, torch.tensor([0, 2, -100, 1, 3, 3, 0, 1, 2])), logits)


@pytest.mark.parametrize("loss", ALL, ids=repr)
def test_a_margin_of_zero_changes_nothing(loss: Loss) -> None:
    if isinstance(loss, (LabelSmoothing, LogitPenalty)):
        pytest.skip("refused in words, as every loss but plain softmax")
    logits, soft = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64).softmax(-1)
    torch.testing.assert_close(loss(logits, soft, target_logits=logits), loss(logits, soft))
    target, lowered = torch.tensor([0, 1, 2, 3, 1]), logits - 0.4
    of_target = lowered.gather(1, target[:, None])[:, 0]
    one_hot = F.one_hot(target, 4).double()
    torch.testing.assert_close(
        loss(logits, one_hot, target_logits=lowered), loss(logits, target, target_logits=of_target)
    )


def test_adjustment_is_softmax_of_shifted_logits() -> None:
    logits, target = torch.randn(9, 4), torch.randint(4, (9,))
    shifted = logits + 1.5 * (torch.tensor(COUNTS) / 129).log()
    torch.testing.assert_close(LogitAdjustment(COUNTS, 1.5)(logits, target), F.cross_entropy(shifted, target))
    plain = F.cross_entropy(logits, target)
    torch.testing.assert_close(LogitAdjustment()(logits, target), plain)
    torch.testing.assert_close(LogitAdjustment([7, 7, 7, 7])(logits, target), plain)


def test_adjusted_training_ranks_for_the_balanced_error() -> None:
    """Two classes nine to one that only a noisy bit tells apart: the plain posterior never says the rare class."""
    # The bit is right with probability 0.8. P(rare | bit) = 0.2·... : 0.08 of 0.26 for the rare class.
    features = torch.tensor([[1.0, 0.0]] * 72 + [[0.0, 1.0]] * 18 + [[1.0, 0.0]] * 2 + [[0.0, 1.0]] * 8)
    target = torch.tensor([0] * 90 + [1] * 10)

    def trained(loss: Loss) -> torch.Tensor:
        weight = torch.zeros(2, 2, requires_grad=True)
        optimizer = torch.optim.LBFGS([weight], max_iter=100, line_search_fn="strong_wolfe")

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            value = loss(features @ weight, target)
            value.backward()
            return value

        optimizer.step(closure)
        return weight.detach()

    assert trained(LogitAdjustment()).argmax(1).tolist() == [0, 0]
    adjusted = trained(LogitAdjustment([90, 10]))
    assert adjusted.argmax(1).tolist() == [0, 1]
    # Probabilities of balanced data: 0.8 either way.
    torch.testing.assert_close(adjusted.softmax(1).diagonal(), torch.tensor([0.8, 0.8]), rtol=1e-3, atol=1e-3)


def test_the_prior_is_saved_copied_and_restored() -> None:
    loss = LogitAdjustment(COUNTS)
    buffer = io.BytesIO()
    torch.save(loss.state_dict(), buffer)
    buffer.seek(0)
    assert list(loss.state_dict()) == ["log_prior"]
    other = LogitAdjustment([1, 1, 1, 2])
    other.load_state_dict(torch.load(buffer, weights_only=True))
    for copied in (other, copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert copied.log_prior is not None
        assert copied.log_prior.exp().tolist() == pytest.approx([n / 129 for n in COUNTS])
    with torch.device("meta"):
        built = LogitAdjustment(COUNTS)
    assert built.log_prior is not None
    built.to_empty(device="cpu").log_prior.fill_(7)
    built.reset_parameters()
    assert torch.equal(built.log_prior, loss.log_prior)
    assert not LogitAdjustment().state_dict()


def test_what_means_nothing_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"range \[0, inf\)") as caught:
        LogitAdjustment([1, 0], -1, SigmoidCrossEntropy())
    assert len(caught.value.faults) == 3
    assert "SigmoidCrossEntropy is another loss" in str(caught.value)
    with pytest.raises(ParameterError, match="'gamma' parameter of FocalLoss"):
        FocalLoss(-0.1)
    with pytest.raises(InputError, match="counts of 4 classes. These logits have 3"):
        LogitAdjustment(COUNTS)(torch.zeros(1, 3), torch.tensor([0]))
