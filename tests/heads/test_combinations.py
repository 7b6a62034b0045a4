"""Which parts of a head combine, and which are refused in words."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from logitlab.config.errors import ParameterError
from logitlab.heads import Classifier, Head, create_head
from logitlab.temperature import Fixed, LeastSquares

#: W Table C.1: a row is a regularizer or a normalization, a column what it is combined with.
REGULARIZERS: list[dict[str, Any]] = [
    {},
    *({"keep_probability": rho} for rho in (0.7, 0.8, 0.9, 0.95)),
    *({"beta": beta} for beta in (5e-5, 1e-4, 2e-4, 4e-4, 6e-4)),
]
COLUMNS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "label_smoothing": {"alpha": 0.1},
    "sigmoid": {"loss": "sigmoid"},
    "cosine": {"classifier": "cosine", "tau": 0.05, "bias": True},
}
TABLE_C1 = [
    *(regularizer | column for regularizer in REGULARIZERS for column in COLUMNS.values()),
    *({"normalize_logits": True, "tau": tau} | COLUMNS[c] for tau in (0.03, 0.04, 0.05, 0.06) for c in ("baseline",)),
    *({"normalize_logits": True, "tau": tau} | COLUMNS["sigmoid"] for tau in (0.02, 0.03, 0.04, 0.05, 0.06)),
    *({"classifier": "cosine", "tau": tau, "bias": True} for tau in (0.045, 0.05, 0.06)),
    *({"classifier": "cosine", "tau": tau, "loss": "sigmoid"} for tau in (0.045, 0.05, 0.06)),
]


@pytest.mark.parametrize("parameters", TABLE_C1, ids=str)
def test_every_combination_of_table_c1_trains_a_step(parameters: dict[str, Any]) -> None:
    model = Classifier(torch.nn.Linear(5, 8), Head(8, 4, **parameters))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    images, target = torch.randn(16, 5), torch.randint(4, (16,))
    model.eval()
    before = model(images, target)
    model.train()
    for _ in range(5):
        optimizer.zero_grad()
        model(images, target).backward()
        optimizer.step()
    model.eval()
    after = model(images, target)
    assert after.isfinite()
    assert after < before


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alpha": 3}, r"The 'alpha' parameter of Head must be a float in the range \[0, 1\). Got 3 instead."),
        ({"keep_probability": 0}, "'keep_probability'"),
        ({"beta": math.nan}, "'beta'.*Got nan"),
        ({"loss_scale": True}, "'loss_scale'.*Got True"),
        ({"bias": "yes"}, "'bias' parameter of Head must be true, false or none"),
        ({"normalize_logits": 1}, "'normalize_logits'"),
        ({"classifier": "cosin"}, "did you mean 'cosine'"),
        ({"loss": "sigmoidal"}, "did you mean 'sigmoid'"),
        ({"loss": 3}, "or a logitlab.losses.Loss"),
        ({"inference_kappa": 3}, "'inference_kappa'"),
        ({"classifier": "cosine", "temperature": "least_sqares"}, "did you mean 'least_squares'"),
        ({"classifier": "cosine", "temperature": 20}, "a number goes in as 'kappa' or as 'tau'"),
        ({"class_weight": [1.0, 2.0]}, "4 positive numbers"),
        ({"class_weight": [1.0, 2.0, 3.0, -1.0]}, "4 positive numbers"),
        ({"class_weight": "heavy"}, "4 positive numbers"),
        ({"class_weight": torch.ones(4, dtype=torch.long)}, "4 positive numbers"),
        ({"ignore_index": 0.5}, "'ignore_index' parameter of Head must be an int"),
        ({"classifier": "cosine", "kappa": 20, "tau": 0.05}, "'kappa' or 'tau'.*not both"),
        ({"classifier": "cosine", "kappa": 20, "temperature": Fixed(20)}, "leave the temperature out"),
        ({"classifier": "cosine", "temperature": "fixed"}, "needs its number"),
        ({"classifier": "cosine", "temperature": "least_squares", "kappa": 3}, "chooses κ itself"),
        ({"classifier": "cosine"}, "needs a temperature for cosines"),
        ({"normalize_logits": True}, "needs a temperature for normalized logits"),
        ({"kappa": 20}, "unnormalized logits choose their own scale"),
        ({"temperature": LeastSquares()}, "unnormalized logits choose their own scale"),
        ({"classifier": "cosine", "normalize_logits": True, "kappa": 3}, "second normalization"),
        ({"normalize_logits": True, "temperature": "least_squares"}, "defined on cosines"),
        ({"normalize_logits": True, "temperature": LeastSquares()}, "defined on cosines"),
        ({"normalize_logits": True, "kappa": 3, "beta": 0.1}, "a penalty on it does nothing"),
        ({"loss": "squared_error"}, "(?s)lacks 'target_weight' and 'target_value'.*preset='imagenet'"),
        ({"loss": "squared_error", "target_weight": 2.0}, "lacks 'target_value'"),
        ({"target_value": 2.0}, "with loss='squared_error' only"),
        ({"loss": "squared_error", "target_weight": 2.0, "target_value": 1.0, "kappa": 2}, "'kappa' always means"),
        (
            {"loss": "squared_error", "target_weight": 2.0, "target_value": 1.0, "classifier": "cosine"},
            "cannot reach a target value",
        ),
    ],
    ids=str,
)
def test_what_means_nothing_is_refused_in_words(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Head(8, 4, **parameters)


def test_all_faults_come_at_once() -> None:
    with pytest.raises(ParameterError) as caught:
        Head(0, 4, alpha=2.0, beta=-1.0, classifier="lnear")  # type: ignore[arg-type]
    assert len(caught.value.faults) == 4


def test_a_temperature_object_suits_normalized_logits_if_it_is_not_adaptive() -> None:
    head = create_head("logit_norm", 8, 4, temperature="trainable")
    assert [name for name, _ in head.named_parameters()] == ["weight", "bias", "temperature.log_kappa"]
