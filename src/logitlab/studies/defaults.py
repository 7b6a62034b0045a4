"""What a comparison takes where nothing is said."""

from __future__ import annotations

from typing import Final

#: The heads that are compared when none is named.
DEFAULT_HEADS: Final = ("softmax", "label_smoothing", "logit_norm", "sigmoid", "cosine", "cosine_ls", "cosine_2ls")
DEFAULT_FOLDER: Final = "logitlab-runs"
DEFAULT_SEEDS: Final = 3
