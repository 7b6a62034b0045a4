"""A signal ends a study wherever it finds the program, even where Python loses what a handler raises."""

import multiprocessing
import os
import signal
import threading
import time

import pytest

from logitlab.records import Store
from logitlab.studies import interruption as module
from logitlab.studies.executors import Job, run_in_processes
from logitlab.studies.interruption import Terminated, interruptible


def send(number):
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # the handler runs before the next line


class SendsWhenFreed:
    """What its ``__del__`` raises, Python prints and forgets."""

    def __init__(self, number=signal.SIGTERM):
        self.number = number

    def __del__(self):
        send(self.number)


@pytest.fixture
def lost(monkeypatch):
    """The exceptions that Python lost; pytest would fail the test for them."""
    found = []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: found.append(unraisable.exc_type))
    return found


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_that_was_lost_counts_when_it_comes_again(lost, monkeypatch, number, kind):
    monkeypatch.setattr(module, "_SECONDS_TO_END", 0.05)
    with interruptible(print, drain=False) as interruption:
        freed = SendsWhenFreed(number)
        del freed
        assert lost == [kind]
        # As far as anybody knows, the first one is being answered at this moment.
        send(number)
        time.sleep(0.06)
        with pytest.raises(kind):
            send(number)
        with pytest.raises(kind):
            interruption.check()


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_where_it_only_leaves_a_mark_nothing_is_lost(lost, number, kind):
    said = []
    with interruptible(said.append, at_once=False) as interruption:
        interruption.check()
        freed = SendsWhenFreed(number)
        del freed
        if number == signal.SIGINT:
            assert interruption.draining
            assert len(said) == 1
            interruption.check()
            send(number)
        with pytest.raises(kind):
            interruption.check()
    assert lost == []
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_workers_end_when_the_signal_comes_while_an_object_is_freed(tmp_path, fake_trials, make_trials, diary, lost):
    class Frees(type(diary)):
        def epoch(self, progress):
            super().epoch(progress)
            freed = SendsWhenFreed()
            del freed

    trials = make_trials("sleep", "sleep", "well")
    began = time.monotonic()
    with pytest.raises(Terminated):
        run_in_processes(Job(fake_trials.run_fake, tmp_path), trials, Frees(), workers=2)
    assert time.monotonic() - began < 60
    assert lost == []
    assert multiprocessing.active_children() == []
    assert not any(Store(tmp_path).is_done(trial.identity) for trial in trials)


def test_another_thread_leaves_the_signals_alone():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    seen = []

    def work():
        with interruptible(print):
            seen.append((signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
