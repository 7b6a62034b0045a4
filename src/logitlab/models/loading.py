"""The weights of a checkpoint, read from the disk into the model that they belong to."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from logitlab.config.errors import RecordError

from .weight_file import misfits


def load_weights(model: nn.Module, path: Path) -> None:
    """Load the weights of a whole model; every tensor must be there and fit.

    Args:
        model: receives the weights.
        path: a safetensors file of ``safetensors.torch.save_model``, which keeps one copy of what modules share.

    Raises:
        RecordError: the file cannot be read, or is of another model.
    """
    from safetensors import SafetensorError

    try:
        weights = _read(path)
    except (SafetensorError, OSError) as fault:
        raise RecordError(f"Cannot read '{path}': {fault}. Copy or train the model again.") from fault
    own = model.state_dict()
    there = {_place(own[key]) for key in weights if key in own}
    own = {key: value for key, value in own.items() if key in weights or _place(value) not in there}
    faults = misfits(weights, own)
    if faults:
        raise RecordError(
            f"'{path}' does not fit 'model.json' beside it: {'; '.join(faults)}. Copy both files of one checkpoint."
        )
    # Not strict: what is missing now is shared with a tensor that is there, or counts batches.
    model.load_state_dict(weights, strict=False)


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load, load_file

    try:
        str(path).encode()
    except UnicodeEncodeError:
        # safetensors opens no file whose name is not UTF-8.
        return load(path.read_bytes())
    return load_file(str(path))


def _place(tensor: Tensor) -> int:
    """Where the memory of a tensor begins; views of one another share it."""
    return tensor.untyped_storage().data_ptr()
