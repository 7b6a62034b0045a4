"""Three epochs, kill -9, and the rest: the same result as in one go."""

import os
import random
import warnings

import numpy
import pytest
import torch
from preloaded import run_python
from torch import nn

from logitlab.config.training import TrainingConfig
from logitlab.heads import Classifier, create_head
from logitlab.records import Store
from logitlab.training import Trainer, WeightAverage, create_optimizer, create_schedule, execute, fit
from logitlab.training.snapshot import Snapshot, Standing, own_generators

RUN_UNTIL_KILLED = """
import os, pathlib, signal, sys, torch
torch.set_num_threads(1)
from logitlab.config.trial import TrialConfig
from logitlab.training import execute

def report(progress):
    if progress.epoch == 3:
        os.kill(os.getpid(), signal.SIGKILL)

execute(TrialConfig.model_validate_json(sys.argv[1]), pathlib.Path(sys.argv[2]), report=report)
"""

RECIPES = {
    "everything": {
        "ema_decay": 0.9,
        "mixup": 0.2,
        "early_stopping_epochs": 4,
        "schedule": "polynomial",
        "clip_gradient_norm": 5.0,
        "sampler": "class_balanced",
    },
    "adamw, steps": {"optimizer": "adamw", "learning_rate": 0.01, "schedule": "step", "step_epochs": 2},
    # The kill comes after the last epoch and before the record.
    "stopped early": {"early_stopping_epochs": 2, "learning_rate": 1e-9},
}


def kill_after_three_epochs(trial, root):
    process = run_python("-c", RUN_UNTIL_KILLED, trial.model_dump_json(), root)
    assert process.returncode == -9, process.stderr


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_three_epochs_kill_9_and_three_epochs_equal_six(tmp_path, make_trial, recipe):
    trial = make_trial("cosine_ls", epochs=6, **RECIPES[recipe])
    execute(trial, tmp_path / "whole")
    whole = Store(tmp_path / "whole").record(trial.identity)
    cut = Store(tmp_path / "cut")
    kill_after_three_epochs(trial, cut.root)
    folder = cut.trial_folder(trial.identity)
    assert [path.name for path in folder.iterdir()] == ["snapshot.pt"]
    if recipe == "stopped early":
        assert len(whole["result"]["history"]) == 3
    epochs = []
    execute(trial, cut.root, report=lambda progress: epochs.append(progress.epoch))
    resumed = cut.record(trial.identity)
    assert resumed["result"] == whole["result"]
    assert resumed["result_sha256"] == whole["result_sha256"]
    folders = [Store(root).trial_folder(trial.identity) for root in (tmp_path / "whole", cut.root)]
    weights = [(folder / "model.safetensors").read_bytes() for folder in folders]
    assert weights[0] == weights[1]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in (tmp_path / "whole" / "trials" / trial.identity).iterdir()
    )
    assert not list(folder.glob(".*"))
    # The kept epoch is told at once, so that bars stand where they stood.
    assert epochs == [entry["epoch"] for entry in whole["result"]["history"]][2:]
    assert resumed["provenance"]["resumed_epochs"] == 3
    assert resumed["provenance"]["warnings"] == []


class Draws(nn.Module):
    """A backbone that draws from the generators of Python and NumPy, as a user's may."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 8)

    def forward(self, images):
        return self.layer(images.flatten(1)) * (1 + random.random() + numpy.random.rand())


class StopError(Exception):
    """Stands for a kill."""


RECIPE = TrainingConfig(epochs=4, batch_size=16, ema_decay=0.9, early_stopping_epochs=4)


def train(images, path, *, stop=None, config=RECIPE, backbone=Draws, identity="one"):
    torch.manual_seed(0)
    model = Classifier(backbone(), create_head("cosine_ls", 8, 3))

    def report(epoch):
        if epoch.epoch == stop:
            raise StopError

    return fit(model, images, images, config, report=report, snapshot=Snapshot(path, identity))


def equal(first, second):
    weights = second.model.state_dict()
    return first.history == second.history and all(
        torch.equal(value, weights[name]) for name, value in first.model.state_dict().items()
    )


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_every_epoch_can_be_the_last_before_a_kill(bars, tmp_path, stop):
    whole = train(bars, tmp_path / "a.pt")
    with pytest.raises(StopError):
        train(bars, tmp_path / "b.pt", stop=stop)
    assert equal(train(bars, tmp_path / "b.pt"), whole)


def test_the_generators_are_given_back(bars, tmp_path):
    random.seed(5)
    numpy.random.seed(5)
    expected = (random.random(), numpy.random.rand(), torch.rand(1).item())
    random.seed(5)
    numpy.random.seed(5)
    torch.manual_seed(0)
    with pytest.raises(StopError):
        train(bars, tmp_path / "a.pt", stop=2)
    train(bars, tmp_path / "a.pt")
    torch.manual_seed(0)
    assert (random.random(), numpy.random.rand(), torch.rand(1).item()) == expected
    with own_generators():
        random.seed(1)
        first = random.random()
    random.seed(1)
    assert random.random() == first


def damage_the_weights(path):
    """Flip one bit of the largest entry of the archive."""
    import zipfile

    with zipfile.ZipFile(path) as archive:
        entry = max(archive.infolist(), key=lambda info: info.file_size)
    content = bytearray(path.read_bytes())
    content[entry.header_offset + 200] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), "not a zip file"),
        (lambda path: path.write_bytes(b""), "not a zip file"),
        (damage_the_weights, "it is damaged at"),
        (lambda path: torch.save({"trial": "one"}, path), "it lacks 'format version'"),
        (lambda path: torch.save(Draws(), path), "it holds objects that are not read from a file"),
    ],
)
def test_a_snapshot_that_cannot_be_used_is_said_in_words_and_training_starts_anew(bars, tmp_path, spoil, words):
    whole = train(bars, tmp_path / "a.pt")
    path = tmp_path / "b.pt"
    with pytest.raises(StopError):
        train(bars, path, stop=2)
    spoil(path)
    with pytest.warns(UserWarning, match=f"cannot be used: .*{words}.*\\. Training begins anew\\.$"):
        again = train(bars, path)
    assert equal(again, whole)


def test_a_snapshot_of_something_else_is_not_taken(bars, tmp_path, monkeypatch):
    path = tmp_path / "a.pt"
    with pytest.raises(StopError):
        train(bars, path, stop=2)
    with pytest.warns(UserWarning, match="its trial is one, not two"):
        train(bars, path, identity="two")
    monkeypatch.setattr(torch, "__version__", "9.9")
    with pytest.warns(UserWarning, match=r"its version of torch is .*, not 9\.9"):
        train(bars, path, identity="two")


class Wider(Draws):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 8, bias=False)


def test_weights_that_do_not_fit_leave_the_run_as_it_was(bars, tmp_path):
    whole = train(bars, tmp_path / "a.pt", backbone=Wider)
    with pytest.raises(StopError):
        train(bars, tmp_path / "b.pt", stop=2)
    with pytest.warns(UserWarning, match="Unexpected key"):
        again = train(bars, tmp_path / "b.pt", backbone=Wider)
    assert equal(again, whole)


def test_a_disk_that_takes_no_snapshot_is_said_and_training_goes_on(bars, tmp_path, monkeypatch):
    whole = train(bars, tmp_path / "a.pt")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match="Cannot keep a snapshot in .*: No space left on device"):
        again = train(bars, tmp_path / "b" / "b.pt")
    assert equal(again, whole)
    assert list((tmp_path / "b").iterdir()) == []


LIMITED = """
import pathlib, resource, sys, warnings, torch
from torch import nn
from logitlab.config.training import TrainingConfig
from logitlab.data import MemoryImages
from logitlab.heads import Classifier, create_head
from logitlab.training import fit
from logitlab.training.snapshot import Snapshot

images = MemoryImages(torch.arange(256, dtype=torch.uint8).view(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]))
model = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 400)), create_head("softmax", 400, 2))
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    run = fit(model, images, images, TrainingConfig(epochs=2), snapshot=Snapshot(pathlib.Path(sys.argv[1]), "x"))
print(len(run.history), *{str(entry.message) for entry in caught}, sep=chr(10))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_a_disk_that_fills_up_in_the_middle_of_a_snapshot(tmp_path):
    """The fault passes through torch's own writer, which has other words for it."""
    done = run_python("-c", LIMITED, tmp_path / "trial" / "snapshot.pt")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "2",
        "Cannot keep a snapshot in 'trial': File too large. Training goes on; if it is killed, it begins anew.",
    ]
    assert list((tmp_path / "trial").iterdir()) == []


def test_the_state_is_that_of_the_average_too(tmp_path):
    """The number of updates sets the momentum of the next one."""

    def trainer():
        torch.manual_seed(0)
        model = Classifier(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4)), create_head("softmax", 4, 2))
        config = TrainingConfig(epochs=2)
        optimizer = create_optimizer(model, config)
        return Trainer(model, optimizer, create_schedule(optimizer, config, 3), config, WeightAverage(model, 0.99))

    generator = torch.Generator().manual_seed(0)
    batches = [(torch.randn(4, 1, 2, 2, generator=generator), torch.tensor([0, 1, 0, 1])) for _ in range(3)]
    first, second = trainer(), trainer()
    first.epoch(batches, 0)
    snapshot = Snapshot(tmp_path / "a.pt", "x")
    snapshot.save(first, Standing(epochs=1))
    assert Snapshot(tmp_path / "a.pt", "x").restore(second).epochs == 1
    for name, value in first.average.state_dict().items():
        assert torch.equal(second.average.state_dict()[name], value), name
    assert first.average.state_dict()["n_averaged"] == 3
    first.epoch(batches, 1)
    second.epoch(batches, 1)
    for name, value in first.average.state_dict().items():
        assert torch.equal(second.average.state_dict()[name], value), name


def test_a_trial_that_diverges_leaves_no_snapshot(tmp_path, make_trial):
    trial = make_trial(learning_rate=1e30)
    execute(trial, tmp_path)
    assert [path.name for path in Store(tmp_path).trial_folder(trial.identity).iterdir()] == ["error.json"]


def test_seconds_of_earlier_attempts_count(bars, tmp_path):
    path = tmp_path / "a.pt"
    with pytest.raises(StopError):
        train(bars, path, stop=2)
    snapshot = Snapshot(path, "one")
    assert snapshot.seconds == 0
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(Classifier(Draws(), create_head("cosine_ls", 8, 3)), bars, bars, RECIPE, snapshot=snapshot)
    assert snapshot.seconds > 0
    assert snapshot.resumed_epochs == 2
