"""One epoch: its statistics, its random streams, and what stops it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from logitlab.config.errors import TrialError
from logitlab.config.training import TrainingConfig
from logitlab.heads import Classifier, Head, create_head
from logitlab.training import Trainer, WeightAverage, create_optimizer, create_schedule, validate


def make_trainer(model=None, *, steps=4, average=None, seed=0, **values):
    model = model or Classifier(nn.Flatten(), create_head("softmax", 4, 3))
    config = TrainingConfig(**({"epochs": 2, "warmup_epochs": 0, "weight_decay": 0.0, "momentum": 0.0} | values))
    optimizer = create_optimizer(model, config)
    schedule = create_schedule(optimizer, config, steps)
    kept = None if average is None else WeightAverage(model, average)
    return Trainer(model, optimizer, schedule, config, average=kept, seed=seed, name="mine")


def batches(sizes=(6, 6, 4), scale=1.0):
    generator = torch.Generator().manual_seed(1)
    return [
        (scale * torch.rand(size, 1, 2, 2, generator=generator), torch.randint(3, (size,), generator=generator))
        for size in sizes
    ]


def test_statistics_weigh_images_alike():
    # With a learning rate of nearly nothing the model stands still, and the means are those over all images.
    trainer = make_trainer(learning_rate=1e-12)
    data = batches((6, 6, 2))
    learnt = trainer.epoch(data, 0)
    images, labels = (torch.cat(part) for part in zip(*data, strict=True))
    logits = nn.functional.linear(images.flatten(1), trainer.model.head.weight, trainer.model.head.bias)
    assert learnt.loss == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-6)
    assert learnt.accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    measured = validate(trainer.model, data)
    assert measured.loss == pytest.approx(learnt.loss, rel=1e-6)
    assert measured.accuracy == pytest.approx(learnt.accuracy)


def test_one_step_equals_the_step_by_hand():
    trainer = make_trainer(learning_rate=0.5)
    head = trainer.model.head
    weight, bias = (p.detach().clone().requires_grad_() for p in (head.weight, head.bias))
    (images, labels), *_ = batches()
    trainer.epoch([(images, labels)], 0)
    loss = nn.functional.cross_entropy(nn.functional.linear(images.flatten(1), weight, bias), labels)
    gradients = torch.autograd.grad(loss, (weight, bias))
    assert torch.allclose(head.weight, weight - 0.5 * gradients[0])
    assert torch.allclose(head.bias, bias - 0.5 * gradients[1])


def test_clipping_bounds_the_step():
    trainer = make_trainer(learning_rate=1.0, clip_gradient_norm=1e-3)
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.epoch(batches((6,), scale=100.0), 0)
    moved = torch.cat([(p - q).flatten() for p, q in zip(trainer.model.parameters(), before, strict=True)])
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_the_schedule_moves_at_every_step():
    trainer = make_trainer(schedule="cosine", learning_rate=0.1)
    trainer.epoch(batches((2, 2, 2, 2)), 0)
    # 4 of 8 steps: half of the rate.
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.05)


def test_the_average_moves_at_every_step():
    trainer = make_trainer(average=0.0, learning_rate=0.1)
    trainer.epoch(batches(), 0)
    assert torch.equal(trainer.average.model.head.weight, trainer.model.head.weight)


class Recorder(Head):
    """Keeps the targets that it is given."""

    def forward(self, features, target=None, **options):
        self.seen = (features.detach(), target)
        return super().forward(features, target, **options)


def test_mixup_mixes_images_and_targets_alike():
    trainer = make_trainer(Classifier(nn.Flatten(), Recorder(4, 3)), mixup=0.4)
    images = torch.eye(4).view(4, 1, 2, 2)
    learnt = trainer.epoch([(images, torch.tensor([0, 1, 2, 0]))], 0)
    features, target = trainer.model.head.seen
    share = features[0, 0].item()
    assert 0 < share < 1
    assert features[0].tolist() == pytest.approx([share, 0, 0, 1 - share])
    assert target[1].tolist() == pytest.approx([1 - share, share, 0])
    assert target.sum(1).tolist() == pytest.approx([1, 1, 1, 1])
    assert 0 <= learnt.accuracy <= 1


def test_bfloat16_reaches_the_backbone_and_not_the_head():
    kinds = []
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(4, 5))
    backbone.register_forward_hook(lambda module, inputs, out: kinds.append(out.dtype))
    trainer = make_trainer(Classifier(backbone, Recorder(5, 3)), precision="bfloat16")
    trainer.epoch(batches((4,)), 0)
    assert kinds == [torch.bfloat16]
    assert trainer.model.head.seen[0].dtype == torch.bfloat16
    assert trainer.model(torch.rand(2, 1, 2, 2)).dtype == torch.float32
    validate(trainer.model, batches((4,)), autocast=True)
    assert kinds[-1] == torch.bfloat16
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters())


@pytest.mark.parametrize("bad_step", [0, 2, 61])
def test_a_loss_that_is_not_finite_names_head_epoch_and_step(bad_step):
    trainer = make_trainer(learning_rate=0.25)
    data = batches((2,) * 70)
    data[bad_step][0].fill_(float("nan"))
    with pytest.raises(TrialError) as caught:
        trainer.epoch(data, 3)
    assert str(caught.value) == (
        f"The loss of the head 'mine' is nan at epoch 4, step {bad_step + 1}. "
        "Lower learning_rate (0.25 now), set clip_gradient_norm, or warm up longer."
    )


def test_the_advice_knows_that_gradients_are_clipped():
    trainer = make_trainer(clip_gradient_norm=2.0)
    with pytest.raises(TrialError, match=r"lower clip_gradient_norm \(2 now\)"):
        trainer.epoch([(torch.full((2, 1, 2, 2), float("inf")), torch.tensor([0, 1]))], 0)


def test_no_batches():
    with pytest.raises(TrialError, match="nothing to train on"):
        make_trainer().epoch([], 0)


def test_dropout_of_the_backbone_is_the_same_whatever_the_head_draws():
    seen = {}
    for keep in (1.0, 0.5):
        dropout = nn.Dropout(0.5)
        masks = seen[keep] = []
        dropout.register_forward_hook(lambda module, inputs, out, masks=masks: masks.append(out != 0))
        model = Classifier(nn.Sequential(nn.Flatten(), dropout), create_head("softmax", 4, 3, keep_probability=keep))
        make_trainer(model).epoch(batches((6, 6, 6)), 0)
    assert all(torch.equal(a, b) for a, b in zip(seen[1.0], seen[0.5], strict=True))
    assert not torch.equal(seen[1.0][0], seen[1.0][1])


def test_validation_leaves_no_trace_and_measures_kappa_star():
    model = Classifier(nn.Flatten(), create_head("cosine_ls", 4, 3)).train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    data = batches()
    measured = validate(model, data)
    assert not model.training
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    expected = torch.cat([model.head.kappa_star(images.flatten(1)) for images, _ in data]).mean().item()
    assert measured.kappa_star == pytest.approx(expected, rel=1e-6)
