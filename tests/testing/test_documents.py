"""What docs/check_head.md says is run, and it leaves nothing out."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from logitlab.testing import CHECKS, HeadTraits

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "check_head.md").read_text(encoding="utf-8")


def test_it_lists_every_check_with_its_meaning() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", TEXT.split("## Checks")[1], re.MULTILINE))
    assert rows == {name: check.meaning.replace("``", "`") for name, check in CHECKS.items()}


def test_it_lists_every_trait() -> None:
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", TEXT.split("## Traits")[1].split("## Checks")[0], re.MULTILINE)
    assert [name for row in rows for name in re.findall(r"`(\w+)`", row)] == [
        field.name for field in dataclasses.fields(HeadTraits)
    ]


def test_its_head_passes() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    (block,) = [block for block in blocks if "class MyHead" in block]
    space: dict[str, Any] = {"__name__": "check_head_page"}
    # Its last line checks it whole, which another test does with the same head; pickle finds no class of a page.
    exec(compile(block.replace("check_head(MyHead)", ""), "check_head.md", "exec"), space)
    report = space["check_head"](space["MyHead"], skip=["pickled", "compiled", "exported"])
    assert len(report.ran) >= 25
