"""The file of a frozen backbone's features: whose they are, whether they are whole, and what a killed pass leaves."""

from __future__ import annotations

import json
import signal
import time

import pytest
import timm
import torch
from preloaded import run_python

from logitlab.config.errors import ConfigurationError, RecordError
from logitlab.config.trial import ComponentConfig
from logitlab.data import load_data, split_data
from logitlab.models import load_checkpoint
from logitlab.records import Store
from logitlab.studies import compare
from logitlab.training import build_model, execute, feature_file, frozen
from logitlab.training.feature_file import FeatureWriter, read_features

CPU = torch.device("cpu")

# A trial that may be killed in the middle of its pass.
KILLED = """
import os, signal, sys
from pathlib import Path
from logitlab.config.trial import ComponentConfig, DataConfig, TrialConfig
from logitlab.data import load_data
from logitlab.training import execute, frozen

_run = frozen._run

def until_killed(*arguments):
    for number, batch in enumerate(_run(*arguments)):
        yield batch
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2]:
    frozen._run = until_killed
trial = TrialConfig(
    data=DataConfig(name="digits"),
    data_fingerprint=load_data("digits").fingerprint,
    backbone=ComponentConfig(name="mlp"),
    head=ComponentConfig(name="softmax"),
    training={"epochs": 1, "freeze_backbone": True},
    seed=0,
)
execute(trial, Path(sys.argv[1]))
"""


def run(trial, root):
    execute(trial, root)
    return Store(root).record(trial.identity)


def feature_files(root):
    return sorted(path.name for path in (root / "features").iterdir() if path.suffix == ".safetensors")


def flipped(whole, part):
    """Turn one bit in the middle of a part."""
    length = int.from_bytes(whole[:8], "little")
    start, end = json.loads(whole[8 : 8 + length])[part]["data_offsets"]
    place = 8 + length + (start + end) // 2
    return whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]


@pytest.mark.filterwarnings("always")
def test_a_damaged_file_is_computed_again(tmp_path, make_trial):
    trial = make_trial("softmax", freeze_backbone=True, epochs=1)
    first = run(trial, tmp_path)
    (name,) = feature_files(tmp_path)
    path = tmp_path / "features" / name
    whole = path.read_bytes()
    assert first["provenance"]["warnings"] == []
    bits = [(flipped(whole, part), f"'{part}' is damaged") for part in ("train", "validation", "test", "pixel_mean")]
    for damage, words in [(whole[: len(whole) // 2], ""), (b"", ""), (b"nonsense" * 100, ""), *bits]:
        path.write_bytes(damage)
        (tmp_path / "trials" / trial.identity / "record.json").unlink()
        again = run(trial, tmp_path)
        assert again["result"] == first["result"]
        assert path.read_bytes() == whole
        (warning,) = again["provenance"]["warnings"]
        assert f"The features in 'features/{name}' cannot be used: {words}" in warning
        assert warning.endswith(". They are computed again.")


def write_small(path):
    with FeatureWriter(path, "these") as file:
        file.add("pixel_mean", 1, [torch.zeros(1)])
        file.add("pixel_std", 1, [torch.ones(1)])
        file.add("train", 3, [torch.arange(4.0).view(2, 2), torch.ones(1, 2)])


def test_features_of_something_else_are_not_taken(tmp_path):
    path = tmp_path / "f.safetensors"
    assert read_features(path, "these", {"train": 3}, 2) is None
    write_small(path)
    assert read_features(path, "these", {"train": 3}, 2)["train"].tolist() == [[0, 1], [2, 3], [1, 1]]
    for essence, rows, width, words in (
        ("these", {"train": 4}, 2, "'train' is not float32 of 4 x 2"),
        ("these", {"train": 3}, 3, "'train' is not float32 of 3 x 3"),
        ("these", {"train": 3, "test": 1}, 2, "'test' is not float32 of 1 x 2"),
        ("those", {"train": 3}, 2, "not of this backbone and these images"),
    ):
        with pytest.raises(RecordError, match=words):
            read_features(path, essence, rows, width)


def test_a_file_is_read_through_once_a_process_and_again_when_it_has_changed(tmp_path, monkeypatch):
    path, hashed = tmp_path / "f.safetensors", []
    write_small(path)
    bytes_of = feature_file._little_endian
    monkeypatch.setattr(feature_file, "_little_endian", lambda tensor: hashed.append(len(tensor)) or bytes_of(tensor))
    for _ in range(2):
        read_features(path, "these", {"train": 3}, 2)
    assert sorted(hashed) == [1, 1, 3]
    whole = path.read_bytes()
    time.sleep(0.02)  # the clock of a file system is coarse
    path.write_bytes(flipped(whole, "train"))
    with pytest.raises(RecordError, match="'train' is damaged"):
        read_features(path, "these", {"train": 3}, 2)


def test_an_interrupted_pass_leaves_nothing(tmp_path):
    def breaks():
        yield torch.zeros(1, 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), FeatureWriter(tmp_path / "f.safetensors", "") as file:
        file.add("train", 2, breaks())
    assert not list(tmp_path.iterdir())


def features(trial, root):
    split = split_data(load_data("digits"), trial.data)
    model = build_model(trial, channels=1, image_size=8, num_classes=10)
    return frozen.frozen_split(trial, split, model.backbone, root, CPU).test.features


def test_what_a_killed_process_left_is_removed_before_the_next_pass(tmp_path, make_trial):
    trial = make_trial(freeze_backbone=True)
    features(trial, tmp_path)
    (name,) = feature_files(tmp_path)
    folder = tmp_path / "features"
    (folder / name).unlink()
    other = folder / ".0123456789abcdef.safetensors.0123456789abcdef.tmp"
    for path in (*(folder / f".{name}.{number:016x}.tmp" for number in range(2)), other):
        path.write_bytes(b"half of it")
    features(trial, tmp_path)
    # Another process may be writing the other one at this moment.
    assert [path for path in folder.iterdir() if path.suffix == ".tmp"] == [other]


def test_nothing_is_removed_where_there_are_no_locks(tmp_path, make_trial, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refuses(*_):
        raise OSError("No locks available")

    removed = []
    monkeypatch.setattr(fcntl, "flock", refuses)
    monkeypatch.setattr(frozen, "remove_leftovers", removed.append)
    assert features(make_trial(freeze_backbone=True), tmp_path).shape[1] == 16
    assert removed == []


@pytest.mark.slow
def test_a_pass_that_is_killed_again_and_again_keeps_one_leftover(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    for kill, leftovers in (("yes", 1), ("yes", 1), ("", 0)):
        ended = run_python(script, tmp_path / "study", kill)
        assert ended.returncode == (-signal.SIGKILL if kill else 0), ended.stderr
        assert len(list((tmp_path / "study" / "features").glob(".*.tmp"))) == leftovers


def test_features_hang_on_weights_device_and_versions(make_trial, monkeypatch):
    trial = make_trial(freeze_backbone=True, backbone=ComponentConfig(name="test_resnet"))

    def backbone():
        return build_model(trial, channels=1, image_size=32, num_classes=10).backbone

    def essence(backbone, device="cpu"):
        return frozen._essence(trial, backbone, torch.device(device))

    start = essence(backbone())
    assert essence(backbone().to(memory_format=torch.channels_last)) == start
    changed = backbone()
    # The smallest change that there is, in a buffer.
    statistics = dict(changed.named_buffers())["model.bn1.running_mean"]
    statistics[0] = torch.nextafter(statistics[0], torch.tensor(1.0))
    others = [essence(changed), essence(backbone(), "meta")]
    describe = frozen.describe_environment
    for package in ("torch", "timm"):

        def another(device, package=package):
            return {"versions": describe(device)["versions"] | {package: "9.9"}}

        monkeypatch.setattr(frozen, "describe_environment", another)
        others.append(essence(backbone()))
    for number, other in enumerate(others):
        assert all(other != earlier for earlier in [start, *others[:number]])


def write_weights(path, seed):
    torch.manual_seed(seed)
    torch.save(timm.create_model("test_resnet", num_classes=0, in_chans=1).state_dict(), path)


def test_a_file_of_weights_is_told_by_what_is_in_it(tmp_path):
    def train(head, path):
        comparison = compare(
            "digits",
            heads=[head],
            backbone=f"test_resnet:checkpoint_path={path}",
            seeds=1,
            epochs=1,
            train_limit=30,
            image_size=32,
            freeze_backbone=True,
            out=tmp_path / "study",
            executor="serial",
            ood="none",
            report=False,
        )
        return comparison.records[0]

    first, second = tmp_path / "w.pth", tmp_path / "elsewhere.pth"
    write_weights(first, seed=1)
    before = train("softmax", first)
    second.write_bytes(first.read_bytes())
    # It is the same trial, which is done; and another head of it finds its features.
    again = train("softmax", second)
    assert (again["identity"], again["provenance"]) == (before["identity"], before["provenance"])
    train("sigmoid", second)
    assert len(feature_files(tmp_path / "study")) == 1
    write_weights(first, seed=2)
    after = train("softmax", first)
    assert after["identity"] != before["identity"]
    assert len(feature_files(tmp_path / "study")) == 2
    # The checkpoint has the weights, and needs the file no more.
    expected = torch.load(first, weights_only=True)
    first.unlink()
    model, _ = load_checkpoint(tmp_path / "study" / "trials" / after["identity"])
    for name, value in model.backbone.model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_weights_that_change_between_plan_and_trial_are_refused(tmp_path, make_trial):
    path = tmp_path / "w.pth"
    write_weights(path, seed=1)
    network = ComponentConfig(name="test_resnet", parameters={"checkpoint_path": str(path)}, source="0" * 64)
    with pytest.raises(ConfigurationError, match="w.pth' are not those that the trial was planned for. Plan .* again"):
        build_model(make_trial(backbone=network), channels=1, image_size=32, num_classes=10)
