"""One trial on several processes: torch's DistributedDataParallel with the gradients of a single process.

Each process sees the whole batch of a step, augmented and mixed as a single process would have it, and takes its
slice. A loss is a mean over the slice; its weight is the slice's share of the batch, so that the sum of all gradients
is the gradient of the batch, however uneven the slices are. Dropout draws on every process its own.

Buffers move by the mean of the processes' moves, weighted by their share: the running mean of κ is that of a single
process. Batch normalisation normalises by the whole batch, see :mod:`logitlab.training.batch_norm`.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, cast

import torch
from torch import Tensor, distributed
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from logitlab.config.errors import ConfigurationError
from logitlab.config.torchrun import Launch
from logitlab.functional.reduction import sample_weight
from logitlab.functional.targets import is_soft
from logitlab.heads import Classifier

from .batch_norm import SharedBatchNorm
from .seeds import derive_seed

# A process waits no longer than this for the others. Under torchrun one that fails ends all of them at once.
PATIENCE = timedelta(minutes=30)
_SECONDS_BETWEEN_LOOKS = 0.05
_SECONDS_TO_LEAVE = 10.0


class Ranks:
    """The processes that train one trial together.

    Attributes:
        rank: of this process, from 0. The process of rank 0 leads: it alone writes, prints and decides.
        size: how many there are.

    Args:
        launch: what torchrun said.
        store: where the leader's orders are left.
    """

    def __init__(self, launch: Launch, store: Store) -> None:
        self.rank = launch.rank
        self.size = launch.size
        self._store = store
        self._orders = 0

    @property
    def leads(self) -> bool:
        """Whether this process writes, prints and decides."""
        return self.rank == 0

    def call(self) -> None:
        """As the leader: let the others train the trial with this process."""
        self._order("train")

    def dismiss(self) -> None:
        """As the leader: let the others go, and give them a moment to hear of it."""
        until = time.monotonic() + _SECONDS_TO_LEAVE
        with suppress(RuntimeError):  # whoever failed took the store along
            self._order("leave")
            while self._store.add("left", 0) < self.size - 1 and time.monotonic() < until:
                time.sleep(_SECONDS_BETWEEN_LOOKS)

    def wait_for_call(self, give_up: Callable[[], bool] = lambda: False) -> bool:
        """As one of the others: wait, however long; True for training, False when it is time to leave.

        Args:
            give_up: asked again and again; True ends the waiting.
        """
        self._orders += 1
        key = f"order {self._orders}"
        # The store's own wait would not let Ctrl-C through.
        while not self._store.check([key]):
            if give_up():
                return False
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        called = bool(self._store.get(key) == b"train")
        if not called:
            self._store.add("left", 1)
        return called

    def sum(self, values: Tensor) -> Tensor:
        """Add up what the processes hold, on the device of training; every process gets the total."""
        total = values.clone()
        distributed.all_reduce(total)
        return total

    def agree(self, value: int, what: str, device: torch.device) -> None:
        """See that all processes hold the same number.

        Raises:
            ConfigurationError: they do not.
        """
        bounds = torch.tensor([value, -value], device=device)
        distributed.all_reduce(bounds, distributed.ReduceOp.MAX)
        high, low = int(bounds[0]), -int(bounds[1])
        if high != low:
            raise ConfigurationError(
                f"The processes of this training differ in {what}: from {low} to {high}. "
                "Give all of them the same images and the same folder."
            )

    def part(self, count: int) -> slice:
        """Return this process's part of a batch; sizes differ by one at most.

        No part has a single image, which some layers cannot take in training; a batch that is too small for that leaves
        the last processes none.

        Args:
            count: images in the batch.
        """
        parts = max(1, min(self.size, count // 2))
        if self.rank >= parts:
            return slice(0, 0)
        return slice(self.rank * count // parts, (self.rank + 1) * count // parts)

    @property
    def mine(self) -> slice:
        """This process's part of images that are only measured: every ``size``-th one."""
        return slice(self.rank, None, self.size)

    def _order(self, word: str) -> None:
        self._orders += 1
        self._store.set(f"order {self._orders}", word)


class Parallel:
    """A model that several processes train: its forward pass, and what must be shared after it.

    Args:
        model: the same on each process; that of the leader counts.
        ranks: the processes.
        batch_size: images in a whole batch.
        seed: of the trial.

    Raises:
        ConfigurationError: the batch is too small for so many processes.
    """

    def __init__(self, model: Classifier, ranks: Ranks, batch_size: int, seed: int) -> None:
        if batch_size < 2 * ranks.size:
            raise ConfigurationError(
                f"'batch_size' must be at least 2 for each of {ranks.size} processes. Got {batch_size}; take a larger "
                "batch or fewer processes."
            )
        self.ranks = ranks
        self._head = model.head
        self._seed = seed
        # Buffers are shared after the backward pass, by the mean, and not before the forward pass from the leader.
        # torch has given the option another name.
        known = inspect.signature(DistributedDataParallel).parameters
        option = next(name for name in ("forward_sync_buffers", "broadcast_buffers") if name in known)
        options: dict[str, Any] = {option: False}
        self._model = DistributedDataParallel(model, **options)
        # Of its own: DDP's sums of gradients are under way when batch normalisation's backward pass adds up.
        self._group = cast("distributed.ProcessGroup", distributed.new_group())
        self._buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self._before: list[Tensor] = []
        self._share = 0.0

    def forward(
        self, images: Tensor, target: Tensor, epoch: int, step: int, autocast: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the model on this process's part of a batch.

        Args:
            images: the whole batch, ``[B, ...]``.
            target: class indices ``[B]`` or probabilities ``[B, C]`` of the whole batch.
            epoch: from 0; with ``step`` it places the random numbers of dropout.
            step: from 0.
            autocast: run the backbone in bfloat16.

        Returns:
            this part's share of the batch's loss (the shares of all processes add up to it), the loss to call
            ``backward`` on (the gradients become those of the batch), and the number of right answers.
        """
        part = self.ranks.part(len(target))
        size = part.stop - part.start
        # A process without images of its own keeps step with the others on two of theirs that count for nothing.
        taken = part if size else slice(0, 2)
        # The leader draws as a single process would.
        if not self.ranks.leads:
            torch.manual_seed(derive_seed(self._seed, "step", epoch, step, self.ranks.rank))
        self._before = [buffer.clone() for buffer in self._buffers]
        with (
            torch.autocast(images.device.type, torch.bfloat16, enabled=autocast),
            SharedBatchNorm(self._group, counts=size > 0),
        ):
            loss, logits = self._model(images[taken], target[taken], return_logits=True)
        self._share = size / len(target)
        asked = target.argmax(1) if is_soft(target) else target
        right = (logits.detach().argmax(1) == asked[taken]).sum() if size else asked.new_zeros(())
        if not size:
            return loss.detach() * 0, loss * 0, right
        whole = self._weight(target)
        # Where no image of the batch counts, no share of it does.
        share = (self._weight(target[taken]) / torch.where(whole > 0, whole, torch.ones_like(whole))).to(loss.dtype)
        # DDP takes the mean over the processes.
        return loss.detach() * share, loss * (share * self.ranks.size), right

    def _weight(self, target: Tensor) -> Tensor:
        """What a mean over samples divides by; see ``logitlab.functional.reduction.reduce_loss``."""
        if is_soft(target):
            return torch.full((), len(target), dtype=torch.float64, device=target.device)
        counts = target != self._head.ignore_index
        weights = self._head.class_weight
        if weights is None:
            return counts.sum(dtype=torch.float64)
        return (sample_weight(torch.where(counts, target, 0), weights) * counts).sum(dtype=torch.float64)

    def share_buffers(self) -> None:
        """Move every buffer by the mean of what the processes moved theirs; what none moved stays to the bit.

        After the backward pass, which still needs the buffers of the forward pass.
        """
        if not self._buffers:
            return
        moved = [(now - before).flatten() for now, before in zip(self._buffers, self._before)]
        # A buffer of a part that does not count may not even be finite.
        total = torch.cat(moved) * self._share if self._share else torch.zeros_like(torch.cat(moved))
        total = self.ranks.sum(total)
        sizes = [buffer.numel() for buffer in self._buffers]
        for buffer, before, move in zip(self._buffers, self._before, torch.split(total, sizes)):
            buffer.copy_(before + move.view_as(before))


_current: Ranks | None = None


def current_ranks() -> Ranks | None:
    """Return the processes that :func:`joined` brought together; None for a process on its own."""
    return _current


@contextmanager
def apart() -> Iterator[None]:
    """Let this process train alone for a while, though others belong to it: they wait for its next call."""
    global _current
    before, _current = _current, None
    try:
        yield
    finally:
        _current = before


@contextmanager
def joined(launch: Launch, device: torch.device, patience: timedelta = PATIENCE) -> Iterator[Ranks]:
    """Bring the processes of one launch together, and let them go at the end.

    Args:
        launch: what torchrun said.
        device: a GPU of this process alone (NCCL), or the CPU (gloo).
        patience: how long a process waits for another before it gives up.
    """
    global _current
    if device.type == "cuda":
        torch.cuda.set_device(device)
    store, _, _ = next(rendezvous("env://", timeout=patience))
    distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=PrefixStore("group", store),
        rank=launch.rank,
        world_size=launch.size,
        timeout=patience,
    )
    _current = Ranks(launch, PrefixStore("orders", store))
    try:
        yield _current
    finally:
        _current = None
        distributed.destroy_process_group()
