"""The contract of a head: shapes, reductions, numerics, state."""

from __future__ import annotations

import copy
import io
import math
import pickle
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from torch.nn import functional as F

from logitlab.config.errors import InputError, ParameterError
from logitlab.functional import equiangular_kappa, least_squares_kappa
from logitlab.heads import CosineHead, Head, create_head, list_heads
from logitlab.losses import Loss
from logitlab.temperature import Fixed, LeastSquares, Trainable

D, C = 6, 4
NAMES = [name for name in list_heads() if name != "doctest_example"]
#: What has no default, or none that fits D.
EXTRA: dict[str, dict[str, Any]] = {"squared_error": {"preset": "cifar100"}, "group_softmax": {"groups": 2}}


def make(name: str, in_features: int = D, num_classes: int = C, **parameters: Any) -> Head:
    return create_head(name, in_features, num_classes, **EXTRA.get(name, {}), **parameters)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("leading", [(5,), (2, 3), ()])
def test_shapes(name: str, leading: tuple[int, ...]) -> None:
    head = make(name)
    features, target = torch.randn(*leading, D), torch.randint(C, leading)
    assert head(features).shape == (*leading, C)
    assert head(features, target).shape == ()
    assert head(features, target, reduction="none").shape == leading
    loss, logits = head(features, target, return_logits=True)
    assert loss.shape == ()
    assert logits.shape == (*leading, C)
    assert head.predict(features).shape == leading
    assert head.max_logit(features).shape == leading
    torch.manual_seed(1)
    expected = head(features, target)
    torch.manual_seed(1)
    torch.testing.assert_close(head.loss(features, target), expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("soft", [False, True])
def test_mean_is_the_mean_of_none_penalties_included(name: str, soft: bool) -> None:
    head = make(name, weight_penalty=0.3).eval()
    features = torch.randn(7, D)
    target = torch.randn(7, C).softmax(-1) if soft else torch.randint(C, (7,))
    values = head(features, target, reduction="none")
    torch.testing.assert_close(head(features, target), values.mean())
    torch.testing.assert_close(head(features, target, reduction="sum"), values.sum())
    bare = make(name).eval()
    bare.load_state_dict(head.state_dict())
    if name != "final_l2":
        penalty = 0.15 * head.weight.square().sum()
        torch.testing.assert_close(values, bare(features, target, reduction="none") + penalty)


@pytest.mark.parametrize("name", NAMES)
def test_gradcheck_with_kappa_frozen(name: str) -> None:
    head = make(name, dtype=torch.float64).eval()
    kappa = {"kappa": torch.tensor([3.0, 9.0, 2.0], dtype=torch.float64)} if head.temperature is not None else {}
    target = torch.tensor([0, 3, 1])

    def loss(features: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(head, {"weight": weight}, (features, target), {**kappa, "reduction": "none"})

    features = torch.randn(3, D, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (features, head.weight.detach().clone().requires_grad_()))


@pytest.mark.parametrize("name", NAMES)
def test_class_weight_divides_as_torch_does(name: str) -> None:
    weight = torch.tensor([1.0, 2.0, 0.5, 4.0])
    head, bare = make(name, class_weight=weight).eval(), make(name).eval()
    bare.load_state_dict({key: value for key, value in head.state_dict().items() if key != "class_weight"})
    features, target = torch.randn(9, D), torch.randint(C, (9,))
    target[2] = -100
    if name == "label_smoothing":
        expected = F.cross_entropy(head(features), target, weight, label_smoothing=0.1) / 0.9
    else:
        values = bare(features, target, reduction="none")
        own = weight[target.clamp_min(0)] * (target != -100)
        expected = (values * own).sum() / own.sum()
    torch.testing.assert_close(head(features, target), expected)


def test_softmax_head_is_torchs_linear_and_cross_entropy() -> None:
    head = create_head("softmax", D, C, class_weight=[1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    features = torch.randn(8, D, dtype=torch.float64)
    logits = F.linear(features, head.weight, head.bias)
    torch.testing.assert_close(head(features), logits)
    for target in (torch.randint(C, (8,)), torch.randn(8, C, dtype=torch.float64).softmax(-1)):
        for reduction in ("mean", "sum", "none"):
            assert head.class_weight is not None
            expected = F.cross_entropy(logits, target, head.class_weight.double(), reduction=reduction)
            torch.testing.assert_close(head(features, target, reduction=reduction), expected)


@pytest.mark.parametrize("name", NAMES)
def test_an_ignored_sample_counts_for_nothing(name: str) -> None:
    head = make(name).eval()
    features, target = torch.randn(4, D), torch.tensor([0, 1, 2, 3])
    masked = torch.tensor([0, 1, -100, 3])
    kept = torch.tensor([0, 1, 3])
    torch.testing.assert_close(head(features, masked), head(features[kept], target[kept]))
    assert head(features, masked, reduction="none")[2].item() == 0.0


def test_ignore_index_can_be_chosen() -> None:
    head = create_head("softmax", D, C, ignore_index=255)
    features = torch.randn(2, D)
    torch.testing.assert_close(head(features, torch.tensor([1, 255])), head(features[:1], torch.tensor([1])))


@pytest.mark.parametrize("name", NAMES)
def test_empty_batch(name: str) -> None:
    head = make(name)
    features = torch.empty(0, D, requires_grad=True)
    loss = head(features, torch.empty(0, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0.0
    for parameter in head.parameters():
        assert parameter.grad is not None
        assert not parameter.grad.any()
    assert head(features, torch.empty(0, C)).item() == 0.0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("case", ["zero", "aligned", "opposite", "huge", "tiny", "duplicate"])
def test_extreme_features_stay_finite(name: str, dtype: torch.dtype, case: str) -> None:
    head = make(name)
    features = torch.randn(C, D).to(dtype)
    with torch.no_grad():
        if case == "zero":
            features[0] = 0
        elif case in ("aligned", "opposite"):
            features = (head.weight[:: head.centers] * (3 if case == "aligned" else -3)).to(dtype)
        elif case == "huge":
            features = features / features.abs().max() * (6e4 if dtype == torch.float16 else 1e15)
        elif case == "tiny":
            # The gradient of a direction is 1/‖x‖ large; below 1e-3 float16 cannot hold κ/‖x‖.
            features = features / features.abs().max() * (1e-3 if dtype == torch.float16 else 1e-12)
        else:
            head.weight[1] = head.weight[0]
    features.requires_grad_()
    loss = head(features, torch.arange(C))
    loss.backward()
    assert loss.isfinite()
    assert loss.dtype == torch.float32
    assert head(features).dtype == torch.float32
    assert head.weight.grad is not None
    assert head.weight.grad.isfinite().all()
    assert head.weight.dtype == torch.float32
    assert features.grad is not None
    if not (case == "huge" and dtype == torch.float16):  # a squared error of 6e4 has no gradient in float16
        assert features.grad.isfinite().all()
    if case == "zero" and head.classifier == "cosine":
        assert features.grad[0].tolist() == [0.0] * D


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_classes", [1, 2])
def test_one_and_two_classes(name: str, num_classes: int) -> None:
    head = make(name, num_classes=num_classes)
    loss = head(torch.randn(3, D), torch.zeros(3, dtype=torch.long))
    loss.backward()
    assert loss.isfinite()
    assert head.weight.grad is not None
    assert head.weight.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_permuting_the_classes_permutes_everything(name: str) -> None:
    head, order = make(name, dtype=torch.float64).eval(), torch.tensor([2, 0, 3, 1])
    permuted = copy.deepcopy(head)
    with torch.no_grad():
        permuted.weight.copy_(head.weight.unflatten(0, (C, head.centers))[order].flatten(0, 1))
        if permuted.bias is not None and head.bias is not None:
            permuted.bias.copy_(head.bias[order])
    features, target = torch.randn(5, D, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 1])
    torch.testing.assert_close(permuted(features), head(features)[:, order])
    inverse = order.argsort()
    torch.testing.assert_close(permuted(features, inverse[target]), head(features, target))


@pytest.mark.parametrize("name", NAMES)
def test_autocast_changes_nothing(name: str) -> None:
    head = make(name).eval()
    features, target = torch.randn(5, D), torch.randint(C, (5,))
    expected, cosine = head(features, target), head.cosine(features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(head(features, target), expected, rtol=0, atol=0)
        assert head(features).dtype == torch.float32
        torch.testing.assert_close(head.cosine(features), cosine, rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_deepcopy_and_pickle(name: str) -> None:
    head = make(name)
    features, target = torch.randn(5, D), torch.randint(C, (5,))
    for _ in range(3):
        head(features, target).backward()  # moves the running mean of κ
    head.eval()
    expected = head(features)
    other = make(name).eval()
    buffer = io.BytesIO()
    torch.save(head.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    for copied in (other, copy.deepcopy(head), pickle.loads(pickle.dumps(head))):
        torch.testing.assert_close(copied(features), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_compiles_into_one_graph(name: str) -> None:
    torch._dynamo.reset()  # one code object serves all heads here: do not count the others as recompilations
    head = make(name, keep_probability=1.0)
    features, target = torch.randn(5, D), torch.randint(C, (5,))
    compiled = torch.compile(copy.deepcopy(head), fullgraph=True, backend="aot_eager")
    expected, actual = head(features, target), compiled(features, target)
    torch.testing.assert_close(actual, expected)
    actual.backward()
    expected.backward()
    if isinstance(head.temperature, LeastSquares):  # the running mean moved inside the graph too
        torch.testing.assert_close(compiled.temperature.mean.value, head.temperature.mean.value)
        assert head.temperature.mean.value.item() != pytest.approx(equiangular_kappa(C))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_waits_for_the_device(name: str) -> None:
    # On the meta device there are no values: looking at one raises, as it would stall a GPU.
    head = make(name, device="meta")
    features = torch.empty(5, D, device="meta", requires_grad=True)
    head(features, torch.empty(5, dtype=torch.long, device="meta")).backward()
    assert features.grad is not None


@pytest.mark.parametrize("name", NAMES)
def test_two_forwards_before_one_backward(name: str) -> None:
    head = make(name)
    features, target = torch.randn(4, D), torch.randint(C, (4,))
    (head(features, target) + head(features * 2, target)).backward()
    head.eval()
    in_eval = head(features, target)
    head.train()
    head(features, target)  # moves the mean that the graph above scaled by
    in_eval.backward()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "dropout"])
def test_one_sample_at_a_time_equals_the_batch(name: str) -> None:
    head = make(name, dtype=torch.float64)
    features, target = torch.randn(4, D, dtype=torch.float64), torch.randint(C, (4,))
    together = head(features, target, reduction="none")
    alone = torch.stack([head(features[i], target[i], reduction="none") for i in range(4)])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_per_sample_gradients_by_torch_func(name: str, weighted: bool, soft: bool) -> None:
    head = make(name, class_weight=[1.0, 2.0, 0.5, 4.0] if weighted else None, keep_probability=1.0)
    features = torch.randn(3, D)
    target = torch.randn(3, C).softmax(-1) if soft else torch.tensor([0, 1, 2])

    def loss(weight: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(head, {"weight": weight}, (x, y), {"reduction": "sum"})

    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(head.weight.detach(), features, target)
    head(features, target, reduction="sum").backward()
    torch.testing.assert_close(gradients.sum(0), head.weight.grad, rtol=1e-4, atol=1e-5)


def test_per_sample_gradients_by_torch_func_leave_the_running_mean_alone() -> None:
    head = create_head("cosine_ls", D, C)
    before = head.kappa
    features, target = torch.randn(3, D), torch.tensor([0, 1, 2])

    def loss(weight: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(head, {"weight": weight}, (x, y))

    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(head.weight.detach(), features, target)
    assert gradients.shape == (3, C, D)
    assert head.kappa is not None
    assert before is not None
    assert head.kappa.item() == before.item()
    head(features, target).backward()
    torch.testing.assert_close(gradients.mean(0), head.weight.grad)


def test_training_scales_by_each_sample_and_eval_by_the_running_mean() -> None:
    head = create_head("cosine_2ls", D, C)
    features, target = torch.randn(5, D), torch.randint(C, (5,))
    start = equiangular_kappa(C)
    star = least_squares_kappa(features, head.weight)
    _, logits = head(features, target, return_logits=True)
    torch.testing.assert_close(logits, 2 * star[:, None] * head.cosine(features))
    mean = 0.9 * start + 0.1 * star.mean().item()
    head.eval()
    torch.testing.assert_close(head(features), 2 * mean * head.cosine(features))
    assert head.kappa is not None
    assert head.kappa.item() == pytest.approx(2 * mean, rel=1e-6)
    torch.testing.assert_close(head.kappa_star(features), star)


def test_inference_can_keep_the_search() -> None:
    head = create_head("cosine_ls", D, C, inference_kappa="per_sample").eval()
    features = torch.randn(5, D)
    expected = least_squares_kappa(features, head.weight)[:, None] * head.cosine(features)
    torch.testing.assert_close(head(features), expected)


def test_the_search_sees_no_bias() -> None:
    head = create_head("cosine_ls", D, C, bias=True)
    features = torch.randn(5, D)
    before = head.kappa_star(features)
    with torch.no_grad():
        assert head.bias is not None
        head.bias.copy_(torch.tensor([100.0, 0.0, -50.0, 3.0]))
    assert torch.equal(head.kappa_star(features), before)


def test_kappa_can_be_overridden_for_a_call() -> None:
    head = create_head("cosine_ls", D, C)
    features = torch.randn(3, D)
    torch.testing.assert_close(head(features, kappa=7.0), 7 * head.cosine(features))
    each = torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(head(features, kappa=each), each[:, None] * head.cosine(features))
    torch.testing.assert_close(head(features, kappa=torch.tensor(4.0)), 4 * head.cosine(features))
    with pytest.raises(InputError, match=r"'kappa' as a number or of shape \[3\]. Got \[2\]"):
        head(features, kappa=torch.ones(2))
    with pytest.raises(InputError, match="without a temperature"):
        create_head("softmax", D, C)(features, kappa=3.0)
    for wrong in (-3.0, math.nan, 0):
        with pytest.raises(InputError, match="positive, finite number"):
            head(features, kappa=wrong)


def test_temperature_can_be_replaced() -> None:
    head = CosineHead(D, C, temperature=LeastSquares())
    head.set_temperature(Fixed(kappa=25))
    assert head.kappa is not None
    assert head.kappa.item() == 25.0
    head.set_temperature(Trainable())
    assert [name for name, _ in head.named_parameters()] == ["weight", "temperature.log_kappa"]
    with pytest.raises(ParameterError, match=r"such as Fixed\(kappa=25\)"):
        head.set_temperature(25)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="does not suit this head"):
        create_head("softmax", D, C).set_temperature(Fixed(3))
    with pytest.raises(ParameterError, match="does not suit this head"):
        create_head("logit_norm", D, C).set_temperature(LeastSquares())


def test_a_trainable_temperature_learns_from_the_loss() -> None:
    head = create_head("cosine", D, C, temperature="trainable", kappa=5.0, bias=False)
    features, target = torch.randn(6, D), torch.randint(C, (6,))
    head(features, target).backward()
    assert isinstance(head.temperature, Trainable)
    gradient = head.temperature.log_kappa.grad
    assert gradient is not None
    # dL/dκ' = κ · mean_i(Σ_c p_c z_c - z_y), by hand.
    cosine = head.cosine(features)
    p = (5.0 * cosine).softmax(-1)
    expected = 5.0 * ((p * cosine).sum(-1) - cosine.gather(1, target[:, None])[:, 0]).mean()
    torch.testing.assert_close(gradient[0], expected)


def test_a_new_temperature_takes_the_heads_mode_and_precision() -> None:
    head = create_head("cosine", D, C, inference_kappa="per_sample", dtype=torch.float64).eval()
    head.set_temperature(LeastSquares())
    assert head.kappa is not None
    before = head.kappa.item()
    head(torch.randn(5, D, dtype=torch.float64, requires_grad=True))
    assert head.kappa.item() == before
    trainable = create_head("cosine", D, C, temperature="trainable", dtype=torch.float64)
    assert {parameter.dtype for parameter in trainable.parameters()} == {torch.float64}


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_moves_the_mean_once(reentrant: bool) -> None:
    features, target = torch.randn(4, D, requires_grad=True), torch.randint(C, (4,))
    head = create_head("cosine_ls", D, C)
    plain = copy.deepcopy(head)
    plain(features, target).backward()
    torch.utils.checkpoint.checkpoint(head, features, target, use_reentrant=reentrant).backward()
    assert head.kappa is not None
    assert plain.kappa is not None
    if not reentrant:  # the reentrant kind runs its first pass without gradients
        assert head.kappa.item() == plain.kappa.item()
    torch.testing.assert_close(head.weight.grad, plain.weight.grad)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_parameters_are_computed_with_in_float32(name: str, dtype: torch.dtype) -> None:
    head = make(name).eval().to(dtype)
    features, target = torch.randn(5, D).to(dtype), torch.randint(C, (5,))
    wide = copy.deepcopy(head).float()
    torch.testing.assert_close(head(features), wide(features.float()), rtol=1e-6, atol=1e-6)
    head(features, target).backward()
    assert head.weight.dtype == dtype
    assert head.weight.grad is not None
    assert head.weight.grad.dtype == dtype


def test_meta_initialisation() -> None:
    with torch.device("meta"):
        head = create_head("cosine", D, C, class_weight=[1.0, 2.0, 3.0, 4.0])
    head.to_empty(device="cpu")
    head.reset_parameters()
    assert head.class_weight is not None
    assert head.class_weight.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert head(torch.randn(3, D), torch.tensor([0, 1, 2])).isfinite()


@pytest.mark.parametrize("name", ["softmax", "cosine_ls", "sigmoid", "logit_norm"])
def test_exports_with_a_dynamic_batch(name: str) -> None:
    head = make(name).eval()
    batch = torch.export.Dim("batch")
    program = torch.export.export(head, (torch.randn(4, D),), dynamic_shapes={"features": {0: batch}})
    features = torch.randn(7, D)
    torch.testing.assert_close(program.module()(features), head(features))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cosine_ls", "label_smoothing"])
def test_inductor_gives_the_same(name: str) -> None:
    torch._dynamo.reset()
    head = make(name, class_weight=[1.0, 2.0, 0.5, 4.0], beta=1e-3)
    other = copy.deepcopy(head)
    features, target = torch.randn(5, D), torch.randint(C, (5,))
    expected, actual = head(features, target), torch.compile(other, fullgraph=True)(features, target)
    expected.backward()
    actual.backward()
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(other.weight.grad, head.weight.grad)


def test_numpy_numbers_serve() -> None:
    import numpy as np

    labels = np.array([0, 2, 1])
    head = Head(np.int64(D), labels.max() + 1, classifier="cosine", kappa=np.float32(20))
    assert head.num_classes == 3
    assert type(head.num_classes) is int


def test_cosine_head_closed_form() -> None:
    """Orthonormal weights and a feature on its weight: loss = log(1 + (C-1) exp(-κ)), T Eq. (15) at z_y = 1."""
    head = CosineHead(D, C, kappa=5.0)
    with torch.no_grad():
        head.weight.copy_(torch.eye(D)[:C] * 3)
    loss = head(torch.eye(D)[:C] * 10, torch.arange(C))
    assert loss.item() == pytest.approx(math.log1p((C - 1) * math.exp(-5.0)), rel=1e-6)


def test_logit_normalization_closed_form() -> None:
    head = create_head("logit_norm", 2, 2, tau=0.5, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.eye(2))
    torch.testing.assert_close(head(torch.tensor([[3.0, 4.0]])), torch.tensor([[1.2, 1.6]]))


def test_sigmoid_bias_starts_at_minus_log_c() -> None:
    for head in (create_head("sigmoid", D, 50), create_head("sigmoid", D, 50, classifier="cosine", kappa=5.0)):
        assert head.bias is not None
        torch.testing.assert_close(head.bias, torch.full((50,), -math.log(50)))
        probabilities = head.predict_proba(torch.zeros(1, D))
        torch.testing.assert_close(probabilities, torch.full((1, 50), 1 / 50))


def test_other_biases_start_at_zero_and_cosine_has_none_by_default() -> None:
    softmax = create_head("softmax", D, C)
    assert softmax.bias is not None
    assert not softmax.bias.any()
    assert CosineHead(D, C, kappa=3.0).bias is None
    assert create_head("cosine", D, C).bias is not None  # W (7)
    assert create_head("softmax", D, C, bias=False).bias is None


def test_dropout_acts_in_training_only_and_keeps_the_mean() -> None:
    head = create_head("dropout", 2000, C, keep_probability=0.7, bias=False)
    with torch.no_grad():
        head.weight.fill_(1.0)
    features = torch.ones(200, 2000)
    values = head(features)[:, 0]
    assert values.std() > 1
    assert values.mean().item() == pytest.approx(2000, rel=5e-3)
    # Var of a sum of 2000 draws of ξ/ρ is 2000 (1-ρ)/ρ.
    assert values.std().item() == pytest.approx(math.sqrt(2000 * 0.3 / 0.7), rel=0.2)
    head.eval()
    assert (head(features) == 2000).all()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "squared_error"])
def test_probabilities_add_up_to_one(name: str) -> None:
    probabilities = make(name).eval().predict_proba(torch.randn(5, D))
    assert (probabilities >= 0).all()
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(5))


def test_squared_error_has_no_probabilities() -> None:
    head = make("squared_error")
    assert head.link == "none"
    with pytest.raises(InputError, match="no probabilities"):
        head.predict_proba(torch.zeros(1, D))


def test_max_logit_is_the_cosine_of_a_cosine_head_and_the_logit_of_others() -> None:
    features = torch.randn(5, D)
    cosine, softmax = create_head("cosine", D, C), create_head("softmax", D, C)
    torch.testing.assert_close(cosine.max_logit(features), cosine.cosine(features).amax(-1))
    torch.testing.assert_close(softmax.max_logit(features), softmax(features).amax(-1))


def test_kappa_star_needs_a_temperature() -> None:
    with pytest.raises(InputError, match="least_squares_kappa"):
        create_head("softmax", D, C).kappa_star(torch.zeros(1, D))


@pytest.mark.parametrize("soft", [False, True])
def test_the_weight_penalty_does_not_depend_on_class_weights(soft: bool) -> None:
    features, index = torch.randn(5, D), torch.randint(C, (5,))
    target = F.one_hot(index, C).float() if soft else index
    head = Head(D, C, weight_penalty=1.0, class_weight=[0.1] * C)
    bare = Head(D, C, class_weight=[0.1] * C)
    bare.load_state_dict(head.state_dict())
    added = head(features, target) - bare(features, target)
    torch.testing.assert_close(added, 0.5 * head.weight.square().sum())


def test_loss_scale_leaves_the_weight_penalty_alone() -> None:
    features, target = torch.randn(5, D), torch.randint(C, (5,))
    head = Head(D, C, loss_scale=10.0, weight_penalty=0.4)
    bare = Head(D, C)
    bare.load_state_dict(head.state_dict())
    expected = 10 * bare(features, target) + 0.2 * head.weight.square().sum()
    torch.testing.assert_close(head(features, target), expected)


def test_a_loss_of_ones_own() -> None:
    class Brier(Loss):
        link = "softmax"

        def per_sample(
            self, logits: torch.Tensor, target: torch.Tensor, class_weight: torch.Tensor | None = None
        ) -> torch.Tensor:
            return (logits.softmax(-1) - F.one_hot(target, logits.shape[-1])).square().sum(-1)

    head = Head(D, C, loss=Brier())
    assert head(torch.zeros(2, D), torch.tensor([0, 1])).item() == pytest.approx(0.75**2 + 3 * 0.25**2)
    weighted = Head(D, C, loss=Brier(), class_weight=[1.0, 9.0, 1.0, 1.0])
    features, target = torch.randn(2, D), torch.tensor([0, 1])
    values = Brier().per_sample(weighted(features), target)
    torch.testing.assert_close(weighted(features, target), (values[0] + 9 * values[1]) / 10)
    Brier.soft_targets = False
    with pytest.raises(ParameterError, match="cannot smooth the target of Brier"):
        Head(D, C, loss=Brier(), alpha=0.1)


@pytest.mark.parametrize("features", [torch.zeros(2, D + 1), torch.zeros(2, D, dtype=torch.long)])
def test_bad_features(features: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"floating features of shape \[..., 6\]"):
        create_head("softmax", D, C)(features)


def test_repr_names_what_is_not_at_rest() -> None:
    text = repr(Head(D, C, keep_probability=0.5, normalize_logits=True, kappa=3.0))
    assert "keep_probability=0.5" in text
    assert "normalize_logits=True" in text
    assert "weight_penalty" not in text
