"""A digest of the code that makes a user's head: an edited head is another head."""

from logitlab.config.source import code_digest, file_digest

__all__ = ["code_digest", "file_digest"]
