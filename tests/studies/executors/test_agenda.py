"""The agenda: what comes next, what others hold, and what is added meanwhile."""

import pytest

from logitlab.records import Store
from logitlab.records.claims import take_claim
from logitlab.records.study import StageSource
from logitlab.studies.agenda import Agenda, Task
from logitlab.studies.executors import Job, run_in_processes, run_serial


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def finish(store, trial):
    store.write_record(trial.identity, trial.model_dump(mode="json"), {"test": {}}, {})


def test_trials_come_in_order_and_each_once(store, make_trials, diary):
    first, second, third = make_trials("well", "well", "well")
    agenda = Agenda([first, second, first], store, diary.trial_ended, diary.notice)
    agenda.add([second, third])
    assert len(agenda) == 3
    assert [agenda.take().trial for _ in range(3)] == [first, second, third]
    # Taken or not, it is known.
    agenda.add([first])
    assert agenda.take() is None
    assert not agenda


def test_what_is_done_when_its_turn_comes_is_told_and_may_add_more(store, make_trials, diary):
    first, second, third = make_trials("well", "well", "well")

    def ended(trial):
        diary.trial_ended(trial)
        agenda.add([third])

    agenda = Agenda([first, second], store, ended, diary.notice)
    finish(store, first)
    assert agenda.take().trial == second
    assert diary.events == [("ended", first.identity)]
    assert agenda.take().trial == third


def test_what_others_hold_comes_last(store, make_trials, diary, monkeypatch):
    monkeypatch.setattr("logitlab.studies.agenda.POLL_SECONDS", 0.0)
    first, second = make_trials("well", "well")
    agenda = Agenda([first, second], store, diary.trial_ended, diary.notice)
    with take_claim(store.trial_folder(first.identity)):
        assert agenda.take().trial == second
        assert agenda.take() is None
        assert agenda.take() is None
        assert len(agenda) == 1
    assert agenda.take().trial == first
    # Said once.
    assert len(diary.events) == 1


def test_a_trial_that_died_comes_last_and_remembers(store, make_trials, diary):
    agenda = Agenda(make_trials("well", "well"), store, diary.trial_ended, diary.notice)
    task = agenda.take()
    agenda.try_again(task)
    agenda.take()
    again = agenda.take()
    assert (again.trial, again.attempt, again.deaths) == (task.trial, 1, 1)
    other = Agenda((), store, diary.trial_ended, diary.notice)
    other.adopt([again])
    assert other.take() is again


STAGE = StageSource(name="linear_probe", identity="0123456789abcdef")


def test_a_trial_without_test_images_has_neither_sets_nor_stages(store, make_trials, diary):
    from logitlab.records import OodSource

    (final,) = make_trials("well")
    search = final.model_copy(update={"seed": 1, "measure_test": False})
    noise = (OodSource("noise", "noise", "a" * 64),)
    agenda = Agenda([final, search], store, diary.trial_ended, diary.notice, noise, (STAGE,))
    assert [(task.ood, task.stages) for task in (agenda.take(), agenda.take())] == [(noise, (STAGE,)), ((), ())]


def test_a_trial_has_ended_when_its_stages_have(store, make_trials):
    from logitlab.records.stages import write_stage

    (trial,) = make_trials("well")
    finish(store, trial)
    assert Task(trial, 1).ended(store)
    assert not Task(trial, 1, stages=(STAGE,)).ended(store)
    write_stage(store.trial_folder(trial.identity), STAGE, {"accuracy": 0.5}, {})
    assert Task(trial, 1, stages=(STAGE,)).ended(store)
    # Or failed, after this study began.
    other = StageSource(name="linear_probe", identity="f" * 16)
    assert not Task(trial, 1, stages=(other,)).ended(store)
    store.write_error(trial.identity, trial.model_dump(mode="json"), {"kind": "TrialError", "message": "no"})
    assert Task(trial, 1, stages=(other,)).ended(store)


@pytest.mark.parametrize("run", [run_serial, lambda *arguments: run_in_processes(*arguments, workers=2)])
def test_trials_that_come_to_be_known_by_the_end_of_others_run_too(run, store, fake_trials, make_trials, diary):
    trials = make_trials(*["well"] * 6)

    class Grows(type(diary)):
        def trial_ended(self, trial):
            super().trial_ended(trial)
            place = trials.index(trial)
            agenda.add(trials[2 * place + 1 : 2 * place + 3])

    grows = Grows()
    agenda = Agenda(trials[:1], store, grows.trial_ended, grows.notice)
    run(Job(fake_trials.run_fake, store.root), agenda, grows)
    assert all(store.is_done(trial.identity) for trial in trials)
    assert sum(event[0] == "ended" for event in grows.events) == 6


def test_stages_reach_the_trial_function(store, make_trials, diary):
    seen = []

    def function(trial, root, *, stages=(), **options):
        seen.append(stages)
        finish(store, trial)

    def simple(trial, root, *, device, data_root, report, ood):
        finish(store, trial)

    first, second = make_trials("well", "well")
    run_serial(Job(function, store.root, stages=(STAGE,)), [first], diary)
    # A function that knows no stages serves studies without them.
    run_serial(Job(simple, store.root), [second], diary)
    assert seen == [(STAGE,)]
    assert store.is_done(second.identity)
