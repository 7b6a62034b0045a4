"""What a sharded head answers without a target: logits, the best classes, κ*. Every rank must ask at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from logitlab.config.errors import InputError
from logitlab.functional import KappaSearch, at_least_float32, autocast_off, normalize, normalized_sigmoid
from logitlab.functional.at_hand import values_at_hand
from logitlab.functional.blockwise import Placement, blockwise_rival_terms
from logitlab.losses import Link
from logitlab.temperature import LeastSquares

from ..checks import check_features, read_kappa, refuse_kappa
from .attributes import Sharded
from .classes import ClassRange
from .handshake import agree_on_batch
from .scale import rule_of

_ROWS = 256


class Best(NamedTuple):
    """The classes with the largest logits.

    Attributes:
        logits: falling, ``[..., k]``.
        classes: int64, ``[..., k]``.
    """

    logits: Tensor
    classes: Tensor


class ShardedInference(Sharded):
    """Base of ``ShardedHead``; it is of no use alone."""

    @property
    def link(self) -> Link:
        """How logits become probabilities: that of the loss."""
        return self.loss_function.link

    @torch.no_grad()
    def logits(self, features: Tensor, *, kappa: float | Tensor | None = None) -> Tensor:
        """Logits of this rank's samples with all classes, without gradient, ``[..., C]``.

        A rank holds those of the samples of all ranks with its own classes on the way. ``best`` needs less.

        Args:
            features: ``[..., D]``.
            kappa: use this κ instead of the temperature's.
        """
        self.ranks.begin()
        return self._logits(features, kappa)

    @torch.no_grad()
    def _logits(self, features: Tensor, kappa: float | Tensor | None) -> Tensor:
        """``logits``, counted with what went before."""
        batch, rows, number = self._rows(features)
        with autocast_off(features.device):
            scale = self._inference_kappa(rows, kappa, batch, number)
            every = self.ranks.gather(rows, "features")
            scores = self._scores_here(every, self.ranks.gather(scale, "κ") if scale is not None else None)
            sizes = [ClassRange.of(rank, self.ranks.size, self.num_classes).number for rank in range(self.ranks.size)]
            found = self.ranks.collect(scores, sizes, "logits")
        return found[:number].view(*batch, self.num_classes)

    @torch.no_grad()
    def best(self, features: Tensor, k: int = 1, *, kappa: float | Tensor | None = None) -> Best:
        """The k classes with the largest logits of each of this rank's samples.

        Args:
            features: ``[..., D]``.
            k: at most C.
            kappa: use this κ instead of the temperature's.

        Raises:
            InputError: k is out of range.
        """
        if not 1 <= k <= self.num_classes:
            raise InputError(f"Expected k from 1 to the {self.num_classes} classes. Got {k}.")
        self.ranks.begin()
        batch, rows, number = self._rows(features)
        with autocast_off(features.device):
            scale = self._inference_kappa(rows, kappa, batch, number)
            every = self.ranks.gather(rows, "features")
            factors = None if scale is None else self.ranks.gather(scale, "κ")
            here = min(k, self.classes.number)
            values, places = [], []
            # A few samples at a time: their scores with a million classes are large.
            for start in range(0, len(every), _ROWS):
                part = slice(start, start + _ROWS)
                top = self._scores_here(every[part], None if factors is None else factors[part]).topk(here, dim=1)
                values.append(F.pad(top.values, (0, k - here), value=-torch.inf))
                places.append(F.pad(top.indices + self.classes.start, (0, k - here)))
            all_values = self.ranks.exchange(torch.cat(values), "the largest logits").transpose(0, 1).flatten(1)
            all_places = self.ranks.exchange(torch.cat(places), "their classes").transpose(0, 1).flatten(1)
            found = all_values.topk(k, dim=1)
            classes = all_places.gather(1, found.indices)
        return Best(found.values[:number].view(*batch, k), classes[:number].view(*batch, k))

    def predict(self, features: Tensor) -> Tensor:
        """The class with the largest logit, int64, ``[...]``."""
        return self.best(features).classes.squeeze(-1)

    def predict_proba(self, features: Tensor) -> Tensor:
        """Probabilities of all classes for this rank's samples, ``[..., C]``."""
        return self.probabilities(self.logits(features))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Turn logits of this head into probabilities by its link, ``[..., C]``."""
        return normalized_sigmoid(logits) if self.link == "normalized_sigmoid" else F.softmax(logits, dim=-1)

    @torch.no_grad()
    def kappa_star(self, features: Tensor) -> Tensor:
        """What the temperature's rule says of each of this rank's samples, without the multiplier: ``[...]``.

        Raises:
            InputError: the head has no temperature.
        """
        if self.temperature is None:
            raise InputError("This head has no temperature.")
        self.ranks.begin()
        batch, rows, number = self._rows(features)
        with autocast_off(features.device):
            return self._kappa_star(rows)[:number].view(batch)

    def _kappa_star(self, rows: Tensor) -> Tensor:
        if not isinstance(self.temperature, LeastSquares):
            return rule_of(self, rows)
        search = self.temperature.split_search
        assert search is not None
        # The energy is one of all classes: any of them may stand where a loss has its target.
        first = torch.zeros(len(rows) * self.ranks.size, dtype=torch.int64, device=rows.device)
        here = self.classes.start == 0
        placement = Placement(first if here else first - 1, first, self.num_classes)
        plain = KappaSearch(search.candidates, 1.0, search.surrogate)
        refine = self.temperature.search == "continuous"
        _, chosen = blockwise_rival_terms(rows, self.weight, placement, search=plain, refine=refine, ranks=self.ranks)
        assert chosen is not None
        return chosen.kappa

    def _inference_kappa(
        self, rows: Tensor, override: float | Tensor | None, batch: torch.Size, number: int
    ) -> Tensor | None:
        """κ of each row, ``[n]``; None for a head without."""
        if self.classifier != "cosine":
            refuse_kappa(override)
            return None
        dtype = at_least_float32(rows, self.weight)
        like = rows.new_ones(len(rows), dtype=dtype)
        if override is not None:
            given = read_kappa(override, batch, like)
            if given.ndim == 0:
                return like * given
            return torch.cat([given.reshape(-1), like[number:]])
        assert self.temperature is not None
        if self.temperature.adaptive and (self.training or self.inference_kappa == "per_sample"):
            found = self._kappa_star(rows).to(dtype)
            return found * self.temperature.multiplier if isinstance(self.temperature, LeastSquares) else found
        one = like[:1].unsqueeze(0)
        scale: Tensor = self.temperature(one, one, one, per_sample=False)
        return like * scale.detach()

    def _rows(self, features: Tensor) -> tuple[torch.Size, Tensor, int]:
        check_features(features, self.in_features)
        batch = features.shape[:-1]
        rows = features.reshape(-1, self.in_features)
        if rows.dtype != self.weight.dtype or rows.dtype != torch.bfloat16:
            rows = rows.to(at_least_float32(rows, self.weight))
        filled, _ = self._fill_up(rows, torch.zeros(len(rows), dtype=torch.int64, device=rows.device))
        return batch, filled, len(rows)

    def _scores_here(self, rows: Tensor, kappa: Tensor | None) -> Tensor:
        """Logits of rows with the classes here, ``[N, c]``."""
        dtype = at_least_float32(rows, self.weight)
        rows, weight = rows.to(dtype), self.weight.to(dtype)
        if self.classifier == "cosine":
            rows = normalize(rows)
        scores = F.linear(rows, weight if self.classifier == "linear" else normalize(weight))
        if self.centers > 1:
            scores = scores.view(len(rows), -1, self.centers).amax(dim=2)
        scores = scores if kappa is None else scores * kappa.unsqueeze(1)
        return scores if self.bias is None else scores + self.bias.to(dtype)

    def _fill_up(self, rows: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """As many rows on every rank, one at least; a row that fills up is zero, of no class."""
        number = len(rows)
        most = number
        if self.ranks.size > 1 and self._tells_sizes(classes):
            needs_gradient = rows.requires_grad and torch.is_grad_enabled()
            most = agree_on_batch(self.ranks, number, needs_gradient, False, classes.device)
        most = max(most, 1)
        return fill(rows, most), fill(classes, most, -1)

    def _tells_sizes(self, tensor: Tensor) -> bool:
        """Whether the ranks tell each other how many samples they bring."""
        return values_at_hand(tensor) if self.uneven_batches is None else self.uneven_batches


def fill(values: Tensor, number: int, value: float = 0) -> Tensor:
    """Fill rows up to a number of them."""
    missing = number - len(values)
    if missing == 0:
        return values
    return torch.cat([values, values.new_full((missing, *values.shape[1:]), value)])
