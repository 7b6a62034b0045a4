"""``python -m logitlab``: the command line."""

from __future__ import annotations

import sys

from logitlab.cli.main import main

sys.exit(main())
