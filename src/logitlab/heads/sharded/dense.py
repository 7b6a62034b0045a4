"""A sharded head and the dense one: the whole on every rank, and a dense state dict taken apart."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..head import Head
from .attributes import Sharded
from .classes import ClassRange

#: Numbers that travel at once while a weight is gathered.
_ELEMENTS = 2**24


class ShardedState(Sharded):
    """Base of ``ShardedHead``; it is of no use alone."""

    @property
    def rows_here(self) -> slice:
        """Rows of the dense weight that this rank has."""
        return slice(self.classes.start * self.centers, self.classes.end * self.centers)

    def to_dense(self) -> Head:
        """The dense head with the weight of all ranks, on every rank; all must call it.

        It has the class and the arguments of the head that was split, this head's temperature and margin as they are
        now, its training mode, and a weight of its own. Each rank holds the whole weight then, ``C * centers * D``
        numbers beside its own rows, and on the way up to 2**24 numbers more.
        """
        head = self._meta_head(self.num_classes)
        with torch.no_grad():
            weight = self._whole(self.weight, self.centers)
            head.weight = nn.Parameter(weight, self.weight.requires_grad)
            if self.bias is not None:
                head.bias = nn.Parameter(self._whole(self.bias, 1), self.bias.requires_grad)
        head.class_weight = None if self.class_weight is None else self.class_weight.clone()
        head.loss_function = copy.deepcopy(self.loss_function)
        if self.temperature is not None:
            head.set_temperature(copy.deepcopy(self.temperature))
        if self.margin is not None:
            head.set_margin(copy.deepcopy(self.margin))
        return head.train(self.training)

    def _meta_head(self, num_classes: int) -> Head:
        """A fresh dense head of the same kind that takes no memory."""
        arguments = {**self._arguments, "num_classes": num_classes, "kappa": None, "tau": None}
        # What moves to the meta device must not be anybody else's.
        arguments["loss"] = copy.deepcopy(arguments["loss"])
        arguments["temperature"] = None if self.temperature is None else self.temperature.fresh()
        arguments["margin"] = None if self.margin is None else copy.deepcopy(self.margin.fresh())
        head = self._template.__new__(self._template)
        Head.__init__(head, **arguments, device="meta", dtype=self.weight.dtype)
        return head

    def _whole(self, part: Tensor, rows_a_class: int) -> Tensor:
        """The rows of all ranks, gathered some at a time."""
        ranks = self.ranks
        whole = part.new_empty(self.num_classes * rows_a_class, *part.shape[1:])
        held = [ClassRange.of(rank, ranks.size, self.num_classes) for rank in range(ranks.size)]
        # The first rank has most.
        most = held[0].number * rows_a_class
        at_once = max(1, _ELEMENTS // (ranks.size * max(part[:1].numel(), 1)))
        for first in range(0, most, at_once):
            number = min(at_once, most - first)
            block = part.new_zeros(number, *part.shape[1:])
            here = part[first : first + number]
            block[: len(here)] = here
            every = ranks.gather(block, "the whole weight")
            for rank, classes in enumerate(held):
                start = classes.start * rows_a_class + first
                known = min(number, classes.number * rows_a_class - first)
                if known > 0:
                    whole[start : start + known] = every[rank * number : rank * number + known]
        return whole

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        # So that the rows of another rank, of which there may be as many, are told from these.
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]]["classes"] = tuple(self.classes)

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        entries = dict(state_dict)
        told = local_metadata.get("classes")
        for name, rows, here in (
            ("weight", self.num_classes * self.centers, self.rows_here),
            ("bias", self.num_classes, slice(*self.classes)),
        ):
            own, given = getattr(self, name), state_dict.get(prefix + name)
            if own is None or not isinstance(given, Tensor) or given.shape[1:] != own.shape[1:] or given.ndim == 0:
                continue  # torch's own words are the right ones
            if len(given) == rows:
                entries[prefix + name] = (
                    given[here].clone() if "assign_to_params_buffers" in local_metadata else given[here]
                )
            elif len(given) != len(own) or (told is not None and tuple(told) != tuple(self.classes)):
                whose = f"classes {told[0]}:{told[1]}" if told is not None else f"{len(given)} rows"
                error_msgs.append(
                    f"'{prefix}{name}' holds {whose} of a sharded head; rank {self.ranks.rank} of {self.ranks.size} "
                    f"has classes {self.classes.start}:{self.classes.end} of {self.num_classes}. A state dict of a "
                    "sharded head fits the same rank of as many ranks only: use logitlab.save_sharded and "
                    "load_sharded, or the state dict of to_dense()."
                )
                entries[prefix + name] = own.detach()
        super()._load_from_state_dict(
            entries, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
