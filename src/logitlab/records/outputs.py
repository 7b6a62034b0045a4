"""What a trained model said of its test and validation images: ``outputs.npz`` beside the record. No torch.

Confusion matrix, reliability diagram, per-class accuracy and histograms are computed from these arrays by whoever
reads them.
"""

from __future__ import annotations

import os
import secrets
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..config.errors import RecordError
from .files import flush_folder

if TYPE_CHECKING:
    import numpy

OUTPUTS_FILE: Final = "outputs.npz"

#: More values than these are not kept as logits.
MOST_LOGITS: Final = 4_000_000

# Name, dtype, number of dimensions, and the letter of the length that arrays share.
_FORMS: Final[dict[str, tuple[str, int, str]]] = {
    "labels": ("int32", 1, "N"),
    "predicted": ("int32", 1, "N"),
    "confidence": ("float32", 1, "N"),
    "max_logit": ("float32", 1, "N"),
    "feature_norm": ("float32", 1, "N"),
    "own_cosine": ("float32", 1, "N"),
    "kappa_star": ("float32", 1, "N"),
    "logits": ("float16", 2, "N"),
    "validation_labels": ("int32", 1, "V"),
    "validation_predicted": ("int32", 1, "V"),
    "validation_confidence": ("float32", 1, "V"),
    "validation_max_logit": ("float32", 1, "V"),
    "example_index": ("int32", 1, "K"),
    "example_pixels": ("uint8", 4, "K"),
    "example_kind": ("int8", 1, "K"),
}
# What numbers a class, from 0.
_CLASSES: Final = ("labels", "predicted", "validation_labels", "validation_predicted")
_OPTIONAL: Final = frozenset({"logits"})


def write_outputs(folder: Path, arrays: Mapping[str, numpy.ndarray]) -> None:
    """Write the outputs of a trial into its folder; a reader sees the old file or the whole new one.

    - of N test images: ``labels``, ``predicted`` (int32), ``confidence`` (the largest probability; NaN for the
      link ``"none"``), ``max_logit``, ``feature_norm``, ``own_cosine`` (to the weight of the own class),
      ``kappa_star`` (float32), and ``logits`` (float16 ``[N, C]``) where N·C is at most ``MOST_LOGITS``;
    - of the validation images: ``validation_labels``, ``validation_predicted``, ``validation_confidence``,
      ``validation_max_logit``;
    - of K examples: ``example_index`` (int32, into the test images), ``example_pixels`` (uint8
      ``[K, channels, height, width]``), ``example_kind`` (int8): 0 for the worst mistakes, 1 for the least
      confident images.

    Args:
        folder: of the trial; it is made when missing.
        arrays: the above, by name.

    Raises:
        RecordError: an array is missing, has another dtype or shape, or a class or place outside its range.
        OSError: the file system refuses; the temporary file is removed.
    """
    fault = _fault(arrays, None)
    if fault:
        raise RecordError(f"Cannot write '{folder / OUTPUTS_FILE}': {fault}.")
    write_arrays(folder / OUTPUTS_FILE, arrays)


def read_outputs(folder: Path, *, classes: int | None = None) -> dict[str, numpy.ndarray]:
    """Read what :func:`write_outputs` wrote into the folder of a trial.

    Args:
        folder: of the trial.
        classes: how many classes there are, C; None checks against the logits, where they were kept.

    Raises:
        RecordError: the file is missing, damaged, lacks an array, or holds a class or place outside its range.
    """
    path = Path(folder) / OUTPUTS_FILE
    arrays = read_arrays(path)
    fault = _fault(arrays, classes)
    if fault:
        raise RecordError(f"'{path}' is damaged: {fault}.")
    return arrays


def write_arrays(path: Path, arrays: Mapping[str, numpy.ndarray]) -> None:
    """Write arrays as one ``.npz`` file that is either whole or absent; raises OSError as the file system does."""
    import numpy

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            numpy.savez_compressed(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    flush_folder(path.parent)


def read_arrays(path: Path) -> dict[str, numpy.ndarray]:
    """Read a ``.npz`` file whole and without pickle; the archive's checksums are verified on the way.

    Raises:
        RecordError: the file is missing, damaged, or no archive of arrays.
    """
    import numpy

    try:
        with path.open("rb") as stream:
            found = numpy.load(stream, allow_pickle=False)
            # A bare array has no members: every name is then missing.
            members = found.files if isinstance(found, numpy.lib.npyio.NpzFile) else []
            return {name: found[name] for name in members}
    except FileNotFoundError:
        raise RecordError(f"There is no '{path}'.") from None
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as fault:
        reason = getattr(fault, "strerror", None) or " ".join(str(fault).split()).rstrip(".") or type(fault).__name__
        raise RecordError(f"Cannot read '{path}': {reason}.") from fault


def _fault(arrays: Mapping[str, numpy.ndarray], classes: int | None) -> str | None:
    """Say what is wrong with the arrays, or None."""
    import numpy

    lengths: dict[str, int] = {}
    for name, (dtype, dimensions, letter) in _FORMS.items():
        if name not in arrays:
            if name in _OPTIONAL:
                continue
            return f"it lacks '{name}'"
        array = arrays[name]
        if array.dtype != dtype or array.ndim != dimensions:
            return f"expected '{name}' as {dtype} of {dimensions} dimensions, got {array.dtype} {list(array.shape)}"
        if lengths.setdefault(letter, len(array)) != len(array):
            return f"expected '{name}' of length {lengths[letter]}, got {len(array)}"
    if classes is None and "logits" in arrays:
        classes = arrays["logits"].shape[1]
    limits = {**dict.fromkeys(_CLASSES, classes), "example_index": lengths["N"]}
    for name, limit in limits.items():
        lowest, highest = (int(end(arrays[name], initial=0)) for end in (numpy.min, numpy.max))
        if lowest < 0:
            return f"expected '{name}' of at least 0, got {lowest}"
        if limit is not None and len(arrays[name]) and highest >= limit:
            return f"expected '{name}' below {limit}, got {highest}"
    if len(arrays["example_pixels"]) and not all(arrays["example_pixels"].shape[1:]):
        return f"expected 'example_pixels' with pixels, got {list(arrays['example_pixels'].shape)}"
    return None
