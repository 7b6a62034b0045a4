"""The predictor against the model called by hand."""

import math
import os
import re

import numpy
import pytest
import torch
from PIL import Image

from logitlab.config.errors import DataError, InputError, RecordError
from logitlab.serving import Predictor


def by_hand(model, path, channels=3):
    """Probabilities through Pillow, torchvision's resize and the model, with nothing of the predictor's."""
    from torchvision.transforms.v2 import functional as F

    image = Image.open(path).convert("RGB" if channels == 3 else "L")
    pixels = F.resize(F.pil_to_tensor(image), [8, 8], antialias=True).float()
    with torch.no_grad():
        return torch.softmax(model((pixels[None] / 255 - 0.4) / 0.2), dim=1)[0]


@pytest.mark.parametrize("channels", [1, 3])
def test_files_of_any_size_and_mode_are_answered_as_by_hand(make_checkpoint, images, channels):
    folder, model = make_checkpoint(channels=channels)
    predictor = Predictor.load(folder, batch_size=2)
    expected = torch.stack([by_hand(model, path, channels) for path in images])
    numpy.testing.assert_allclose(predictor.predict_proba(images), expected.numpy(), rtol=1e-5, atol=1e-6)
    answers = predictor.predict(images)
    assert [answer.path for answer in answers] == images
    assert [answer.label for answer in answers] == expected.argmax(1).tolist()
    assert [answer.name for answer in answers] == [("cat", "dog", "owl")[label] for label in expected.argmax(1)]
    assert [answer.confidence for answer in answers] == pytest.approx(expected.amax(1).tolist(), rel=1e-5)
    assert all(answer.accepted and answer.error is None for answer in answers)


def test_arrays_are_answered_as_files_are(make_checkpoint, images):
    predictor = Predictor.load(make_checkpoint()[0])
    path = images[1]
    array = numpy.asarray(Image.open(path))
    from_file = predictor.predict_proba(path)
    numpy.testing.assert_allclose(predictor.predict_proba(array[None]), from_file)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)[None]
    numpy.testing.assert_allclose(predictor.predict_proba(tensor), from_file)
    grey = numpy.asarray(Image.open(images[3]))
    numpy.testing.assert_allclose(predictor.predict_proba(grey[None]), predictor.predict_proba(images[3]))
    assert predictor.predict(array[None])[0].path is None


def test_no_images_give_no_answers(make_checkpoint):
    predictor = Predictor.load(make_checkpoint()[0])
    assert predictor.predict([]) == []
    assert predictor.predict_proba([]).shape == (0, 3)
    assert predictor.predict_proba(numpy.zeros((0, 8, 8), numpy.uint8)).shape == (0, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        numpy.zeros((2, 8, 8)),
        numpy.zeros((2, 8, 8, 4), numpy.uint8),
        numpy.zeros((8, 8), numpy.uint8),
        torch.zeros(2, 8, 8, dtype=torch.uint8),
        numpy.zeros((2, 0, 8), numpy.uint8),
        7,
        ["a.png", 7],
    ],
)
def test_pixels_of_another_form_are_refused(make_checkpoint, wrong):
    with pytest.raises(InputError, match="Expected paths, a uint8 array"):
        Predictor.load(make_checkpoint()[0]).predict(wrong)


def test_what_cannot_be_read_does_not_hold_up_the_rest(make_checkpoint, images, tmp_path, monkeypatch):
    cut = tmp_path / "cut.png"
    cut.write_bytes(b"\x89PNG")
    deep = tmp_path / "deep.png"
    Image.fromarray(numpy.zeros((8, 8), numpy.uint16)).save(deep)
    large = tmp_path / "large.png"
    Image.new("L", (200, 200)).save(large)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30_000)
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    Image.new("L", (8, 8)).save(os.fsencode(odd))
    paths = [images[0], str(cut), str(deep), images[1], str(large), str(tmp_path / "gone.png"), odd]
    answers = Predictor.load(make_checkpoint()[0], batch_size=3).predict(paths)
    assert [answer.path for answer in answers] == paths
    assert [answer.error is None for answer in answers] == [True, False, False, True, False, False, True]
    for answer, words in zip([answers[1], answers[2], answers[4], answers[5]], ["cut.png", "8 bits", "large", "gone"]):
        assert words in answer.error
        assert (answer.label, answer.name, answer.accepted) == (None, "", False)
        assert math.isnan(answer.confidence)
    good = Predictor.load(make_checkpoint()[0]).predict([images[0], images[1]])
    assert [answers[0].confidence, answers[3].confidence] == pytest.approx([each.confidence for each in good])
    with pytest.raises(DataError, match="cut.png"):
        Predictor.load(make_checkpoint()[0]).predict_proba([str(cut)])


def test_a_stream_reads_no_further_than_its_batch(make_checkpoint, images, monkeypatch):
    from logitlab.serving import decoding

    read = []
    original = decoding.read_image
    monkeypatch.setattr(decoding, "read_image", lambda path, *rest: (read.append(path), original(path, *rest))[1])
    stream = Predictor.load(make_checkpoint()[0], batch_size=4).stream(images * 100)
    next(stream)
    assert len(read) == 4


def test_the_threshold_itself_is_accepted(make_checkpoint, images):
    predictor = Predictor.load(make_checkpoint()[0])
    answers = predictor.predict(images)
    middle = sorted(answer.confidence for answer in answers)[2]
    again = predictor.predict(images, threshold=middle)
    assert [answer.accepted for answer in again] == [answer.confidence >= middle for answer in answers]
    assert sum(answer.accepted for answer in again) == 3
    for wrong in (0, 1, 1.5, True, math.nan, "0.5"):
        with pytest.raises(InputError, match="between 0 and 1"):
            predictor.predict(images, threshold=wrong)


def test_a_precision_becomes_the_lowest_threshold_that_reaches_it(make_checkpoint, write_validation):
    folder, _ = make_checkpoint()
    write_validation(folder, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [1, 1, 1, 0, 1, 0])
    predictor = Predictor.load(folder)
    found = predictor.choose_threshold(precision=0.79)
    # Down to 0.5 four of five are right.
    assert found.value == pytest.approx(0.5)
    assert (found.chosen.accepted, found.chosen.count, found.chosen.precision) == (5, 6, 0.8)
    assert "on 6 validation images: it accepts 5 of them (coverage 83.3%)" in str(found)
    assert predictor.choose_threshold(precision=0.9).value == pytest.approx(0.7)
    with pytest.raises(InputError, match="between 0 and 1"):
        predictor.choose_threshold(precision=1)
    with pytest.raises(InputError, match="not both"):
        predictor.choose_threshold(0.5, 0.9)
    write_validation(folder, [0.9, 0.8], [0, 1])
    with pytest.raises(InputError, match="No threshold reaches a precision of 0.9 on these 2 answers"):
        predictor.choose_threshold(precision=0.9)


def test_without_validation_outputs_the_way_out_is_told(make_checkpoint):
    folder, model = make_checkpoint()
    with pytest.raises(RecordError, match=r"There is no .*outputs\.npz.*--reject-below"):
        Predictor.load(folder).choose_threshold(precision=0.9)
    predictor = Predictor.load(folder)
    with pytest.raises(RecordError, match="load the predictor from its folder"):
        Predictor(model, predictor.description).choose_threshold(precision=0.9)
    (folder / "outputs.npz").write_bytes(b"PK no")
    with pytest.raises(RecordError, match="Cannot read"):
        predictor.choose_threshold(precision=0.9)


def test_a_head_without_probabilities_answers_by_its_largest_logit(make_checkpoint, images, write_validation):
    folder, model = make_checkpoint(head="squared_error", preset="cifar10")
    predictor = Predictor.load(folder)
    assert (predictor.has_probabilities, predictor.score) == (False, "max_logit")
    with pytest.raises(InputError, match="no probabilities"):
        predictor.predict_proba(images)
    answers = predictor.predict(images, threshold=-1e6)
    logits = [by_hand_logits(model, path) for path in images]
    assert [answer.confidence for answer in answers] == pytest.approx([float(row.max()) for row in logits], rel=1e-4)
    with pytest.raises(InputError, match="finite"):
        predictor.predict(images, threshold=math.inf)
    write_validation(folder, [0.9, 0.8], [1, 0])
    chosen = predictor.choose_threshold(precision=0.9)
    assert chosen.value == pytest.approx(9)
    assert "on the max logit" in str(chosen)
    assert str(predictor.choose_threshold(-2.5)) == " Accepted from a max logit of -2.5."


def test_the_printed_threshold_makes_the_same_decisions(make_checkpoint, write_validation, images):
    folder, _ = make_checkpoint()
    predictor = Predictor.load(folder)
    confidences = sorted(answer.confidence for answer in predictor.predict(images))
    for index, boundary in enumerate(confidences):
        write_validation(folder, confidences, [confidence >= boundary for confidence in confidences])
        words = str(predictor.choose_threshold(precision=0.999))
        printed = float(re.search(r"Threshold (\S+) on the confidence", words)[1])
        accepted = sum(answer.accepted for answer in predictor.predict(images, threshold=printed))
        assert accepted == len(images) - index
        assert "Warning: 5 images are too few" in words
    write_validation(folder, [1.0] * 40, [1] * 40)
    sure = predictor.choose_threshold(precision=0.9)
    assert "Warning" not in str(sure)
    predictor.check_threshold(sure.value)


def by_hand_logits(model, path):
    from torchvision.transforms.v2 import functional as F

    pixels = F.resize(F.pil_to_tensor(Image.open(path).convert("RGB")), [8, 8], antialias=True).float()
    with torch.no_grad():
        return model((pixels[None] / 255 - 0.4) / 0.2)[0]


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_probabilities_add_up_to_one(make_checkpoint, images, link):
    rows = Predictor.load(make_checkpoint(head=link)[0]).predict_proba(images)
    numpy.testing.assert_allclose(rows.sum(1), 1)


def test_a_batch_size_is_a_positive_number(make_checkpoint):
    with pytest.raises(InputError, match="'batch_size' must be an int of at least 1"):
        Predictor.load(make_checkpoint()[0], batch_size=0)


def test_what_is_no_checkpoint_is_said(make_checkpoint, tmp_path):
    folder, _ = make_checkpoint()
    assert Predictor.load(folder / "model.safetensors").folder == folder
    with pytest.raises(RecordError, match="There is no such folder"):
        Predictor.load(tmp_path / "none")
    with pytest.raises(RecordError, match="It holds neither"):
        Predictor.load(tmp_path)
    (tmp_path / "study" / "trials").mkdir(parents=True)
    folder.rename(tmp_path / "study" / "trials" / "one")
    # With one trial there is no doubt which is meant.
    assert Predictor.load(tmp_path / "study").folder == tmp_path / "study" / "trials" / "one"
    folder, _ = make_checkpoint()
    folder.rename(tmp_path / "study" / "trials" / "two")
    with pytest.raises(RecordError, match="the folder of a study. Give one of its trials: '.*one' or one of 1 more"):
        Predictor.load(tmp_path / "study")
    folder, _ = make_checkpoint()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(RecordError, match="Cannot read"):
        Predictor.load(folder)
    folder, _ = make_checkpoint()
    other, _ = make_checkpoint("other", side=16)
    (other / "model.safetensors").replace(folder / "model.safetensors")
    fault = (
        r"does not fit 'model.json'.*: 1 have another shape, first 'backbone\..*weight': 16 x 768 instead of 16 x 192\."
    )
    with pytest.raises(RecordError, match=fault):
        Predictor.load(folder)


def test_a_description_of_other_channels_is_damaged(make_checkpoint):
    folder, _ = make_checkpoint()
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(text.replace("0.4,", "", 1))
    with pytest.raises(RecordError, match="expected pixel_mean and pixel_std of 3 channels"):
        Predictor.load(folder)
