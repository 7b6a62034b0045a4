"""What the documents say is run, so that it stays true."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from logitlab.heads import NAMED_HEADS

REPOSITORY = Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (REPOSITORY / "ARCHITECTURE.md").read_text(encoding="utf-8")


def test_the_quick_start_holds_exactly_two_blocks() -> None:
    section = re.search(r"^## Quick start\s*$(.*?)(?=^## )", README, re.MULTILINE | re.DOTALL)
    assert section is not None
    blocks = re.findall(r"^```sh\n(.*?)^```", section.group(1), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    assert "uv run logitlab compare" in blocks[0]
    assert "uv run pytest" in blocks[1]


@pytest.mark.slow
def test_the_python_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("logitlab.heads.registry._REGISTERED", {})
    space: dict[str, Any] = {"__name__": "readme"}
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 4
    for block in blocks:
        exec(compile(block, "README.md", "exec"), space)
    assert "cosine_ls" in capsys.readouterr().out
    assert space["best"] in ("softmax", "cosine_ls")
    assert space["probabilities"].shape == (16, 10)
    focal = space["ll"].create_head("focal", 8, 3, gamma=0.0)
    plain = space["ll"].create_head("softmax", 8, 3)
    plain.load_state_dict(focal.state_dict())
    features, target = space["torch"].randn(5, 8), space["torch"].randint(3, (5,))
    # γ = 0 is plain cross-entropy.
    space["torch"].testing.assert_close(focal(features, target), plain(features, target))


def test_the_study_of_the_readme_is_one() -> None:
    from logitlab.config.study.reading import parse_study
    from logitlab.config.study.rows import unfold

    (text,) = re.findall(r"^```yaml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    study = parse_study(text, "kappa.yaml")
    rows = unfold(study.heads, study.grid, study.seeds, study.search)
    assert [row.label for row in rows] == ["softmax", "LS", "κ = 5", "κ = 10", "κ = 20", "κ = 40", "2κ*"]


def test_the_readme_lists_every_head() -> None:
    for name, named in NAMED_HEADS.items():
        row = re.search(rf"^\| `{name}` \|.*\| (.*?) \|$", README, re.MULTILINE)
        assert row is not None, f"README has no row for {name}"
        assert row.group(1) == named.source


def test_the_page_of_the_analysis_names_every_function_and_its_example_prints_what_it_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from logitlab import analysis

    page = (REPOSITORY / "docs" / "analysis.md").read_text(encoding="utf-8")
    functions = [name for name in analysis.__all__ if name.islower()]
    assert [name for name in functions if not re.search(rf"`{name}[`(]", page)] == []
    code, printed = (
        re.search(rf"^```{kind}\n(.*?)^```", page, re.MULTILINE | re.DOTALL) for kind in ("python", "text")
    )
    assert code is not None
    assert printed is not None
    exec(compile(code.group(1), "analysis.md", "exec"), {})
    assert capsys.readouterr().out == printed.group(1)


def test_the_architecture_says_of_every_module_what_its_docstring_says() -> None:
    package = REPOSITORY / "src" / "logitlab"
    modules = {}
    for path in package.rglob("*.py"):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        if path.name != "__init__.py":
            modules[str(path.relative_to(package))] = docstring.splitlines()[0].rstrip(".")
    named = dict(re.findall(r"^\| `([a-z0-9_/]+\.py)` \| (.*?) \|$", ARCHITECTURE, re.MULTILINE))
    assert named == modules


def test_every_head_has_a_page_that_says_what_the_code_says(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = REPOSITORY / "docs" / "heads"
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "make", raising=False)
    make = importlib.import_module("make")
    for name in NAMED_HEADS:
        written = (folder / f"{name}.md").read_text(encoding="utf-8")
        assert written == make.page(name), f"docs/heads/{name}.md is old: python docs/heads/make.py"
        assert (folder / f"{name}.png").is_file()
    assert (folder / "README.md").read_text(encoding="utf-8") == make.index()
    assert {path.stem for path in folder.glob("*.md")} == {*NAMED_HEADS, "README"}
