"""Two gloo processes train as one does, and only the first leaves anything."""

from __future__ import annotations

import os
import socket
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from preloaded import Python, run_python, server, start
from torch import nn

from logitlab.cli.main import main
from logitlab.config.errors import ConfigurationError, TrialError
from logitlab.config.torchrun import Launch, torchrun_launch
from logitlab.config.training import TrainingConfig
from logitlab.data import MemoryImages
from logitlab.heads import Classifier, create_head
from logitlab.models import load_checkpoint
from logitlab.records import Store
from logitlab.studies import compare
from logitlab.training import fit
from logitlab.training.distributed import Ranks, joined

CPU = torch.device("cpu")
LAUNCHED = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}

# Head, its parameters, and the recipe: 33 images in batches of 7 leave 5, of 10 leave 3, of which the second process
# gets none.
CASES = {
    "penalties": ("final_l2", {"beta": 0.01, "weight_penalty": 0.1}, {"batch_size": 7}),
    "a process without images": ("softmax", {}, {"batch_size": 10, "optimizer": "adamw", "ema_decay": 0.9}),
    "class weights": ("sigmoid", {"class_weight": [1.0, 2.0, 5.0]}, {"batch_size": 8}),
    "mixup and crops": ("cosine", {"kappa": 5.0}, {"batch_size": 7, "mixup": 0.5, "augmentation": "crop_flip"}),
    "labels that do not count": ("logit_penalty", {"beta": 0.01, "ignore_index": 0}, {"batch_size": 8}),
    "ignored and weighted": ("softmax", {"ignore_index": 1, "class_weight": [1.0, 2.0, 5.0]}, {"batch_size": 7}),
    # One step: the energies of κ* nearly tie, and a single process with weights that differ by 1e-7 ends elsewhere too.
    "running mean of kappa": ("cosine_ls", {}, {"batch_size": 33, "epochs": 1}),
    "clipping": ("label_smoothing", {}, {"batch_size": 7, "clip_gradient_norm": 0.1, "early_stopping_epochs": 1}),
}


def images() -> MemoryImages:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (33, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return MemoryImages(pixels, torch.arange(33) % 3)


def train(case: str, **changes):
    head, parameters, recipe = CASES[case]
    torch.manual_seed(0)
    # Batch normalisation after a convolution and after a linear layer: its statistics are those of all processes.
    backbone = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.Tanh(),
        nn.Flatten(),
        # A bias before batch normalisation has a gradient of rounding alone, which AdamW would blow up.
        nn.Linear(144, 6, bias=False),
        nn.BatchNorm1d(6),
    )
    model = Classifier(backbone, create_head(head, 6, 3, **parameters))
    config = TrainingConfig(**({"epochs": 3, "learning_rate": 0.01} | recipe | changes))
    return fit(model, images(), images(), config, seed=1)


def launch(rank: int, port: int) -> Launch:
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK="0")
    torch.set_num_threads(1)
    return Launch(rank, 2, 0)


def train_all(rank: int, port: int, folder: str) -> None:
    with joined(launch(rank, port), CPU):
        for case in CASES:
            run = train(case)
            history = [list(vars(epoch).values()) for epoch in run.history]
            torch.save((run.model.state_dict(), history, run.selected_epoch), Path(folder, f"{case}.{rank}.pt"))
        with pytest.raises(TrialError) as diverged:
            train("clipping", learning_rate=1e30, clip_gradient_norm=None)
        Path(folder, f"diverged.{rank}").write_text(str(diverged.value))
        with pytest.raises(ConfigurationError, match="at least 2 for each of 2 processes. Got 3"):
            train("penalties", batch_size=3)


def fail_alone(rank: int, port: int, folder: str) -> None:
    with joined(launch(rank, port), CPU, patience=timedelta(seconds=20)) as ranks:
        ranks.sum(torch.ones(1))
        if rank == 1:
            os._exit(3)
        began = time.monotonic()
        with pytest.raises(RuntimeError):
            all(ranks.sum(torch.ones(1)) for _ in range(1000))
        Path(folder, "noticed").write_text(str(time.monotonic() - began))


def reach_this_file(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let another process find this file under the name that pytest gave it; return a free port."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[len(__name__.split(".")) - 1])
    return free_port()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


def assert_close(found, expected, what: str) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, msg=lambda text: f"{what}: {text}")


def numbers(history) -> torch.Tensor:
    """A row an epoch, without κ* in the last column: it jumps between energies that tie to the last digit."""
    return torch.tensor([[float(value or 0) for value in epoch] for epoch in history])[:, :-1]


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path, monkeypatch):
    method = server().get_start_method()
    arguments = (reach_this_file(monkeypatch), str(tmp_path))
    torch.multiprocessing.start_processes(train_all, arguments, nprocs=2, start_method=method)
    for case in CASES:
        alone = train(case)
        found = [torch.load(tmp_path / f"{case}.{rank}.pt", weights_only=True) for rank in range(2)]
        for weights, epochs, selected in found:
            for name, value in alone.model.state_dict().items():
                assert_close(weights[name], value, f"{case}, {name}")
            # Losses and accuracies of training and validation: each image was counted once.
            assert_close(numbers(epochs), numbers(vars(epoch).values() for epoch in alone.history), case)
            assert selected == alone.selected_epoch
        for name, value in found[0][0].items():
            assert torch.equal(value, found[1][0][name]), f"{case} {name}: the processes part"
    told = [(tmp_path / f"diverged.{rank}").read_text() for rank in range(2)]
    assert told[0] == told[1]
    assert told[0].startswith(("The loss of the head", "The head 'model' gives a validation loss"))


@pytest.mark.slow
def test_a_process_that_dies_is_noticed(tmp_path, monkeypatch):
    port = reach_this_file(monkeypatch)
    processes = [server().Process(target=fail_alone, args=(rank, port, str(tmp_path))) for rank in range(2)]
    for process in processes:
        start(process)
    for process in processes:
        process.join(60)
    # Nobody ended the survivor: it noticed by itself, and long before its patience was at an end.
    assert [process.exitcode for process in processes] == [0, 3]
    assert float((tmp_path / "noticed").read_text()) < 20


@pytest.mark.parametrize("count", range(1, 40))
@pytest.mark.parametrize("size", [2, 3, 4])
def test_parts_make_up_the_batch(count, size):
    parts = [Ranks(Launch(rank, size, rank), None).part(count) for rank in range(size)]
    assert [index for part in parts for index in range(count)[part]] == list(range(count))
    sizes = [part.stop - part.start for part in parts if part.stop > part.start]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 2 or count == 1
    measured = [index for rank in range(size) for index in range(count)[Ranks(Launch(rank, size, rank), None).mine]]
    assert sorted(measured) == list(range(count))


@pytest.fixture
def launched(monkeypatch):
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)


def test_torchruns_environment_is_read(launched, monkeypatch):
    assert torchrun_launch() == Launch(1, 2, 1)
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(ConfigurationError, match="Got 2, 2, 1; start with torchrun, or unset them"):
        torchrun_launch()
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert torchrun_launch() is None
    monkeypatch.delenv("MASTER_ADDR")
    assert torchrun_launch() is None


def test_compare_refuses_torchrun(launched, tmp_path, capsys):
    with pytest.raises(ConfigurationError, match="torchrun started 2 processes, and 'compare' would do the same"):
        compare("digits", out=tmp_path / "runs")
    assert main(["compare", "digits", "--out", str(tmp_path / "runs")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def as_torchrun_does(*command: str) -> tuple[str, str]:
    """Run a command twice at once, with the environment of torchrun, which starts two fresh Pythons for seconds."""
    environment = {**os.environ, **LAUNCHED, "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    with ExitStack() as stack:
        ranks = [
            stack.enter_context(Python(*command, env=environment | {"RANK": rank, "LOCAL_RANK": rank})) for rank in "01"
        ]
        outputs, errors = zip(*(rank.communicate(240) for rank in ranks))
        assert [rank.returncode for rank in ranks] == [0, 0], errors
    return b"".join(outputs).decode(), b"".join(errors).decode()


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [[], ["--freeze-backbone"]])
def test_torchrun_leaves_one_record_and_one_answer(tmp_path, frozen):
    command = ["-m", "logitlab", "train", "digits", "--head", "cosine_ls", "--backbone", "mlp", "--epochs", "2"]
    options = ["--train-limit", "101", "--device", "cpu", "--out", str(tmp_path), *frozen]
    if frozen:
        output, errors = as_torchrun_does(*command, *options)
    else:
        done = run_python("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command, *options)
        assert done.returncode == 0, done.stderr
        output, errors = done.stdout, done.stderr
    assert output.count("miss_ap ") == output.count("Took ") == 1
    assert errors.count("[1/1] cosine_ls") == 1
    (identity,) = Store(tmp_path).identities()
    record = Store(tmp_path).record(identity)
    assert record["provenance"]["processes"] == 2
    assert record["result"]["images"]["train"] == 101
    assert sorted(path.name for path in (tmp_path / "trials" / identity).iterdir()) == [
        "README.md",
        "model.json",
        "model.safetensors",
        "ood",
        "outputs.npz",
        "record.json",
    ]
    load_checkpoint(tmp_path / "trials" / identity)
    # The same command finds it done.
    as_torchrun_does(*command, *options)
    assert Store(tmp_path).record(identity) == record
