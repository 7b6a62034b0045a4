"""The errors that a user can mend. The command line prints them without a traceback and exits with code 2."""

from __future__ import annotations

from collections.abc import Sequence

from .names import printable


class LogitLabError(Exception):
    r"""Base of all faults that come from outside: input, files, configuration, data.

    The message can be printed and recorded whatever bytes are in the name of the file that it is about.

    >>> print(LogitLabError("Cannot read 'caf\udce9.png'."))
    Cannot read 'caf\xe9.png'.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class ConfigurationError(LogitLabError, ValueError):
    """One or more faults of a configuration, all of them at once.

    Attributes:
        faults: one sentence a fault: what was expected, what came, what to do.

    >>> str(ConfigurationError(["epochs must be at least 1. Got -1."]))
    'epochs must be at least 1. Got -1.'
    """

    def __init__(self, faults: Sequence[str] | str) -> None:
        sentences = (faults,) if isinstance(faults, str) else faults
        self.faults: tuple[str, ...] = tuple(printable(sentence) for sentence in sentences)
        super().__init__("\n".join(self.faults))

    def __reduce__(self) -> tuple[type[ConfigurationError], tuple[tuple[str, ...]]]:
        """Keep the faults when a worker process sends the error home."""
        return type(self), (self.faults,)


class ParameterError(ConfigurationError):
    """A parameter outside its declared range, or a combination of parameters that means nothing."""


class InputError(LogitLabError, ValueError):
    """A tensor or an array of the wrong shape, dtype or range."""


class DataError(LogitLabError, ValueError):
    """A data set that is missing, unreadable or inconsistent; the message names the file or the label."""


class TrialError(LogitLabError, RuntimeError):
    """A trial that cannot go on, for instance because its loss is no longer finite."""


class RankError(LogitLabError, RuntimeError):
    """A process of the group that shares the classes is gone or does not answer; the message says at what."""


class RecordError(LogitLabError, ValueError):
    """A record of a trial that is missing, damaged, or cannot be said in JSON; the message names the file."""
