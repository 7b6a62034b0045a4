"""Passes that are kept on the disk: the same numbers as in memory, whatever kills or damages them."""

import json
import os
import signal

import numpy
import pytest
import torch
from preloaded import run_python

from logitlab.config.errors import InputError, TrialError
from logitlab.data import MemoryImages
from logitlab.evaluation import collect, passes
from logitlab.evaluation.pass_cache import PassFolder
from logitlab.evaluation.passes import JoinedImages, PassOptions, chosen_images, run_pass
from logitlab.heads import Classifier, create_head
from logitlab.models import create_backbone

COUNT = 50
ARRAYS = ("features", "logits", "max_logit", "kappa_star", "labels", "layer-0", "layer-1", "layer-2", "zeros")


def model():
    torch.manual_seed(1)
    backbone = create_backbone("small_cnn", channels=1, image_size=8, parameters={"width": 4})
    return Classifier(backbone, create_head("cosine", backbone.num_features, 5))


def images():
    generator = torch.Generator().manual_seed(2)
    pixels = torch.randint(256, (COUNT, 1, 8, 8), dtype=torch.uint8, generator=generator)
    return MemoryImages(pixels, torch.arange(COUNT) % 5)


def prepare(pixels):
    return pixels.float() / 255 - 0.5


OPTIONS = PassOptions(prepare, batch_size=4)


def run(root, essence=None, *, load=model, source=images, options=OPTIONS, layers=("auto",), limit=None):
    return run_pass(root, essence or {"model": 1}, load, source, options, layers=layers, limit=limit)


@pytest.fixture
def forwards(monkeypatch):
    """How many batches go through a backbone."""
    counted = []
    features = Classifier.features

    def counting(self, batch):
        counted.append(len(batch))
        return features(self, batch)

    monkeypatch.setattr(Classifier, "features", counting)
    return counted


def test_a_pass_says_what_collecting_says(tmp_path):
    found = run(tmp_path)
    expected = collect(model(), images(), prepare, batch_size=4)
    assert sorted(found.columns) == sorted(ARRAYS)
    for name in ("features", "logits", "max_logit", "kappa_star", "labels"):
        assert found[name].tobytes() == getattr(expected, name).numpy().tobytes()
    assert (found.rows, found.layers) == (COUNT, ("layers.3", "layers.7", "layers.10"))
    # The last block's map, averaged over space, is what this network calls features.
    assert numpy.abs(found.layer("layers.10") - found["features"]).max() < 1e-6
    assert [found.layer(name).shape[1] for name in found.layers] == [4, 8, 16]
    assert found["zeros"].shape == (COUNT, 3)
    assert not found["features"].flags.writeable


def test_a_second_run_makes_no_forward_pass(tmp_path, forwards):
    first = run(tmp_path)
    made = len(forwards)

    def never():
        raise AssertionError("nothing is loaded")

    second = run(tmp_path, load=never, source=never)
    assert made == 13 + 1
    assert len(forwards) == made
    assert all(second[name].tobytes() == first[name].tobytes() for name in ARRAYS)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_passes as tests
from logitlab.evaluation import passes
from logitlab.heads import Classifier
tests.torch.set_num_threads(1)
passes.COMMIT_EVERY = 3
calls = []
features = Classifier.features
def dying(self, batch):
    calls.append(1)
    if len(calls) == 9:  # the batch that tells the shapes, and seven of thirteen
        os.kill(os.getpid(), signal.SIGKILL)
    return features(self, batch)
Classifier.features = dying
tests.run(Path(sys.argv[1]))
"""


def test_a_killed_pass_goes_on_where_it_was(tmp_path, forwards):
    place = os.path.dirname(__file__)  # noqa: PTH120  (handed to another process as a text)
    process = run_python("-c", KILLED, tmp_path / "killed", place)
    assert process.returncode == -signal.SIGKILL, process.stderr
    (state,) = (tmp_path / "killed").glob("*/state.json")
    told = json.loads(state.read_bytes())
    assert (told["done"], "hashes" in told) == (6 * 4, False)
    found = run(tmp_path / "killed")
    # The remaining seven batches, and one that tells the shapes.
    assert forwards == [4, 4, 4, 4, 4, 4, 4, 2]
    whole = run(tmp_path / "whole")
    for name in ARRAYS:
        assert found[name].tobytes() == whole[name].tobytes()


def _truncate(folder):
    file = folder / "logits.npy"
    file.write_bytes(file.read_bytes()[:-8])


def _flip(folder):
    file = folder / "features.npy"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)


def _reshape(folder):
    numpy.save(folder / "labels.npy", numpy.zeros(COUNT + 1, dtype=numpy.int64))


def _remove(folder):
    (folder / "zeros.npy").unlink()


def _garble(folder):
    (folder / "state.json").write_text('{"key": ')


def _pickle(folder):
    numpy.save(folder / "labels.npy", numpy.array([{}] * COUNT, dtype=object), allow_pickle=True)


@pytest.mark.parametrize("damage", [_truncate, _flip, _reshape, _remove, _garble, _pickle])
def test_damage_is_noticed_and_mended(tmp_path, damage, forwards):
    expected = {name: values.tobytes() for name, values in run(tmp_path).columns.items()}
    (folder,) = tmp_path.iterdir()
    before = len(forwards)
    damage(folder)
    found = run(tmp_path)
    assert len(forwards) == 2 * before
    assert {name: values.tobytes() for name, values in found.columns.items()} == expected


def test_rows_that_another_process_has_not_finished_are_not_trusted(tmp_path, forwards):
    run(tmp_path)
    (folder,) = tmp_path.iterdir()
    state = json.loads((folder / "state.json").read_bytes())
    del state["hashes"]
    # Half done, with other batches: they might round otherwise.
    (folder / "state.json").write_text(json.dumps({**state, "done": 24, "batch_size": 8}))
    del forwards[:]
    run(tmp_path)
    assert len(forwards) == 13 + 1


def test_what_the_numbers_depend_on_has_a_pass_of_its_own(tmp_path):
    changes = [
        {},
        {"essence": {"model": 2}},
        {"limit": 20},
        {"layers": ()},
        {"layers": ("layers.3",)},
        {"options": PassOptions(prepare, batch_size=5)},
        {"options": PassOptions(prepare, batch_size=4, pooling="flatten")},
        {"options": PassOptions(prepare, batch_size=4, precision="bfloat16")},
    ]
    for place, change in enumerate(changes, start=1):
        run(tmp_path, **change)
        assert len(list(tmp_path.iterdir())) == place


def test_flattened_maps_and_named_layers(tmp_path):
    options = PassOptions(prepare, batch_size=4, pooling="flatten")
    found = run(tmp_path, options=options, layers=("layers.7", "not.there"))
    assert found.layers == ("layers.7",)
    assert found.layer("layers.7").shape == (COUNT, 8 * 2 * 2)
    assert run(tmp_path, layers=()).layers == ()


def test_a_choice_of_images_is_always_the_same_and_in_order(tmp_path):
    chosen = chosen_images(COUNT, 7)
    assert torch.equal(chosen, chosen_images(COUNT, 7))
    assert chosen.diff().min() > 0
    assert torch.equal(chosen_images(3, 3), torch.arange(3))
    found, whole = run(tmp_path, limit=7), run(tmp_path)
    assert numpy.abs(found["logits"] - whole["logits"][chosen.numpy()]).max() < 1e-5
    assert found["labels"].tolist() == whole["labels"][chosen.numpy()].tolist()


def test_parts_are_joined(tmp_path):
    every = images()
    parts = [every.select(torch.arange(0, 21)), every.select(torch.arange(21, COUNT))]
    joined = JoinedImages(parts)
    assert len(joined) == COUNT
    assert torch.equal(joined.labels, every.labels)
    found = run(tmp_path, source=lambda: joined)
    assert numpy.abs(found["logits"] - run(tmp_path / "other")["logits"]).max() < 1e-5
    some = torch.tensor([2, 20, 21, 49])
    assert torch.equal(joined.select(some).labels, every.labels[some])
    pixels = torch.cat([batch for batch, _ in joined.batches(some, 3)])
    assert torch.equal(pixels, every.pixels[some])


def test_a_pass_over_parts_goes_on_where_it_was(tmp_path, monkeypatch):
    every = images()
    joined = JoinedImages([every.select(torch.arange(0, 21)), every.select(torch.arange(21, COUNT))])
    monkeypatch.setattr(passes, "COMMIT_EVERY", 1)
    features = Classifier.features
    calls = []

    def failing(self, batch):
        calls.append(1)
        if len(calls) == 10:  # in the second part, where batches end at odd places
            raise KeyboardInterrupt
        return features(self, batch)

    monkeypatch.setattr(Classifier, "features", failing)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", source=lambda: joined)
    found = run(tmp_path / "cut", source=lambda: joined)
    whole = run(tmp_path / "whole", source=lambda: joined)
    assert all(found[name].tobytes() == whole[name].tobytes() for name in ARRAYS)


def test_faults(tmp_path):
    def diverged():
        broken = model()
        with torch.no_grad():
            broken.backbone.layers[0].weight.fill_(torch.nan)
        return broken

    with pytest.raises(TrialError, match="features are not finite"):
        run(tmp_path, load=diverged, layers=())
    nothing = MemoryImages(torch.zeros(0, 1, 8, 8, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(InputError, match="Expected images to look at"):
        run(tmp_path, source=lambda: nothing)


def test_a_full_disk_is_told_before_the_pass(tmp_path, monkeypatch):
    def full(descriptor, offset, length):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        run(tmp_path)
    monkeypatch.undo()
    assert run(tmp_path).rows == COUNT


def test_a_folder_of_another_pass_is_not_read(tmp_path):
    found = run(tmp_path)
    other = PassFolder(tmp_path, {"other": True})
    other.path.mkdir()
    for file in found.folder.iterdir():
        (other.path / file.name).write_bytes(file.read_bytes())
    assert other.read() is None


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    "edit",
    [
        lambda state: state["layers"].reverse(),
        lambda state: state["columns"].clear(),
        lambda state: state.update(done=state["done"] - 4),
        lambda state: state.pop("hashes", None) or state.pop("seal"),
    ],
)
def test_a_state_that_somebody_edited_is_not_believed(tmp_path, edit, whole):
    first = run(tmp_path)
    file = first.folder / "state.json"
    state = json.loads(file.read_bytes())
    if not whole:
        # As a killed process leaves it, with a seal that is right.
        folder = PassFolder(tmp_path, {})
        folder.path = first.folder
        del state["hashes"]
        folder._write({**state, "done": 40})
        state = json.loads(file.read_bytes())
    edit(state)
    file.write_text(json.dumps(state))
    again = run(tmp_path)
    assert again.layers == first.layers == ("layers.3", "layers.7", "layers.10")
    assert json.loads(file.read_bytes())["columns"].keys() == set(ARRAYS)


def test_a_folder_that_vanishes_meanwhile_is_a_fault_of_the_file_system(tmp_path, monkeypatch):
    monkeypatch.setattr(passes, "COMMIT_EVERY", 1)
    looked = passes._look

    def losing(*arguments):
        for state in tmp_path.glob("*/state.json"):
            state.unlink()
        return looked(*arguments)

    monkeypatch.setattr(passes, "_look", losing)
    with pytest.raises(FileNotFoundError, match="changed while a pass was written"):
        run(tmp_path)
