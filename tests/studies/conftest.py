import signal
import sys
from pathlib import Path

import pytest

from logitlab.config.training import TrainingConfig
from logitlab.config.trial import ComponentConfig, DataConfig, TrialConfig


@pytest.fixture(autouse=True)
def _ctrl_c_is_heard():
    """A shell that starts the tests in the background lets them ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def fake_trials(monkeypatch):
    """The module of trial functions that a spawned process can import."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import fake_trials

    yield fake_trials
    sys.modules.pop("fake_trials", None)


@pytest.fixture
def make_trials():
    def make(*behaviours, seed=0, epochs=2):
        return [
            TrialConfig(
                data=DataConfig(),
                data_fingerprint="f",
                backbone=ComponentConfig(name="mlp"),
                head=ComponentConfig(name="softmax", parameters={"behaviour": behaviour, "number": number}),
                training=TrainingConfig(epochs=epochs),
                seed=seed,
            )
            for number, behaviour in enumerate(behaviours)
        ]

    return make


class Diary:
    """A reporter that remembers."""

    def __init__(self):
        self.events = []

    def prepare(self):
        """Comes before every start; the tests look at what follows."""

    def start(self, trials, pending, workers):
        self.events.append(("start", len(trials), len(pending), workers))

    def notice(self, text):
        self.events.append(("notice", text))

    def trial_started(self, trial):
        self.events.append(("started", trial.identity))

    def epoch(self, progress):
        self.events.append(("epoch", progress.identity, progress.epoch))

    def trial_ended(self, trial, record=None):
        self.events.append(("ended", trial.identity, *(() if record is None else ("error" in record,))))

    def reporting(self):
        """Comes between the last trial and the end; the tests look at the trials."""

    def stop(self):
        self.events.append(("stop",))

    def of(self, identity):
        return [event for event in self.events if identity in event[1:2]]


@pytest.fixture
def diary():
    return Diary()


PLUGIN = '''
from logitlab.heads import Head, register_head


@register_head("mine")
def mine(in_features, num_classes, behaviour="well", number=0):
    """A head of one's own; ``behaviour`` speaks to the fake trial."""
    if behaviour == "unbuildable":
        raise KeyError("no such key")
    return Head(in_features, num_classes)
'''


@pytest.fixture
def own_modules(monkeypatch):
    """Undo what importing a user's modules changes in this process."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("logitlab.heads.registry._REGISTERED", {})
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if "plugin" in name:
            del sys.modules[name]


@pytest.fixture
def plugin(tmp_path, own_modules):
    """A file that registers the head ``mine``."""
    path = tmp_path / "plugin_of_mine.py"
    path.write_text(PLUGIN)
    return path


@pytest.fixture
def study(tmp_path, fake_trials, plugin, monkeypatch, diary):
    """``compare`` without training: fake trials, the small data set, one's own head ``mine``."""
    from logitlab.studies import compare

    monkeypatch.setattr("logitlab.training.execute", fake_trials.run_fake, raising=False)

    def run(*heads, **changes):
        values = {
            "heads": heads or ["softmax", "mine"],
            "backbone": "mlp",
            "seeds": 2,
            "epochs": 2,
            "plugins": [str(plugin)],
            "out": tmp_path / "runs",
            "executor": "serial",
            # The fake trials leave no model to measure.
            "ood": (),
            # Pictures have tests of their own, and take seconds.
            "report": False,
            "progress": diary,
        }
        return compare(**{**values, **changes})

    return run


@pytest.fixture
def small_study():
    """Four real trials by an executor; returns identity -> digest of the result."""
    from logitlab.config.study import ExecutionConfig
    from logitlab.records import Store
    from logitlab.studies.agenda import Agenda
    from logitlab.studies.executors import Job, deliver
    from logitlab.studies.plan import plan_comparison
    from logitlab.training import execute

    def run(root, executor, cache=None, **options):
        data = {"name": "digits", "train_limit": 200}
        plan = plan_comparison(
            data={"image_size": None, "validation_fraction": 0.1, "split_seed": 0, **data},
            heads=["softmax", "cosine_ls"],
            backbone="small_cnn",
            training={"epochs": 2},
            seeds=2,
            out=root,
            executor="process",
            workers=None,
            device="cpu",
            data_root=None,
            plugins=(),
            options=(),
        )
        store, listener = Store(root), Diary()
        agenda = Agenda(plan.trials, store, listener.trial_ended, listener.notice)
        deliver(Job(execute, root, cache=cache), agenda, listener, ExecutionConfig(executor=executor, **options))
        return {trial.identity: store.record(trial.identity)["result_sha256"] for trial in plan.trials}

    return run
