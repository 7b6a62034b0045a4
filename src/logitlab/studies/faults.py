"""Gather every fault of a user's input before saying any."""

from __future__ import annotations

from types import TracebackType

from ..config.errors import ConfigurationError, LogitLabError


class Faults:
    """A list of sentences that grows while checks go on.

    Attributes:
        sentences: what was found wrong, one sentence a fault.

    >>> faults = Faults()
    >>> with faults:  # notes what is raised inside, and goes on after the block
    ...     raise ConfigurationError(["one", "two"])
    >>> faults.add("three")
    >>> faults.sentences
    ['one', 'two', 'three']
    """

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def add(self, *sentences: str) -> None:
        """Note faults; one that is known already is not repeated."""
        self.sentences.extend(sentence for sentence in sentences if sentence not in self.sentences)

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(fault, ConfigurationError):
            self.add(*fault.faults)
        elif isinstance(fault, LogitLabError):
            self.add(str(fault))
        return isinstance(fault, LogitLabError)

    def raise_all(self) -> None:
        """Raise all that was noted.

        Raises:
            ConfigurationError: something was noted.
        """
        if self.sentences:
            raise ConfigurationError(self.sentences)
