"""On a GPU no step may look at a value. Tensors that pretend to be on one, and have no values, say whether one does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from logitlab.functional import KAPPA_CANDIDATES, KappaSearch, RivalTerms
from logitlab.functional.blockwise import Placement, Ranks, backward, forward, likelihood, plain_kernels, turns
from logitlab.functional.blockwise.backward import backward_terms
from logitlab.functional.blockwise.forward import forward_terms
from logitlab.functional.rival_gradients import Wanted

CASES = {
    "fixed": {},
    "least squares": {"search": KappaSearch(KAPPA_CANDIDATES)},
    "twice": {"search": KappaSearch(KAPPA_CANDIDATES, multiplier=2.0)},
    "surrogate": {"search": KappaSearch(KAPPA_CANDIDATES, surrogate=True)},
    "refined": {"search": KappaSearch(KAPPA_CANDIDATES), "refine": True},
    "linear": {"classifier": "linear"},
    "unit weight": {"classifier": "unit_weight"},
    "bias": {"bias": True},
}


@pytest.fixture(autouse=True)
def torch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's kernels cannot run on what has no memory."""
    for module in (turns, backward, likelihood):
        monkeypatch.setattr(module, "kernels_for", lambda tensor: plain_kernels)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("keep", [True, False], ids=["kept", "computed again"])
@pytest.mark.parametrize("case", CASES)
def test_no_step_looks_at_a_value(case: str, keep: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "keep_scores", lambda *arguments: keep)
    options = CASES[case]
    search, classifier = options.get("search"), options.get("classifier", "cosine")
    with torch.no_grad(), FakeTensorMode():
        features = torch.randn(64, 32, device="cuda", dtype=dtype)
        # Several blocks of classes.
        weight = torch.randn(300_000, 32, device="cuda", dtype=dtype)
        target = torch.randint(300_000, (64,), device="cuda")
        kappa = torch.full((), 20.0, device="cuda") if search is None and classifier == "cosine" else None
        bias = torch.zeros(300_000, device="cuda") if "bias" in options else None
        placement = Placement(target, torch.zeros_like(target), 300_000)
        terms, kept, chosen = forward_terms(
            features, weight, kappa, bias, placement, classifier, search, options.get("refine", False), Ranks()
        )
        if search is not None:
            assert chosen is not None
            kappa = chosen.kappa * search.multiplier
        upstream = RivalTerms(*(torch.ones_like(term) for term in terms))
        wanted = Wanted(True, True, search is None and kappa is not None, bias is not None)
        found = backward_terms(weight, kappa, placement, classifier, terms, kept, upstream, wanted, Ranks())
        assert all(term.device.type == "cuda" and term.dtype == torch.float32 for term in terms)
        assert isinstance(found.features, Tensor)
        assert isinstance(found.weight, Tensor)
        assert (found.features.device.type, found.features.shape) == ("cuda", features.shape)
        assert (found.weight.shape, found.weight.dtype) == (weight.shape, dtype)
        assert (found.bias is not None) == (bias is not None)


def test_such_tensors_notice_a_look() -> None:
    with FakeTensorMode(), pytest.raises(Exception, match="data|Data|nonzero|value"):
        torch.ones(3, device="cuda").nonzero()


def test_likelihoods_neither() -> None:
    with torch.no_grad(), FakeTensorMode():
        features, weight = torch.randn(64, 32, device="cuda"), torch.randn(300_000, 32, device="cuda")
        means, largest = likelihood.likelihood_means(features, weight, KAPPA_CANDIDATES, 300_000, Ranks())
        assert (means.shape, largest.shape, means.device.type) == ((20, 64), (64,), "cuda")
