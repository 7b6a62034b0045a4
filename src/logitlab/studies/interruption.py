"""What Ctrl-C and SIGTERM do to a running study: one Ctrl-C drains it, a second one or SIGTERM ends it at once."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_SECONDS_TO_END = 2.0


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

    def __init__(self, say: Callable[[str], None], drain: bool = True, at_once: bool = True) -> None:
        self.draining = False
        self._drain = drain
        self._at_once = at_once
        self._ending: KeyboardInterrupt | None = None
        self._raised = -math.inf
        self._say = say

    def interrupt(self, number: int, frame: FrameType | None) -> Any:
        """Answer SIGINT.

        Raises:
            KeyboardInterrupt: it is the second one, or nothing is drained, and the study ends at once.
        """
        if self.draining or not self._drain:
            self._end(KeyboardInterrupt())
            return
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
            Terminated: the study ends at once.
        """
        self._end(Terminated())

    def check(self) -> None:
        """End the study here if a signal asked for it.

        Raises:
            KeyboardInterrupt: a second Ctrl-C came, or (as ``Terminated``) SIGTERM.
        """
        if self._ending is not None:
            raise self._ending

    @contextmanager
    def raising(self) -> Iterator[None]:
        """End the study by the first Ctrl-C inside, where it finds the program: nothing runs yet that could finish.

        Raises:
            KeyboardInterrupt: it came, or came before.
        """
        if self.draining:
            raise KeyboardInterrupt
        self.check()
        before = self._drain, self._at_once
        self._drain, self._at_once = False, True
        try:
            yield
        finally:
            self._drain, self._at_once = before

    def _end(self, fault: KeyboardInterrupt) -> None:
        if self._ending is None:
            self._ending = fault
        # Pressed in anger it comes many times, and the first one cleans up. But Python loses an exception that a signal
        # raises while it closes a generator or frees an object: whoever asks again later gets it again.
        if self._at_once and time.monotonic() - self._raised > _SECONDS_TO_END:
            self._raised = time.monotonic()
            raise self._ending


@contextmanager
def interruptible(say: Callable[[str], None], drain: bool = True, at_once: bool = True) -> Iterator[Interruption]:
    """Answer the signals inside; outside of the main thread, and where they are ignored, nothing changes.

    Args:
        say: shows one sentence.
        drain: whether one Ctrl-C lets finish what runs; False for ending with the first one.
        at_once: raise where the signal finds the program; False for a program that often asks ``check``.
    """
    interruption = Interruption(say, drain, at_once)
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
