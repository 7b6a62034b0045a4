"""What a process imports on its first trial, imported before the clock of that trial starts."""

from __future__ import annotations

from functools import lru_cache

import torch


@lru_cache(maxsize=1)
def warm_up() -> None:
    """Import what torch, scikit-learn and SciPy import at their first use: some 900 modules, seconds in all.

    Without it the first trial of each process would look slower than the others, and with it the head that
    happens to come first. Random numbers are left as they were.
    """
    # A step of any optimiser brings in torch's compiler; a measure brings in scikit-learn's.
    weight = torch.zeros(1, requires_grad=True)
    weight.grad = torch.zeros(1)
    torch.optim.SGD([weight], lr=0.0).step()
    import sklearn.metrics  # noqa: F401
    import torchvision.transforms.v2  # noqa: F401
