"""What Ctrl-C and SIGTERM do to a running study: one Ctrl-C drains it, a second one or SIGTERM ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any


class Terminated(KeyboardInterrupt):
    """The study was ended by SIGTERM; to Python code it is a Ctrl-C.

    Attributes:
        exit_code: 128 + SIGTERM, what a shell expects of a command that ended so.
    """

    exit_code = 143


class Interruption:
    """Whether the user wants the study to end.

    Attributes:
        draining: Ctrl-C was pressed once: what runs may finish, nothing new starts.
    """

    def __init__(self, say: Callable[[str], None], drain: bool = True) -> None:
        self.draining = False
        self._drain = drain
        self._ending = False
        self._say = say

    def interrupt(self, number: int, frame: FrameType | None) -> Any:
        """Answer SIGINT.

        Raises:
            KeyboardInterrupt: it is the second one, or nothing is drained.
        """
        if self._ending:
            return
        if self.draining or not self._drain:
            self._ending = True
            raise KeyboardInterrupt
        self.draining = True
        # The signal may have come in the middle of a write to the same stream, which cannot be entered twice.
        with suppress(RuntimeError):
            self._say(
                "Interrupted: trials that run are finished, no new ones start. Press Ctrl-C again to stop at once; "
                "the next call then resumes them after their last epoch."
            )

    def terminate(self, number: int, frame: FrameType | None) -> Any:
        """Answer SIGTERM.

        Raises:
            Terminated: always, unless the study is ending already.
        """
        if not self._ending:
            self._ending = True
            raise Terminated


@contextmanager
def interruptible(say: Callable[[str], None], drain: bool = True) -> Iterator[Interruption]:
    """Answer the signals inside; outside of the main thread, and where they are ignored, nothing changes.

    Args:
        say: shows one sentence.
        drain: whether one Ctrl-C lets finish what runs; False for ending at once.
    """
    interruption = Interruption(say, drain)
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        # A program with an answer of its own to SIGTERM keeps it; Ctrl-C that is ignored (nohup, &) stays so.
        if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None):
            before[signal.SIGINT] = signal.signal(signal.SIGINT, interruption.interrupt)
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            before[signal.SIGTERM] = signal.signal(signal.SIGTERM, interruption.terminate)
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
