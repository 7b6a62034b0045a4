"""The loss of a head whose classes are split over ranks, from the samples of this rank."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from logitlab.config.errors import InputError
from logitlab.functional import Reduction, at_least_float32, is_soft
from logitlab.functional.at_hand import values_at_hand
from logitlab.functional.blockwise import (
    Placement,
    bias_of_targets,
    blockwise_rival_terms,
    plain_split_terms,
    scale_gradient,
    shared,
)
from logitlab.functional.targets import look_at_target
from logitlab.temperature import LeastSquares

from ..checks import read_kappa, refuse_kappa
from ..fusing import has_direction, logits_of_terms
from .classes import draw_classes, place_targets
from .handshake import agree_on_batch, loud
from .inference import ShardedInference, fill
from .reduction import reduce_over_ranks
from .scale import Scale, choose_scale, of_all


class ShardedLoss(ShardedInference):
    """Base of ``ShardedHead``; it is of no use alone."""

    def _loss(self, features: Tensor, target: Tensor, override: float | Tensor | None, reduction: Reduction) -> Tensor:
        batch = features.shape[:-1]
        target, all_count = self._look_at(target, features)
        safe = target if all_count else torch.where(target == self.ignore_index, 0, target)
        rows = scale_gradient(features.reshape(-1, self.in_features), self._factor)
        classes, number = safe.reshape(-1), batch.numel()
        rows, filled = self._fill_up(rows, classes)
        placement = place_targets(self.ranks.gather(filled, "targets"), self.ranks, self.num_classes)
        counts = (
            filled >= 0 if all_count else (filled >= 0) & (fill(target.reshape(-1), len(filled)) != self.ignore_index)
        )
        scale = self._scale(override, rows, batch, placement, filled >= 0, counts)
        weight: Tensor = self.weight
        bias = None if self.bias is None else self.bias.to(at_least_float32(self.bias))
        drawn = placement
        if self.training and self.sample_share < 1:
            index, drawn = draw_classes(placement, self.classes.number, self.sample_share, self.ranks)
            weight, bias = weight.index_select(0, index), None if bias is None else bias.index_select(0, index)
        kappa = scale.kappa
        if self.centers > 1:
            wide = rows.to(at_least_float32(rows, weight))
            terms = plain_split_terms(wide, weight, placement, kappa, bias, self.classifier, self.centers, self.ranks)
        else:
            terms, chosen = blockwise_rival_terms(
                rows, weight, drawn, kappa, bias, self.classifier, scale.search, refine=scale.refine, ranks=self.ranks
            )
            if chosen is not None:
                sound = (terms.rivals + terms.target_score).detach().isfinite() & has_direction(rows)
                every = of_all(self, chosen.kappa, (filled >= 0) & sound)
                chosen = chosen._replace(certified=chosen.certified[:number].view(batch))
                kappa = cast(LeastSquares, self.temperature).take(chosen, sound, every)
        safe_filled = filled.clamp_min(0)
        logits = logits_of_terms(self.margin, self.classifier, terms, rows, safe_filled, kappa)
        if bias is not None:
            logits = logits + bias_of_targets(bias, drawn, self.ranks)
        gap = (terms.rivals - logits)[:number].view(batch)
        if not all_count:
            gap = loud(gap, safe, self.num_classes)
        return reduce_over_ranks(self, gap, target, all_count, reduction)

    def _look_at(self, target: Tensor, features: Tensor) -> tuple[Tensor, bool]:
        """The target checked, as a dense head does; a rank that refuses its batch tells the others."""
        shape = features.new_empty(()).expand(*features.shape[:-1], self.num_classes)
        try:
            _refuse_probabilities(target)
            return look_at_target(target, shape, self.ignore_index)
        except InputError:
            if self.ranks.size > 1 and self._tells_sizes(features.detach()):
                agree_on_batch(self.ranks, 0, features.requires_grad, True, features.device)
            raise

    @property
    def _factor(self) -> int:
        """What the gradients of the backbone will be divided by."""
        return self.ranks.size if self.data_parallel else 1

    def _scale(
        self,
        override: float | Tensor | None,
        rows: Tensor,
        batch: torch.Size,
        placement: Placement,
        given: Tensor,
        counts: Tensor,
    ) -> Scale:
        if self.classifier != "cosine":
            refuse_kappa(override)
            return Scale(None)
        if override is None:
            return choose_scale(self, rows, placement, given, counts)
        like = rows.new_empty(0, dtype=at_least_float32(rows, self.weight))
        kappa = read_kappa(override, batch, like)
        if values_at_hand(kappa) and not bool((kappa > 0).all()):
            raise InputError(f"Expected a positive 'kappa'. Got {float(kappa.min())}.")
        if kappa.ndim == 0:
            # Each rank sees the gradient of its own samples.
            return Scale(shared(kappa, self.ranks, "κ") if kappa.requires_grad else kappa)
        # Made by the backbone, whose gradients are divided as those of the features are.
        return Scale(scale_gradient(fill(kappa.reshape(-1), len(rows), 1.0), self._factor))

    def _drop(self, features: Tensor) -> Tensor:
        """Features after dropout in training; in bfloat16 they stay beside a weight of it, for the products' sake."""
        if features.dtype != self.weight.dtype or features.dtype != torch.bfloat16:
            features = features.to(at_least_float32(features, self.weight))
        if self.training and self.keep_probability < 1:
            return nn.functional.dropout(features, p=1 - self.keep_probability)
        return features


def _refuse_probabilities(target: Tensor) -> None:
    if is_soft(target):
        raise InputError("A ShardedHead takes class indices only. Got probabilities (label smoothing, Mixup?).")
