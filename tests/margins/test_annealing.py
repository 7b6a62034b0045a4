"""λ falls with the optimiser's steps, and with nothing else."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import Tensor, nn

import logitlab as ll
from logitlab.heads import Classifier, Head, create_head
from logitlab.margins import Annealing, MultiplicativeAngularMargin

C, D = 4, 3


def head_with(start: float = 8.0, gamma: float = 1.0, power: float = 1.0, minimum: float = 0.5) -> Head:
    schedule = {"start": start, "gamma": gamma, "power": power, "minimum": minimum}
    return create_head("lsoftmax", D, C, margin=3, annealing=schedule)


def annealing_of(head: Head) -> Annealing:
    assert isinstance(head.margin, MultiplicativeAngularMargin)
    assert head.margin.annealing is not None
    return head.margin.annealing


def steps(head: Head) -> int:
    return int(annealing_of(head).steps)


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(6, D), torch.randint(C, (6,))


def test_lambda_by_hand() -> None:
    annealing = Annealing(start=8.0, gamma=1.0, power=2.0, minimum=0.3)
    found = [annealing.weight.item()] + [annealing.advance().weight.item() for _ in range(6)]
    assert found == pytest.approx([8, 2, 8 / 9, 0.5, 0.32, 0.3, 0.3])
    assert annealing.weight.dtype == torch.float64
    # The slides' 0.1, 0.01, 0.001.
    default = Annealing()
    for passed, weight in ((0, 0.1), (900, 0.01), (9900, 0.001), (10**6, 0.001)):
        default.steps.fill_(passed)
        assert default.weight.item() == pytest.approx(weight)
    # The schedule of SphereFace's published code.
    published = create_head("sphereface", D, C)
    assert annealing_of(published).weight == 1000
    annealing_of(published).steps.fill_(10)
    assert annealing_of(published).weight.item() == pytest.approx(1000 / 2.2)


def test_it_advances_a_step_of_the_optimiser_and_not_a_forward() -> None:
    head = head_with()
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    for done in range(3):
        for _ in range(4):  # gradient accumulation
            head(*batch()).backward()
        head(*batch())  # a second look
        head.eval()
        head(*batch())
        head.train()
        assert steps(head) == done
        optimizer.step()
        optimizer.zero_grad()
        assert steps(head) == done + 1
    assert annealing_of(head).weight.item() == pytest.approx(2)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.LBFGS])
def test_any_optimiser_of_torch_moves_it(kind: type[torch.optim.Optimizer]) -> None:
    model = Classifier(nn.Linear(D, D), head_with())
    optimizer = kind(model.parameters(), lr=0.01)
    images, target = batch()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = model(images, target)
        loss.backward()
        return loss

    for _ in range(2):
        optimizer.step(closure)
    assert steps(model.head) == 2


def test_an_optimiser_of_other_parameters_does_not_move_it() -> None:
    backbone, head = nn.Linear(D, D), head_with()
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1)
    images, target = batch()
    head(backbone(images), target).backward()
    optimizer.step()
    assert steps(head) == 0


def test_a_constant_lambda_has_nothing_to_advance() -> None:
    head = create_head("lsoftmax", D, C, annealing=2.0)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    head(*batch()).backward()
    optimizer.step()
    assert (steps(head), annealing_of(head).weight.item()) == (0, 2)


def test_a_step_that_the_scaler_skips_does_not_move_it() -> None:
    head = head_with()
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for poison, expected in ((1.0, 1), (float("inf"), 1), (1.0, 2)):
        optimizer.zero_grad()
        scaler.scale(head(*batch())).backward()
        assert head.weight.grad is not None
        head.weight.grad *= poison
        scaler.step(optimizer)
        scaler.update()
        assert steps(head) == expected


def test_it_is_saved_and_loaded_with_the_model() -> None:
    head, other = head_with(), head_with()
    annealing_of(head).advance().advance()
    assert "margin.annealing.steps" in head.state_dict()
    other.load_state_dict(head.state_dict())
    assert steps(other) == 2
    assert annealing_of(other).weight == annealing_of(head).weight
    features, target = batch()
    assert other(features, target) == head(features, target)
    # A head for other classes begins again.
    assert steps(head.for_classes(7)) == 0


def test_a_copy_follows_its_own_optimiser() -> None:
    head = head_with()
    annealing_of(head).advance()
    for other in (copy.deepcopy(head), pickle.loads(pickle.dumps(head))):
        before = steps(head)
        assert steps(other) == 1
        for moved, expected in ((other, (before, 2)), (head, (before + 1, 2))):
            optimizer = torch.optim.SGD(moved.parameters(), lr=0.1)
            moved(*batch()).backward()
            optimizer.step()
            assert (steps(head), steps(other)) == expected


def test_two_heads_of_one_optimiser_advance_together_and_a_dead_one_is_forgotten() -> None:
    first, second = head_with(), head_with()
    optimizer = torch.optim.SGD([*first.parameters(), *second.parameters()], lr=0.1)
    features, target = batch()
    (first(features, target) + second(features, target)).backward()
    optimizer.step()
    assert (steps(first), steps(second)) == (1, 1)
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None  # nothing keeps a head alive for its annealing
    optimizer.step()
    assert steps(second) == 2


def test_two_forwards_and_a_step_of_lambda_before_one_backward() -> None:
    head = head_with()
    parts = [batch(), batch()]
    expected = []
    for done, part in enumerate(parts):
        annealing_of(head).steps.fill_(done)
        expected.append(torch.autograd.grad(head(*part), head.weight)[0])
    annealing_of(head).steps.zero_()
    first = head(*parts[0])
    annealing_of(head).advance()
    (first + head(*parts[1])).backward()
    torch.testing.assert_close(head.weight.grad, expected[0] + expected[1])
    assert not torch.allclose(expected[0], torch.autograd.grad(head(*parts[0]), head.weight)[0])


def test_training_moves_the_loss_from_softmax_towards_the_margin() -> None:
    features, target = batch()
    head = head_with(start=1e9, gamma=1.0, power=3.0, minimum=0.0)
    softmax = nn.functional.cross_entropy(head(features), target)
    torch.testing.assert_close(head(features, target), softmax, rtol=1e-5, atol=0)
    bare = create_head("lsoftmax", D, C, margin=3, annealing=None)
    bare.load_state_dict(head.state_dict(), strict=False)
    annealing_of(head).steps.fill_(10**7)
    torch.testing.assert_close(head(features, target), bare(features, target))
    assert head(features, target) > softmax


def test_a_fused_optimiser_that_skips_a_step_does_not_move_it() -> None:
    head = ll.create_head("lsoftmax", 4, 3)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1, fused=True)
    scaler = torch.amp.GradScaler("cpu")
    steps = []
    for factor in (1.0, float("inf"), 1.0):
        optimizer.zero_grad()
        scaler.scale(head(torch.ones(2, 4), torch.tensor([0, 1])) * factor).backward()
        scaler.step(optimizer)
        scaler.update()
        steps.append(int(head.margin.annealing.steps))
    assert steps == [1, 1, 2]


def test_a_margin_that_two_heads_share_moves_once() -> None:
    margin = ll.MultiplicativeAngularMargin(2, ll.Annealing())
    heads = torch.nn.ModuleList(ll.Head(4, 3, margin=margin) for _ in range(2))
    optimizer = torch.optim.SGD(heads.parameters(), lr=0.1)
    sum(head(torch.ones(2, 4), torch.tensor([0, 1])) for head in heads).backward()
    optimizer.step()
    assert int(margin.annealing.steps) == 1


def test_a_parametrized_weight_moves_it_too() -> None:
    head = ll.create_head("lsoftmax", 4, 3)
    torch.nn.utils.parametrizations.weight_norm(head, "weight")
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    head(torch.ones(2, 4), torch.tensor([0, 1])).backward()
    optimizer.step()
    assert int(head.margin.annealing.steps) == 1


def test_a_margin_that_is_set_later_follows_as_well() -> None:
    head = ll.Head(4, 3)
    head.set_margin(ll.MultiplicativeAngularMargin(2, ll.Annealing()))
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    head(torch.ones(2, 4), torch.tensor([0, 1])).backward()
    optimizer.step()
    assert int(head.margin.annealing.steps) == 1
    with pytest.raises(ll.ParameterError, match="lowers a cosine"):
        head.set_margin(ll.AdditiveAngularMargin())
    with pytest.raises(ll.ParameterError, match="Expected a margin"):
        head.set_margin(0.5)
