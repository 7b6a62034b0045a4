"""What every temperature must keep: state, copies, precision, compilation, and means that rest when they should."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch

from logitlab.config.errors import ParameterError
from logitlab.functional import adacos_kappa, cosine_similarity, equiangular_kappa, normalize, rule_of_thumb_kappa
from logitlab.temperature import (
    TEMPERATURES,
    AdaCos,
    Fixed,
    LeastSquares,
    MaximumLikelihood,
    RuleOfThumb,
    RunningMean,
    Temperature,
    Trainable,
    create_temperature,
)

CLASSES = 5
BUILD = {
    "fixed": lambda: Fixed(3.0),
    "trainable": Trainable,
    "least_squares": lambda: LeastSquares(multiplier=2.0),
    "continuous": lambda: LeastSquares(search="continuous"),
    "rule_of_thumb": RuleOfThumb,
    "maximum_likelihood": MaximumLikelihood,
    "maximum_likelihood_exact": lambda: MaximumLikelihood([0.5, 2.0, 8.0], "exact", 0.5),
    "adacos": AdaCos,
    "adacos_dynamic": lambda: AdaCos(dynamic=True),
}
SEARCHING = ["least_squares", "continuous", "rule_of_thumb", "maximum_likelihood", "maximum_likelihood_exact"]
MOVING = [*SEARCHING, "adacos_dynamic"]


@pytest.fixture(params=BUILD)
def temperature(request: pytest.FixtureRequest) -> Temperature:
    built: Temperature = BUILD[request.param]()
    built.attach(CLASSES)
    return built


def inputs(batch: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features, weight = torch.randn(batch, 8, generator=generator), torch.randn(CLASSES, 8, generator=generator)
    return cosine_similarity(features, weight), normalize(features), normalize(weight)


def train_on(temperature: Temperature, *parts: torch.Tensor) -> torch.Tensor:
    """What ``Head`` does with a batch in training."""
    cosine = parts[0]
    if temperature.uses_target:
        target = torch.arange(len(cosine)) % CLASSES
        temperature.observe(cosine, target, torch.ones(len(cosine), dtype=torch.bool))
    kappa: torch.Tensor = temperature(*parts, per_sample=True)
    return kappa


def moving(name: str) -> Temperature:
    temperature: Temperature = BUILD[name]()
    temperature.attach(CLASSES)
    return temperature


def test_kappa_is_positive_and_of_the_right_shape(temperature: Temperature) -> None:
    parts = inputs()
    kappa = train_on(temperature, *parts)
    assert kappa.shape in ((), (6,))
    assert (kappa > 0).all()
    assert kappa.dtype == torch.float32
    star = temperature.kappa_star(*parts)
    assert star.shape == (6,)
    assert not star.requires_grad
    mean = temperature(*parts, per_sample=False)
    assert mean.shape == ()
    assert mean.item() == pytest.approx(temperature.kappa.item())
    leading = [parts[0].view(2, 3, -1), parts[1].view(2, 3, -1), parts[2]]
    assert torch.equal(temperature.kappa_star(*leading), star.view(2, 3))


def test_only_trainable_is_differentiable(temperature: Temperature) -> None:
    cosine, unit_features, unit_weight = (part.requires_grad_() for part in inputs())
    assert train_on(temperature, cosine, unit_features, unit_weight).requires_grad == isinstance(temperature, Trainable)


def test_state_dict_and_copies_carry_what_was_learned(temperature: Temperature) -> None:
    train_on(temperature, *inputs())
    other: Temperature = temperature.fresh()
    other.attach(CLASSES)
    other.load_state_dict(temperature.state_dict())
    for twin in (other, copy.deepcopy(temperature), pickle.loads(pickle.dumps(temperature))):
        assert twin.kappa.item() == temperature.kappa.item()
        assert repr(twin) == repr(temperature)


def test_fresh_is_the_same_before_anything_was_learned(temperature: Temperature) -> None:
    before = temperature.kappa.item()
    train_on(temperature, *inputs())
    fresh = temperature.fresh()
    assert type(fresh) is type(temperature)
    assert repr(fresh) == repr(temperature)
    fresh.attach(CLASSES)
    assert fresh.kappa.item() == pytest.approx(before)
    fresh.fresh().attach(CLASSES + 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", MOVING)
def test_half_precision_models_keep_the_state_in_float32(name: str, dtype: torch.dtype) -> None:
    temperature = moving(name)
    train_on(temperature, *inputs())
    before = temperature.kappa.item()
    temperature.to(dtype)
    assert temperature.kappa.dtype == torch.float32
    assert temperature.kappa.item() == before


def test_double_precision_all_the_way(temperature: Temperature) -> None:
    temperature.double()
    kappa = train_on(temperature, *(part.double() for part in inputs()))
    assert kappa.dtype == torch.float64


def test_what_was_built_on_the_meta_device_can_begin_again(temperature: Temperature) -> None:
    with torch.device("meta"):
        built = temperature.fresh()
        built.attach(CLASSES)
    built.to_empty(device="cpu")
    for module in built.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    assert built.kappa.item() == pytest.approx(temperature.kappa.item())


@pytest.mark.parametrize(("dtype", "training"), [(torch.float32, True), (torch.float32, False), (torch.float64, True)])
def test_compiles_into_one_graph(temperature: Temperature, dtype: torch.dtype, training: bool) -> None:
    # In float64 too: there torch 2.11 takes a buffer without dimensions for a number that no step changes.
    temperature.train(training).to(dtype)
    other = copy.deepcopy(temperature)
    torch._dynamo.reset()
    compiled = torch.compile(train_on, fullgraph=True, backend="aot_eager")
    given = [part.to(dtype) for part in inputs()]
    expected, found = train_on(temperature, *given), compiled(other, *given)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)  # continuous: flat minima
    torch.testing.assert_close(other.kappa, temperature.kappa, rtol=1e-3, atol=0)


def test_vmap_sees_each_sample_alone(temperature: Temperature) -> None:
    cosine, unit_features, unit_weight = inputs()
    expected = temperature.kappa_star(cosine, unit_features, unit_weight)
    before = temperature.kappa.item()

    def alone(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        kappa: torch.Tensor = temperature(z, x, unit_weight, per_sample=True)
        return kappa.detach() * 1

    found = torch.func.vmap(alone)(cosine, unit_features)
    multiplier = getattr(temperature, "multiplier", 1.0)
    torch.testing.assert_close(found, multiplier * expected, rtol=1e-3, atol=0)
    assert temperature.kappa.item() == before


@pytest.mark.parametrize("name", MOVING)
def test_the_mean_moves_in_training_alone(name: str) -> None:
    temperature = moving(name)
    before = temperature.kappa.item()
    with torch.no_grad():
        train_on(temperature, *inputs())
    temperature.eval()
    train_on(temperature, *inputs())
    assert temperature.kappa.item() == before
    temperature.train()
    train_on(temperature, *inputs())
    assert temperature.kappa.item() != before


@pytest.mark.parametrize("name", MOVING)
def test_zero_and_broken_features_move_nothing(name: str) -> None:
    temperature = moving(name)
    before = temperature.kappa.item()
    weight = torch.randn(CLASSES, 8)
    for features in (torch.zeros(4, 8), torch.full((4, 8), math.nan), torch.zeros(0, 8)):
        kappa = train_on(temperature, cosine_similarity(features, weight), normalize(features), normalize(weight))
        assert kappa.isfinite().all()
    assert temperature.kappa.item() == before
    # Beside others they have no say.
    other = copy.deepcopy(temperature)
    sound = torch.randn(CLASSES, 8)
    mixed = torch.cat([sound, torch.zeros(3, 8)])
    for each, features in ((temperature, sound), (other, mixed)):
        train_on(each, cosine_similarity(features, weight), normalize(features), normalize(weight))
    # A refined κ lies where the energy is flat: products of other shapes round it elsewhere.
    assert other.kappa.item() == pytest.approx(temperature.kappa.item(), rel=1e-4)


@pytest.mark.parametrize("name", ["rule_of_thumb", "maximum_likelihood", "maximum_likelihood_exact"])
def test_means_start_at_the_closed_form_and_follow_kappa_star(name: str) -> None:
    temperature = moving(name)
    assert temperature.kappa.item() == pytest.approx(equiangular_kappa(CLASSES))
    parts = inputs()
    momentum = next(module.momentum for module in temperature.modules() if isinstance(module, RunningMean))
    expected = (1 - momentum) * temperature.kappa.item() + momentum * temperature.kappa_star(*parts).mean().item()
    train_on(temperature, *parts)
    assert temperature.kappa.item() == pytest.approx(expected)


def test_rule_of_thumb_asks_the_weight_alone() -> None:
    temperature = moving("rule_of_thumb")
    one, two = inputs(seed=1), inputs(seed=2)
    weight = one[2]
    expected = rule_of_thumb_kappa(weight).item()
    assert temperature.kappa_star(one[0], one[1], weight).tolist() == [pytest.approx(expected)] * 6
    assert temperature.kappa_star(two[0], two[1], weight).tolist() == [pytest.approx(expected)] * 6


def test_fixed_adacos_is_a_constant_of_the_number_of_classes() -> None:
    temperature = AdaCos()
    assert temperature.state_dict() == {}
    assert not temperature.uses_target
    temperature.attach(100)
    temperature.attach(100)
    assert temperature.kappa.item() == pytest.approx(adacos_kappa(100))
    with pytest.raises(ParameterError, match=r"of 100 classes.*fresh\(\)"):
        temperature.attach(10)
    cosine = torch.zeros(1, 100, dtype=torch.float64)
    assert temperature(cosine, cosine, cosine, per_sample=True).item() == adacos_kappa(100)


def test_dynamic_adacos_follows_the_batches() -> None:
    temperature = AdaCos(dynamic=True)
    temperature.attach(CLASSES)
    assert temperature.kappa.item() == pytest.approx(adacos_kappa(CLASSES))
    cosine, unit_features, unit_weight = inputs()
    target = torch.tensor([0, 1, 2, 3, 4, 0])
    kappa = temperature.kappa.item()
    for _ in range(3):
        total = 0.0
        for row, y in zip(cosine.tolist(), target.tolist()):
            total += sum(math.exp(kappa * z) for c, z in enumerate(row) if c != y)
        angle = sorted(math.acos(row[y]) for row, y in zip(cosine.tolist(), target.tolist()))[2]
        kappa = math.log(total / 6) / math.cos(min(math.pi / 4, angle))
        temperature.observe(cosine, target, torch.ones(6, dtype=torch.bool))
        assert temperature(cosine, unit_features, unit_weight, per_sample=True).item() == pytest.approx(kappa, rel=1e-5)
    ignored = temperature.kappa.item()
    temperature.observe(cosine, target, torch.zeros(6, dtype=torch.bool))
    assert temperature.kappa.item() == ignored


@pytest.mark.parametrize("classes", [1, 2])
def test_dynamic_adacos_rests_for_few_classes(classes: int) -> None:
    temperature = AdaCos(dynamic=True)
    temperature.attach(classes)
    cosine = torch.rand(4, classes)
    temperature.observe(cosine, torch.zeros(4, dtype=torch.int64), torch.ones(4, dtype=torch.bool))
    assert temperature.kappa.item() == pytest.approx(math.sqrt(2) * math.log(2))


def test_two_forwards_before_one_backward() -> None:
    """A later step must not change the κ that an earlier graph holds."""
    temperature = moving("adacos_dynamic")
    parts = inputs()
    cosine = parts[0].requires_grad_()
    losses = [(train_on(temperature, *parts) * cosine).sum() for _ in range(2)]
    torch.autograd.backward(losses)
    assert cosine.grad is not None


@pytest.mark.parametrize("name", TEMPERATURES)
def test_names(name: str) -> None:
    if name in ("fixed", "trainable"):
        assert create_temperature(name, kappa=3).kappa.item() == pytest.approx(3.0)
        return
    assert isinstance(create_temperature(name), Temperature)
    for number in ({"kappa": 3.0}, {"tau": 0.1}, {"kappa": -1.0}):
        with pytest.raises(ParameterError, match=f"'{name}' chooses κ itself.*temperature='fixed'"):
            create_temperature(name, **number)


def test_names_are_of_the_right_kind() -> None:
    kinds = {"rule_of_thumb": RuleOfThumb, "maximum_likelihood": MaximumLikelihood, "adacos": AdaCos}
    assert all(type(create_temperature(name)) is kind for name, kind in kinds.items())
    assert create_temperature("adacos_dynamic").uses_target
    assert not create_temperature("adacos").uses_target
    with pytest.raises(ParameterError, match="did you mean 'adacos'"):
        create_temperature("adacoss")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RuleOfThumb(momentum=0), "'momentum' parameter of RuleOfThumb"),
        (lambda: MaximumLikelihood([2, 1], "exact", 3), "(?s)'candidates'.*'momentum'"),
        (lambda: MaximumLikelihood(normalizer="exat"), "did you mean 'exact'"),
        (lambda: MaximumLikelihood(normalizer=3), "must be 'bound' or 'exact'. Got 3"),
        (lambda: LeastSquares(search="continous"), "did you mean 'continuous'"),
        (lambda: LeastSquares(search=None, momentum=0), "(?s)'momentum'.*'search'"),
        (lambda: AdaCos(dynamic=1), "'dynamic' parameter of AdaCos must be true or false. Got 1"),
    ],
)
def test_bad_parameters(build, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ParameterError, match=message):
        build()


def test_what_they_show() -> None:
    assert "search='continuous'" in repr(LeastSquares(search="continuous"))
    assert "candidates=20" in repr(MaximumLikelihood())
    assert "candidates=[1, 2.5], normalizer='exact'" in repr(MaximumLikelihood([1, 2.5], "exact"))
    assert "dynamic=True" in repr(AdaCos(dynamic=True))
