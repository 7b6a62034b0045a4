"""A trained model that answers: which class, how sure, and whether to believe it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from logitlab.config.errors import InputError, RecordError
from logitlab.data.augmentation import prepare_batch
from logitlab.data.channels import match_channels
from logitlab.data.decoding import resize
from logitlab.heads import Classifier
from logitlab.models import ModelDescription, load_checkpoint
from logitlab.statistics import Rejection, check_share, short_threshold, threshold_for_precision

from .answers import Prediction, Threshold
from .checkpoint import find_checkpoint
from .decoding import decode_batches
from .pixels import are_paths, check_pixels, lay_out, listed

if TYPE_CHECKING:
    import numpy


class Predictor:
    """A checkpoint that answers about images: files of any size, grey or in colour, or arrays.

    Images are resized and normalised as in training. ``Predictor.load(folder)`` makes one.

    Args:
        model: backbone and head.
        description: what they were trained on.
        folder: of the checkpoint, where the outputs on validation images lie; None for none.
        device: a torch device.
        batch_size: images at a time; memory holds no more of them.

    Raises:
        InputError: ``batch_size`` is below 1.
    """

    def __init__(
        self,
        model: Classifier,
        description: ModelDescription,
        folder: Path | None = None,
        *,
        device: torch.device | str = "cpu",
        batch_size: int = 64,
    ) -> None:
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
            raise InputError(f"'batch_size' must be an int of at least 1. Got {batch_size!r}.")
        self.device = torch.device(device)
        self.model = model.eval().to(self.device)
        self.description = description
        self.folder = folder
        self.batch_size = batch_size
        self._mean = torch.tensor(description.pixel_mean)
        self._std = torch.tensor(description.pixel_std)

    @classmethod
    def load(cls, checkpoint: str | Path, *, device: torch.device | str = "cpu", batch_size: int = 64) -> Predictor:
        """Load what ``logitlab train`` or ``logitlab compare`` left.

        Args:
            checkpoint: a folder with ``model.safetensors`` and ``model.json``, or that of a study with one trial.
            device: a torch device.
            batch_size: images at a time.

        Raises:
            RecordError: there is no checkpoint, or it is damaged.
        """
        folder = find_checkpoint(checkpoint)
        model, description = load_checkpoint(folder)
        if len(description.pixel_mean) != description.channels or len(description.pixel_std) != description.channels:
            raise RecordError(
                f"'{folder / 'model.json'}' is damaged: expected pixel_mean and pixel_std of {description.channels} "
                "channels. Copy or train the model again."
            )
        return cls(model, description, folder, device=device, batch_size=batch_size)

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name a class, in the order of the logits."""
        return self.description.class_names

    @property
    def has_probabilities(self) -> bool:
        """Whether confidence is a probability; squared error has none, its largest logit stands in."""
        return self.description.link != "none"

    @property
    def score(self) -> str:
        """What confidence is: ``"probability"`` or ``"max_logit"``."""
        return "probability" if self.has_probabilities else "max_logit"

    def predict(self, images: Any, *, threshold: float | None = None) -> list[Prediction]:
        """Answer about images; see :meth:`stream` for more than memory holds answers of.

        Args:
            images: a path, several, or pixels as :meth:`predict_proba` takes them.
            threshold: accept answers of at least this confidence; None accepts all.

        Raises:
            InputError: pixels of another form, or a threshold outside (0, 1) for a model with probabilities.
        """
        self.check_threshold(threshold)
        if are_paths(images):
            return list(self.stream(listed(images), threshold=threshold))
        return [
            answer
            for pixels in self._pixel_batches(images)
            for answer in self._answers([None] * len(pixels), [None] * len(pixels), pixels, threshold)
        ]

    def stream(self, paths: Sequence[str], *, threshold: float | None = None) -> Iterator[Prediction]:
        """Answer about files one after another, in their order; memory holds one batch.

        A file that cannot be read gives an answer with an ``error``; the others are answered all the same.

        Args:
            paths: the files; see :func:`~logitlab.serving.list_images`.
            threshold: accept answers of at least this confidence; None accepts all.
        """
        self.check_threshold(threshold)
        shape = self.description.channels, self.description.image_size
        for batch, faults, pixels in decode_batches(paths, *shape, self.batch_size):
            yield from self._answers(
                batch, [None if fault is None else str(fault) for fault in faults], pixels, threshold
            )

    def predict_proba(self, images: Any) -> numpy.ndarray[Any, Any]:
        """Probabilities of the classes, float64 ``[N, C]``, rows in the order of the images.

        Args:
            images: a path or several; or pixels from 0 to 255: a uint8 NumPy array ``[N, H, W]`` or
                ``[N, H, W, C]``, or a uint8 tensor ``[N, C, H, W]``, C 1 or 3.

        Raises:
            InputError: the model's head has no probabilities, or pixels of another form.
            DataError: a file cannot be read; :meth:`predict` goes on beyond it.
        """
        if not self.has_probabilities:
            raise InputError("The head of this model (squared error) defines no probabilities. Use predict.")
        rows = []
        if are_paths(images):
            shape = self.description.channels, self.description.image_size
            for _, faults, pixels in decode_batches(listed(images), *shape, self.batch_size):
                for fault in faults:
                    if fault is not None:
                        raise fault
                rows.append(self._probabilities(pixels))
        else:
            rows = [self._probabilities(pixels) for pixels in self._pixel_batches(images)]
        empty = torch.empty(0, len(self.class_names), dtype=torch.float64)
        return cast("numpy.ndarray[Any, Any]", (torch.cat(rows) if rows else empty).numpy())

    def threshold_for_precision(self, precision: float) -> Rejection:
        """Choose the lowest threshold at which accepted answers about *validation* images reach a precision.

        The estimate holds for images like those, and is optimistic: the threshold was chosen on the same answers
        (and, with early stopping, so was the model); few images make it coarse. The result carries how many there
        were and an interval.

        Args:
            precision: wanted share of right answers among the accepted ones, in (0, 1).

        Raises:
            InputError: a precision outside (0, 1), or one that no threshold reaches.
            RecordError: the outputs on validation images do not lie beside the checkpoint.
        """
        from logitlab.records.outputs import read_outputs

        check_share("precision", precision)
        if self.folder is None:
            raise RecordError("A threshold is chosen on validation images: load the predictor from its folder.")
        advice = "Give a threshold of your own with --reject-below (threshold=…), or train the model again."
        try:
            outputs = read_outputs(self.folder)
        except RecordError as fault:
            raise RecordError(f"A threshold is chosen on the outputs on validation images. {fault} {advice}") from fault
        kind = "validation_confidence" if self.has_probabilities else "validation_max_logit"
        missing = [key for key in (kind, "validation_labels", "validation_predicted") if key not in outputs]
        if missing:
            raise RecordError(f"The outputs in '{self.folder}' lack '{missing[0]}'. {advice}")
        correct = outputs["validation_labels"] == outputs["validation_predicted"]
        return threshold_for_precision(outputs[kind].tolist(), correct.tolist(), precision)

    def choose_threshold(
        self,
        below: float | None = None,
        precision: float | None = None,
        *,
        called: tuple[str, str] = ("below", "precision"),
    ) -> Threshold:
        """Make a threshold of what a user asked for.

        Args:
            below: reject answers of less confidence.
            precision: choose the threshold by :meth:`threshold_for_precision`.
            called: what the user calls the two.

        Raises:
            InputError: both, or a number out of range.
            RecordError: no outputs on validation images to choose on.
        """
        if below is not None and precision is not None:
            raise InputError(
                f"Give a threshold ('{called[0]}') or a precision to choose it for ('{called[1]}'), not both."
            )
        score = "confidence" if self.has_probabilities else "max logit"
        if precision is None:
            self.check_threshold(below, called[0])
            return Threshold(below, score=score)
        check_share(called[1], precision)
        chosen = self.threshold_for_precision(precision)
        return Threshold(short_threshold(chosen.threshold), precision, chosen, score)

    def check_threshold(self, threshold: float | None, name: str = "threshold") -> None:
        """Refuse a threshold that no confidence of this model can be compared with.

        Args:
            threshold: None is none.
            name: what the user calls it.

        Raises:
            InputError: outside (0, 1), or for a head without probabilities not a finite number.
        """
        if threshold is None:
            return
        if self.has_probabilities:
            check_share(name, threshold)
        elif isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not math.isfinite(threshold):
            raise InputError(f"'{name}' must be a finite number. Got {threshold!r}.")

    def _answers(
        self,
        paths: Sequence[str | None],
        faults: Sequence[str | None],
        pixels: Tensor,
        threshold: float | None,
    ) -> Iterator[Prediction]:
        labels, confidences = self._confidence(pixels)
        sound = iter(zip(labels, confidences))
        for path, fault in zip(paths, faults):
            if fault is not None:
                yield Prediction(path, None, "", math.nan, False, fault)
                continue
            label, confidence = next(sound)
            accepted = threshold is None or confidence >= threshold
            yield Prediction(path, label, self.class_names[label], confidence, accepted)

    @torch.no_grad()
    def _features(self, pixels: Tensor) -> Tensor:
        return self.model.features(prepare_batch(pixels.to(self.device), self._mean, self._std)).float()

    @torch.no_grad()
    def _probabilities(self, pixels: Tensor) -> Tensor:
        if not len(pixels):
            return torch.empty(0, len(self.class_names), dtype=torch.float64)
        head = self.model.head
        return head.probabilities(head(self._features(pixels)).cpu().double())

    @torch.no_grad()
    def _confidence(self, pixels: Tensor) -> tuple[list[int], list[float]]:
        if not len(pixels):
            return [], []
        head = self.model.head
        features = self._features(pixels)
        logits = head(features)
        if self.has_probabilities:
            confidence = head.probabilities(logits.cpu().double()).amax(1)
        else:
            confidence = head.max_logit(features).cpu()
        # In float32, as the validation outputs are kept: a threshold taken from them then means the same here.
        return logits.argmax(1).tolist(), confidence.float().tolist()

    def _pixel_batches(self, images: Any) -> Iterator[Tensor]:
        check_pixels(images)
        for start in range(0, len(images), self.batch_size):
            pixels = lay_out(images[start : start + self.batch_size])
            yield resize(match_channels(pixels, self.description.channels), self.description.image_size)
