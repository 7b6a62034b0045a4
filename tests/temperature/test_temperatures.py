from __future__ import annotations

import math

import pytest
import torch

from logitlab.config.errors import ParameterError
from logitlab.functional import cosine_similarity, equiangular_kappa, least_squares_kappa, normalize
from logitlab.temperature import Fixed, LeastSquares, RunningMean, Temperature, Trainable, create_temperature


def inputs(batch: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    features, weight = torch.randn(batch, 8), torch.randn(5, 8)
    return cosine_similarity(features, weight), normalize(features), normalize(weight)


def test_fixed_takes_either_number() -> None:
    assert Fixed(25).kappa.item() == 25.0
    assert Fixed(tau=0.04).kappa.item() == pytest.approx(25.0)
    assert Fixed(kappa=7.5)(*inputs(), per_sample=True).item() == 7.5
    assert Fixed(kappa=7.5).kappa_star(*inputs()).tolist() == [7.5] * 6


def test_fixed_keeps_its_digits_in_float64() -> None:
    cosine = torch.zeros(1, 2, dtype=torch.float64)
    assert Fixed(tau=0.07)(cosine, cosine, cosine, per_sample=True).item() == 1 / 0.07


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Fixed(), "exactly one"),
        (lambda: Fixed(20, tau=0.05), "exactly one"),
        (lambda: Fixed(-1), "The 'kappa' parameter of Fixed"),
        (lambda: Fixed(tau=0), "The 'tau' parameter of Fixed"),
        (lambda: Fixed(tau=1e-310), "finite inverse"),
        (lambda: Fixed(math.nan), "Got nan"),
        (lambda: Trainable(init=0), "The 'init' parameter of Trainable"),
        (lambda: LeastSquares(multiplier=0, momentum=2), "(?s)'multiplier'.*'momentum'"),
        (lambda: LeastSquares(candidates=[3, 1]), "increasing order"),
        (lambda: LeastSquares(candidates=["x"]), "'candidates'"),
        (lambda: create_temperature("least_square"), "did you mean 'least_squares'"),
        (lambda: create_temperature("fixed"), "needs its number"),
        (lambda: create_temperature("least_squares", kappa=3), "takes no 'kappa'"),
    ],
)
def test_bad_parameters(build, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ParameterError, match=message):
        build()


def test_names() -> None:
    assert isinstance(create_temperature("least_squares"), LeastSquares)
    assert create_temperature("fixed", tau=0.1).kappa.item() == 10.0
    trainable = create_temperature("trainable", kappa=12)
    assert isinstance(trainable, Trainable)
    assert trainable.kappa.item() == pytest.approx(12.0)


def test_trainable_starts_at_the_closed_form_and_learns_its_logarithm() -> None:
    temperature = Trainable()
    temperature.attach(100)
    assert temperature.kappa.item() == pytest.approx(equiangular_kappa(100))
    temperature.attach(2)  # a start found once is kept
    assert temperature.kappa.item() == pytest.approx(equiangular_kappa(100))
    cosine, unit_features, unit_weight = inputs()
    temperature(cosine, unit_features, unit_weight, per_sample=True).backward()
    assert temperature.log_kappa.grad is not None
    # dκ/dκ' = κ
    assert temperature.log_kappa.grad.item() == pytest.approx(equiangular_kappa(100))
    star = temperature.kappa_star(cosine, unit_features, unit_weight)
    assert star.shape == (6,)
    assert not star.requires_grad


def test_a_given_start_is_kept() -> None:
    temperature = Trainable(init=3.0)
    temperature.attach(1000)
    assert temperature.kappa.item() == pytest.approx(3.0)


def test_least_squares_is_the_functional_search_times_its_multiplier() -> None:
    features, weight = torch.randn(6, 8), torch.randn(5, 8)
    parts = cosine_similarity(features, weight), normalize(features), normalize(weight)
    temperature = LeastSquares(multiplier=2.0)
    temperature.attach(5)
    expected = least_squares_kappa(features, weight)
    torch.testing.assert_close(temperature.kappa_star(*parts), expected)
    torch.testing.assert_close(temperature(*parts, per_sample=True), 2 * expected)
    assert temperature(*parts, per_sample=False).shape == ()


def test_candidates_of_ones_own() -> None:
    temperature = LeastSquares(candidates=[2.0, 4.0])
    assert set(temperature.kappa_star(*inputs(50)).tolist()) <= {2.0, 4.0}


def test_running_mean_starts_at_the_closed_form_and_moves_by_its_momentum() -> None:
    mean = RunningMean(momentum=0.25)
    mean.start(10)
    start = equiangular_kappa(10)
    assert mean.value.item() == pytest.approx(start)
    mean.start(10)
    assert mean.value.item() == pytest.approx(start)
    with pytest.raises(ParameterError, match=r"of 10 classes.*fresh\(\)"):
        mean.start(1000)
    mean.observe(torch.tensor([8.0, 12.0]))
    assert mean.value.item() == pytest.approx(0.75 * start + 0.25 * 10)


def test_running_mean_rests_outside_training() -> None:
    mean = RunningMean()
    mean.start(10)
    before = mean.value.item()
    with torch.no_grad():
        mean.observe(torch.tensor([50.0]))
    mean.observe(torch.empty(0))
    mean.eval()
    mean.observe(torch.tensor([50.0]))
    mean.train()
    torch.func.vmap(lambda kappa: (mean.observe(kappa), kappa)[1])(torch.tensor([50.0]))
    # A transform over something else than κ is no step of training either.
    torch.func.vmap(lambda other: (mean.observe(torch.tensor([50.0])), other)[1])(torch.zeros(1))
    assert mean.value.item() == before


def test_samples_without_a_direction_do_not_move_the_mean() -> None:
    temperature = LeastSquares()
    temperature.attach(5)
    start = temperature.kappa.item()
    weight = torch.randn(5, 8)
    broken = torch.full((1, 8), math.nan)
    for features in (torch.zeros(3, 8), broken):
        temperature(cosine_similarity(features, weight), normalize(features), normalize(weight), per_sample=True)
    assert temperature.kappa.item() == start
    mixed = torch.cat([torch.zeros(3, 8), torch.randn(2, 8)])
    temperature(cosine_similarity(mixed, weight), normalize(mixed), normalize(weight), per_sample=True)
    expected = 0.9 * start + 0.1 * least_squares_kappa(mixed[3:], weight).mean().item()
    assert temperature.kappa.item() == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_mean_stays_in_float32(dtype: torch.dtype) -> None:
    temperature = LeastSquares()
    temperature.attach(10)
    before = temperature.kappa.item()
    temperature.to(dtype)
    assert temperature.mean.value.dtype == torch.float32
    assert temperature.kappa.item() == before
    assert temperature.double().mean.value.dtype == torch.float64


def test_what_was_built_on_the_meta_device_can_begin_again() -> None:
    with torch.device("meta"):
        temperatures = [LeastSquares(), Trainable(), Trainable(3.0)]
        for temperature in temperatures:
            temperature.attach(10)
    for temperature in temperatures:
        temperature.to_empty(device="cpu")
        for module in temperature.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    start = equiangular_kappa(10)
    assert [temperature.kappa.item() for temperature in temperatures] == pytest.approx([start, start, 3.0])


def test_kappa_is_a_copy() -> None:
    temperature = LeastSquares()
    temperature.attach(10)
    before = temperature.kappa
    value = before.item()
    temperature.mean.observe(torch.tensor([100.0]))
    assert before.item() == value
    assert temperature.kappa.item() > value


@pytest.mark.parametrize("temperature", [Fixed(3), Trainable(2.0), Trainable(), LeastSquares([1.0, 2.0], 2.0, 0.5)])
def test_fresh_is_the_same_before_learning(temperature: Temperature) -> None:
    fresh = temperature.fresh()
    assert repr(fresh) == repr(temperature)
    assert fresh is not temperature
    fresh.attach(10)
    if isinstance(temperature, LeastSquares):
        assert isinstance(fresh, LeastSquares)
        assert (fresh.candidates, fresh.multiplier, fresh.mean.momentum) == ((1.0, 2.0), 2.0, 0.5)
        assert fresh.mean.value.item() == pytest.approx(equiangular_kappa(10))
