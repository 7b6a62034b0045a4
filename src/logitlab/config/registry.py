"""What users register by name in modules of their own: one rule for all kinds but heads, which came first."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Generic, TypeVar

from .errors import ParameterError
from .names import unknown_name
from .source import code_digest, file_digest

Made = TypeVar("Made", bound=Callable[..., Any])

_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Registry(Generic[Made]):
    """Functions or classes of users, by name.

    Args:
        kind: what they are, in one or two words, such as ``"stage"``.
        decorator: name of the decorator, for the messages.
        built_in: gives the names that are taken.
        check: says in a sentence why something cannot be registered under a name; None when it can.

    >>> stages = Registry("stage", "register_stage", built_in=lambda: ("ood",))
    >>> @stages.register("mine")
    ... def mine(stage):
    ...     return {"answer": 42.0}
    >>> stages.names(), stages["mine"] is mine
    (['mine'], True)
    """

    def __init__(
        self,
        kind: str,
        decorator: str,
        *,
        built_in: Callable[[], Collection[str]],
        check: Callable[[str, Any], str | None] = lambda name, made: None,
    ) -> None:
        self.kind = kind
        self._decorator = decorator
        self._built_in = built_in
        self._check = check
        self._made: dict[str, Made] = {}
        # Of files: what stood there when it was registered, which is what runs.
        self._sources: dict[str, str | None] = {}

    def register(self, name: str, *, overwrite: bool = False) -> Callable[[Made], Made]:
        """Return a decorator that makes what it decorates known by name, and gives it back unchanged.

        Args:
            name: lower-case letters, digits and underscores.
            overwrite: replace what was registered under this name before.

        Raises:
            ParameterError: the name is taken or cannot be written everywhere, or what is decorated does not fit.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ParameterError(
                f"The name of a {self.kind} must be lower-case letters, digits and underscores, as in "
                f"@{self._decorator}('mine'). Got {name!r}."
            )
        if name in self._built_in():
            raise ParameterError(f"The {self.kind} '{name}' is built in. Choose another name.")
        if name in self._made and not overwrite:
            raise ParameterError(
                f"The {self.kind} '{name}' is registered already, by '{self.module(name)}'. Choose another name, or "
                "overwrite=True."
            )

        def register(made: Made) -> Made:
            fault = None if callable(made) else f"it must be called. Got {made!r}"
            fault = fault or self._check(name, made)
            if fault:
                raise ParameterError(f"The {self.kind} '{name}' cannot be registered: {fault}.")
            self._made[name] = made
            self._sources[name] = file_digest(made)
            return made

        return register

    def forget(self, name: str) -> None:
        """Take a name out again; nothing happens where it is not known."""
        self._made.pop(name, None)
        self._sources.pop(name, None)

    def names(self) -> list[str]:
        """Return what is registered, sorted."""
        return sorted(self._made)

    def module(self, name: str) -> str | None:
        """Return the module whose import registers ``name``; None where nobody registered it."""
        return self._made[name].__module__ if name in self._made else None

    def source(self, name: str) -> str | None:
        """Return the SHA-256 of the code behind ``name``; None where nobody registered it.

        Of its file as it was when it was registered, or, in a notebook, of the function and all it reaches there.
        """
        return (self._sources[name] or code_digest(self._made[name])) if name in self._made else None

    def unknown(self, name: str, others: Iterable[str] = ()) -> str:
        """Say that a name is not known, with the nearest one of these and of ``others``."""
        return unknown_name(self.kind, name, [*self._made, *others])

    def items(self) -> Mapping[str, Made]:
        """Return name → what is registered."""
        return dict(self._made)

    def __contains__(self, name: object) -> bool:
        return name in self._made

    def __getitem__(self, name: str) -> Made:
        return self._made[name]
