"""A head with more classes than one device can hold: each rank of a process group has some of them."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from logitlab.config.errors import ParameterError
from logitlab.config.parameters import Range
from logitlab.functional import Reduction, autocast_off
from logitlab.functional.blockwise import (
    Ranks,
    Traffic,
)
from logitlab.functional.precision import at_least_float32
from logitlab.margins import Margin, follow_optimizer
from logitlab.temperature import Temperature

from ..checks import check_features
from ..head import Head
from ..parameters import class_weight_tensor
from .classes import ClassRange
from .dense import ShardedState
from .handshake import look_at_shards
from .initialization import draw_rows
from .loss import ShardedLoss
from .parts import margin_of, temperature_of
from .support import find_obstacles, temperature_obstacle

_SHARE = Range(0, 1, low_included=False)


class ShardedHead(ShardedState, ShardedLoss):
    r"""A cosine, margin or softmax head whose classes are split over the ranks of a process group.

    Every rank holds the weight of some classes and gets the features of its own samples. ``head(features, target)`` is
    the loss over the batches of all ranks, the same number on each; loss, gradients and κ* are those of the dense head
    on all samples at once (on a GPU, in large batches, κ* of a sample may be left undecided: docs/scale.md). Every rank
    must make the same calls. Of what grows with the classes a rank holds its share:
    the weight, its gradient, what the optimiser keeps, and the scores of all samples with its own classes.

    The backbone is one for all ranks, in ``DistributedDataParallel`` or FSDP, which divide the sum of its gradients by
    the number of ranks; the gradient of the features is multiplied by it, so that the backbone gets that of the loss.

    .. code-block:: python

        head = ll.ShardedHead(ll.create_head("arcface", 512, 1_000_000, device="meta"))
        model = ll.Classifier(DistributedDataParallel(backbone), head)

    With the head inside what is wrapped, ``DistributedDataParallel(ll.keep_shards_local(model))``. ``clip_gradients``
    clips by the length over all ranks; a ``GradScaler`` must be one that lets all ranks skip the same steps, such as
    ``torch.distributed.fsdp.sharded_grad_scaler.ShardedGradScaler`` with this head's group. ``save_sharded`` and
    ``load_sharded`` keep checkpoints for any number of ranks; ``state_dict`` is that of the classes here, and
    ``load_state_dict`` also takes its rows of a dense head's.

    Args:
        head: what to split, such as ``create_head`` gives. Built with ``device="meta"`` it takes no memory, and each
            rank draws the weight of its own classes, the same for any number of ranks. Otherwise each rank takes its
            rows, and the temperature and the margin as they are; the heads of all ranks must be equal.
        group: of torch.distributed; None for the default group, or for one process where there is none.
        sample_share: the share of the classes that takes part in a step of training, in (0, 1]: the targets of the
            batch, and others at random (PartialFC). At least as many as there are samples. The sum over the rivals, κ*
            and its energy then refer to the classes drawn (``MaximumLikelihood``, ``RuleOfThumb`` and the dynamic
            ``AdaCos`` look at all); the others have no gradient in that step, but momentum and decay of the optimiser,
            and a penalty on the weight, move them. Evaluation takes all.
        data_parallel: whether something divides the gradients of the backbone by the number of ranks.
        uneven_batches: whether ranks may bring different numbers of samples; they tell each other how many, which waits
            for a GPU, and whether one has refused its batch. None: on the CPU only; elsewhere other numbers of samples
            on another rank, or features that need a gradient on some ranks only, end in whatever the group makes of it.
        device: of the weight; None for that of ``head``, and for one on the meta device the CPU.
        dtype: of the weight; None for that of ``head``.

    Attributes:
        weight: of the classes here, ``[c, D]`` (``[c * centers, D]``).
        bias: of the classes here, ``[c]``, or None.
        classes: which they are, ``ClassRange(start, end)``.
        ranks: the group, as it counts what it exchanges.

    Raises:
        ParameterError: every fault at once: of the parameters, and why the head cannot be split.

    References:
        An et al., Killing Two Birds with One Stone: Efficient and Robust Training of Face Recognition CNNs by Partial
        FC, CVPR 2022 (class sampling). docs/scale.md has the exchanges.

    >>> head = ShardedHead(Head(8, 3, classifier="cosine", temperature="least_squares"))  # one process has them all
    >>> head(torch.ones(2, 8), torch.tensor([0, 2])).shape, head.classes
    (torch.Size([]), ClassRange(start=0, end=3))
    """

    def __init__(
        self,
        head: Head,
        *,
        group: dist.ProcessGroup | None = None,
        sample_share: float = 1.0,
        data_parallel: bool = True,
        uneven_batches: bool | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(head, Head):
            raise ParameterError(f"Expected a Head to split, such as create_head gives. Got {type(head).__name__}.")
        if group is None and dist.is_available() and dist.is_initialized():
            group = dist.group.WORLD
        self.ranks = Ranks(group)
        faults = find_obstacles(head, self.ranks.size)
        share_fault = _SHARE.fault("ShardedHead", "sample_share", sample_share)
        faults += [share_fault] if share_fault else []
        if sample_share != 1 and head.centers > 1:
            faults.append("Classes of several centers cannot be sampled. Use sample_share=1, or centers=1.")
        if faults:
            raise ParameterError(faults)
        self._arguments = head._arguments
        self._new = True
        self._template = type(head)
        self.in_features = head.in_features
        self.num_classes = head.num_classes
        self.classifier = head.classifier
        self.centers = head.centers
        self.keep_probability = head.keep_probability
        self.weight_penalty = head.weight_penalty
        self.loss_scale = head.loss_scale
        self.ignore_index = head.ignore_index
        self.inference_kappa = head.inference_kappa
        self.sample_share = sample_share
        self.data_parallel = data_parallel
        self.uneven_batches = uneven_batches
        self.loss_function = copy.deepcopy(head.loss_function)
        self.classes = ClassRange.of(self.ranks.rank, self.ranks.size, self.num_classes)

        meta = head.weight.is_meta
        if device is None:
            device = "cpu" if meta else head.weight.device
        dtype = head.weight.dtype if dtype is None else dtype
        shape = (self.classes.number * self.centers, self.in_features)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype), head.weight.requires_grad)
        self.bias: nn.Parameter | None
        if head.bias is None:
            self.register_parameter("bias", None)
        else:
            self.bias = nn.Parameter(torch.zeros(self.classes.number, device=device, dtype=dtype))
        weights = class_weight_tensor(head._arguments["class_weight"])
        self.register_buffer("class_weight", None if weights is None else weights.to(device))
        self.temperature: Temperature | None = temperature_of(head, self.weight)
        self.margin: Margin | None = margin_of(head, self.weight)
        follow_optimizer(self)
        if meta:
            self.reset_parameters()
        else:
            with torch.no_grad():
                self.weight.copy_(head.weight[self.rows_here])
                if self.bias is not None and head.bias is not None:
                    self.bias.copy_(head.bias[slice(*self.classes)])
        self.train(head.training)

    @property
    def traffic(self) -> tuple[Traffic, ...]:
        """What this rank exchanged since the last forward pass began, its backward pass included."""
        return tuple(self.ranks.traffic)

    @property
    def kappa(self) -> Tensor | None:
        """The κ that scales at inference, a detached scalar; None for a head without a temperature."""
        return None if self.temperature is None else self.temperature.kappa.detach()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the weight as ``Head`` does, the same for any number of ranks; the bias is zero."""
        # Every rank draws, so that the generators stay alike; the first one's counts.
        seed = torch.randint(2**62, (1,), dtype=torch.int64).to(self.weight.device)
        draw_rows(self.weight, self.rows_here.start, int(self.ranks.from_first(seed, "the seed of the weight")))
        if self.bias is not None:
            self.bias.zero_()

    # A graph cannot hold what ranks tell each other by the values of a batch.
    @torch._disable_dynamo  # type: ignore[attr-defined]  # torch.compiler.disable would import the compiler at once
    def forward(
        self,
        features: Tensor,
        target: Tensor | None = None,
        *,
        kappa: float | Tensor | None = None,
        reduction: Reduction = "mean",
        return_logits: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Logits of this rank's samples without a target, the loss of all ranks' samples with one.

        Args:
            features: of this rank's samples, ``[..., D]``, any floating dtype.
            target: class indices, ``[...]``.
            kappa: use this κ instead of the temperature's: a number, or one value a sample, ``[...]``.
            reduction: ``"mean"`` and ``"sum"`` over the samples of all ranks; ``"none"``: one loss for each of this
                rank's samples.
            return_logits: give ``(loss, logits)``.

        Returns:
            Logits ``[..., C]`` of all classes, without gradient; or the loss; or both.

        Raises:
            InputError: shapes, dtypes or values that do not fit.
            RankError: another rank is gone.
        """
        check_features(features, self.in_features)
        if self._new and self.training and torch.is_grad_enabled():
            look_at_shards(self)
            self._new = False
        self.ranks.begin()
        with autocast_off(features.device):
            features = self._drop(features)
            if target is None:
                return self._logits(features, kappa)
            loss = self._loss(features, target, kappa, reduction)
            return (loss, self._logits(features, kappa)) if return_logits else loss

    def set_temperature(self, temperature: Temperature) -> None:
        """Replace the temperature; see ``Head.set_temperature``.

        Args:
            temperature: of cosines, of the same kind and state on every rank.

        Raises:
            ParameterError: it does not suit the head, or cannot choose κ where the classes are split.
        """
        template = self._meta_head(self.num_classes)
        template.set_temperature(copy.deepcopy(temperature))
        faults = temperature_obstacle(temperature)
        if faults:
            raise ParameterError(faults)
        temperature.attach(self.num_classes)
        self.temperature = temperature.to(self.weight.device, at_least_float32(self.weight)).train(self.training)

    def set_margin(self, margin: Margin) -> None:
        """Replace the margin; see ``Head.set_margin``.

        Args:
            margin: the same on every rank.

        Raises:
            ParameterError: it does not suit the classifier, or has not one number a class.
        """
        self._meta_head(self.num_classes).set_margin(copy.deepcopy(margin))
        margin.attach(self.num_classes)
        self.margin = margin.to(self.weight.device)
        follow_optimizer(self)

    def for_classes(self, num_classes: int) -> ShardedHead:
        """A fresh head of the same kind, temperature and group for another number of classes; every rank must ask.

        Args:
            num_classes: the new C.

        Raises:
            ParameterError: ``num_classes`` is out of range, or this head has a weight for each class.
        """
        head = ShardedHead(
            self._meta_head(num_classes),
            group=self.ranks.group,
            sample_share=self.sample_share,
            data_parallel=self.data_parallel,
            uneven_batches=self.uneven_batches,
            device=self.weight.device,
            dtype=self.weight.dtype,
        )
        return head.train(self.training)

    def loss(self, features: Tensor, target: Tensor, **options: Any) -> Tensor:
        """The loss; the same as ``head(features, target)``, with the same options."""
        return cast(Tensor, self(features, target, **options))

    def extra_repr(self) -> str:
        """Show the shape and the split."""
        parts = [f"{self.in_features}, {self.num_classes}, classifier={self.classifier!r}"]
        parts += [f"centers={self.centers}"] if self.centers > 1 else []
        parts += [f"classes={self.classes.start}:{self.classes.end}, rank={self.ranks.rank} of {self.ranks.size}"]
        parts += [f"sample_share={self.sample_share:g}"] if self.sample_share != 1 else []
        return ", ".join(parts)

    def __deepcopy__(self, memo: dict[int, Any]) -> ShardedHead:
        """A copy speaks to the same processes; its annealing follows the optimiser of its own weight."""
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        if twin.margin is not None:
            follow_optimizer(twin)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """A process group belongs to its processes."""
        raise TypeError(
            "A ShardedHead cannot be pickled: it belongs to the ranks of a process group. Save it by "
            "save_sharded, or as a dense head by to_dense."
        )
