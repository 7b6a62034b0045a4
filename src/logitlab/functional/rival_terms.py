r"""What every softmax loss on a class index needs of a sample, without holding more than the scores.

.. math:: r = \log \sum_{c \ne y} e^{\kappa z_c + b_c}, \qquad z_y, \qquad
    \ell = \operatorname{softplus}\big(r - (\kappa\,\varphi(z_y) + b_y)\big)

Only the target's score carries a margin φ, so margins, class weights and reductions stay what they are elsewhere:
ordinary autograd, on one number a sample. What grows with the classes is done here by hand, a block of classes at a
time: products of the raw weight, whose lengths are divided out of the scores and not out of ``[C, D]`` numbers; no
normalised weight, no gradient of scores, nothing of ``[N, C]`` but the scores themselves.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .class_chunks import LOG2_E, MASKED, ClassChunks, lay_out, positions
from .cross_entropy import rival_logsumexp
from .least_squares.certified import Masked, propose, search_certified
from .least_squares.gram import GRAM_CLASSES, gram_matrix, search_gram
from .least_squares.search import Chosen, candidate_tensor
from .normalization import are_ordinary, length, normalize

#: ``"cosine"``: z = x̃·w̃; ``"unit_weight"``: z = x·w̃; ``"linear"``: z = x·w.
Classifier = Literal["cosine", "unit_weight", "linear"]


class RivalTerms(NamedTuple):
    """What a loss on class indices is made of, a number a sample.

    Attributes:
        rivals: r, ``[N]``.
        target_score: z_y, ``[N]``.
        target_length: ‖w_y‖ for a linear classifier, whose margin asks for it; otherwise 1; ``[N]``.
    """

    rivals: Tensor
    target_score: Tensor
    target_length: Tensor


class KappaSearch(NamedTuple):
    """How κ is found for each sample on the way.

    Attributes:
        candidates: positive, increasing.
        multiplier: factor on what is found.
        surrogate: whether the least surrogate energy is enough.
    """

    candidates: tuple[float, ...]
    multiplier: float = 1.0
    surrogate: bool = False


class Kept(NamedTuple):
    """What the forward pass keeps for the gradients.

    Attributes:
        storage: scores of all classes, laid out as ``class_chunks.lay_out`` says.
        rows: x̃ or x, ``[N, D]``.
        inverse_row_length: 1/‖x‖, ``[N, 1]``, zero for a zero row; None where x is taken as it is.
        inverse_length: 1/‖w_c‖, ``[C]``; None where w is taken as it is.
        mean_weight: Σ_{c != y} p_c w̃_c, ``[N, D]``, if a search has computed it; otherwise None.
        extreme: whether rows of the weight are so short or long that unit rows took their place, bool scalar.
        reference: the largest score of the rivals, with a bias the largest logit, ``[N, 1]``.
        total: their exponentials relative to it, summed, ``[N, 1]``.
    """

    storage: Tensor
    rows: Tensor
    inverse_row_length: Tensor | None
    inverse_length: Tensor | None
    mean_weight: Tensor | None
    extreme: Tensor
    reference: Tensor
    total: Tensor


def plain_rival_terms(
    features: Tensor,
    weight: Tensor,
    target: Tensor,
    kappa: Tensor | None = None,
    bias: Tensor | None = None,
    classifier: Classifier = "cosine",
) -> RivalTerms:
    """The formulas as they stand, by ordinary autograd: what the fast version must equal.

    Args:
        features: x, float32 at least, ``[N, D]``.
        weight: W, ``[C, D]``, at least two classes.
        target: class indices y in [0, C), int64 ``[N]``.
        kappa: κ, a scalar or ``[N]``; None for 1.
        bias: b, ``[C]``, or None.
        classifier: what the scores are.

    >>> terms = plain_rival_terms(torch.tensor([[2.0, 0.0]]), torch.eye(2), torch.tensor([0]), torch.tensor(3.0))
    >>> terms.rivals, terms.target_score
    (tensor([0.]), tensor([1.]))
    """
    weight = weight.to(features.dtype)
    rows = normalize(features) if classifier == "cosine" else features
    scores = F.linear(rows, weight if classifier == "linear" else normalize(weight))
    own = target.unsqueeze(1)
    logits = scores if kappa is None else scores * (kappa.unsqueeze(1) if kappa.ndim else kappa)
    rivals = rival_logsumexp(logits if bias is None else logits + bias, target)
    return RivalTerms(rivals, scores.gather(1, own).squeeze(1), _target_length(weight, target, classifier, rows.dtype))


def forward_rival_terms(
    features: Tensor,
    weight: Tensor,
    target: Tensor,
    kappa: Tensor | None,
    bias: Tensor | None,
    classifier: Classifier,
    search: KappaSearch | None,
) -> tuple[RivalTerms, Kept, Chosen | None]:
    """The forward pass of the fast version.

    Args:
        features: float32 at least, ``[N, D]``, N >= 1.
        weight: ``[C, D]``, any floating dtype.
        target: class indices in [0, C), int64 ``[N]``.
        kappa: a scalar or ``[N]``; None for 1, or where it is searched for.
        bias: ``[C]``, of the dtype of the features, or None.
        classifier: what the scores are.
        search: how κ is found; None where it is given. Only for cosines.
    """
    features = features.contiguous()
    rows, inverse_row_length = _unit_rows(features) if classifier == "cosine" else (features, None)
    target_length = _target_length(weight, target, classifier, rows.dtype)
    weight, inverse_length, extreme = _rows_of_weight(weight, rows.dtype, classifier)
    storage, chunks = _scores(rows, weight, inverse_length)
    place = positions(target, len(weight))
    target_score = storage[place]
    chosen, reference, mean_weight = None, None, None
    if search is not None and inverse_length is not None:
        candidates = candidate_tensor(search.candidates, rows.dtype, rows.device)
        if len(weight) <= GRAM_CLASSES and not search.surrogate:
            chosen = _choose_by_gram(storage, weight, inverse_length, candidates)
        storage[place] = MASKED
        if chosen is None:
            target_row = weight.index_select(0, target).to(rows.dtype)
            masked = Masked(target_score, target_row.mul_(inverse_length[target].unsqueeze(1)))
        if search.surrogate:
            proposed, reference = propose(chunks, candidates, masked)
            chosen = Chosen(proposed.to(rows.dtype), torch.zeros_like(target, dtype=torch.bool), "surrogate")
        elif chosen is None:
            found = search_certified(chunks, rows, candidates, masked)
            chosen, reference = Chosen(candidates[found.candidate], found.certified, "certified"), found.reference
            if search.multiplier == 1 and bias is None:
                # What the search has rebuilt is what the gradient of the feature needs.
                total = found.total.unsqueeze(1)
                mean_weight = found.combination.div_(total)
        kappa = chosen.kappa * search.multiplier
    storage[place] = MASKED
    factor = as_factor(kappa)
    known = None if reference is None or bias is not None else reference.unsqueeze(1)
    if mean_weight is None or known is None:
        known, total = _sum(chunks, factor, bias, known)
    storage[place] = target_score
    rivals = (total.log() + (known if bias is not None else known * factor)).squeeze(1)
    kept = Kept(storage, rows, inverse_row_length, inverse_length, mean_weight, extreme, known, total)
    return RivalTerms(rivals, target_score, target_length), kept, chosen


def _target_length(weight: Tensor, target: Tensor, classifier: Classifier, dtype: torch.dtype) -> Tensor:
    if classifier == "linear":
        return length(weight.index_select(0, target).to(dtype))
    return torch.ones(target.shape, dtype=dtype, device=weight.device)


def _unit_rows(features: Tensor) -> tuple[Tensor, Tensor]:
    """x̃ and 1/‖x‖, zero for a zero row."""
    row_length = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    if are_ordinary(row_length):
        inverse = row_length.reciprocal()
        return features * inverse, inverse
    rows = normalize(features)
    inverse = length(features).unsqueeze(1).reciprocal()
    return rows, torch.where(rows.any(dim=1, keepdim=True), inverse, 0.0)


def _rows_of_weight(weight: Tensor, dtype: torch.dtype, classifier: Classifier) -> tuple[Tensor, Tensor | None, Tensor]:
    """Rows of the weight to multiply, what their scores are divided by, and whether they had to be made unit rows."""
    inverse_length: Tensor | None = None
    extreme = False
    if classifier != "linear":
        lengths = torch.linalg.vector_norm(weight, dim=1, dtype=dtype)
        extreme = not are_ordinary(lengths)
        if extreme:
            weight = normalize(weight.to(dtype))
            lengths = torch.ones_like(lengths)
        inverse_length = lengths.reciprocal()
    return weight, inverse_length, torch.tensor(extreme)


def _scores(rows: Tensor, weight: Tensor, inverse_length: Tensor | None) -> tuple[Tensor, ClassChunks]:
    storage = rows.new_empty(len(rows) * len(weight))
    chunks = lay_out(storage, weight, inverse_length)
    for chunk in chunks:
        torch.mm(rows, chunk.weight.to(rows.dtype).t(), out=chunk.cosine)
        if chunk.inverse_length is not None:
            chunk.cosine.mul_(chunk.inverse_length)
    return storage, chunks


def _choose_by_gram(storage: Tensor, weight: Tensor, inverse_length: Tensor, candidates: Tensor) -> Chosen:
    """So few classes stand in one block, so that the storage is the matrix of cosines."""
    cosine = storage.view(-1, len(weight))
    found = search_gram(cosine, gram_matrix(weight.to(cosine.dtype), inverse_length), candidates)
    return Chosen(candidates[found.candidate], found.certified, "gram")


def as_factor(kappa: Tensor | None) -> Tensor | float:
    """κ as a factor of the scores: a number, a scalar or ``[N, 1]``."""
    if kappa is None:
        return 1.0
    return kappa.unsqueeze(1) if kappa.ndim else kappa


def _sum(
    chunks: ClassChunks, kappa: Tensor | float, bias: Tensor | None, reference: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The largest score (with a bias: logit) of the rivals, unless it is known, and the sum relative to it."""
    unit = kappa * LOG2_E if bias is None else LOG2_E
    total: Tensor | None = None
    largest: Tensor | None = reference
    for chunk in chunks:
        here = chunks.largest_of(chunk, kappa, bias) if reference is None else reference
        here_total = chunks.powers(chunk, kappa, bias, here).sum(dim=1, keepdim=True)
        if total is None or largest is None:
            total, largest = here_total, here
        elif reference is not None:
            total += here_total
        else:
            highest = torch.maximum(largest, here)
            total = total * ((largest - highest) * unit).exp2_() + here_total * ((here - highest) * unit).exp2_()
            largest = highest
    assert total is not None
    assert largest is not None
    return largest, total
