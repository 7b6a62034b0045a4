"""LDAM: a margin for each class, by how rare it is."""

from __future__ import annotations

from logitlab.config.errors import ParameterError
from logitlab.config.parameters import Range
from logitlab.functional import label_distribution_margins
from logitlab.functional.long_tail import ClassCounts, class_counts_fault

from .additive import AdditiveCosineMargin

MAX_MARGIN = Range(0, 2, high_included=False)


class LabelDistributionMargin(AdditiveCosineMargin):
    """LDAM: φ = cos θ - m_y, where m_y is largest for the rarest class. See ``functional.label_distribution_margins``.

    The paper re-weights the classes besides, late in training; ``class_weight`` of a head does so from the start.

    Args:
        max_margin: the margin of the rarest class, >= 0 in units of the cosine and below 2.
        class_counts: training samples of each class, positive, C of them; None for equally many, where every class
            has the largest margin.

    Raises:
        ParameterError: every fault at once.

    References:
        Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, NeurIPS 2019, §3.2.

    >>> import torch
    >>> margin = LabelDistributionMargin(0.5, class_counts=[16, 1])
    >>> margin(torch.tensor([0.75, 0.75]), torch.tensor([0, 1]))
    tensor([0.5000, 0.2500])
    """

    def __init__(self, max_margin: float = 0.5, class_counts: ClassCounts | None = None) -> None:
        owner = type(self).__name__
        faults = [
            MAX_MARGIN.fault(owner, "max_margin", max_margin),
            None if class_counts is None else class_counts_fault(owner, class_counts),
        ]
        if any(faults):
            raise ParameterError([fault for fault in faults if fault])
        by_class = None if class_counts is None else label_distribution_margins(class_counts, max_margin).tolist()
        super().__init__(max_margin if by_class is None else by_class)

    def attach(self, num_classes: int) -> None:
        """See that there are as many counts as classes. See ``Margin.attach``."""
        if isinstance(self.margin, tuple) and len(self.margin) != num_classes:
            raise ParameterError(
                f"The 'class_counts' parameter of {type(self).__name__} must be {num_classes} positive numbers, one a "
                f"class. Got {len(self.margin)} numbers instead."
            )
