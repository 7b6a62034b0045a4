"""How much a page draws: no more than it can hold, and nothing where nothing changed."""

import json
import re

import fabricated
import pytest

from logitlab.config.errors import RecordError
from logitlab.records import read_outputs, write_outputs
from logitlab.report import album, multiples, page, seal


def test_large_thumbnails_are_made_smaller_until_the_page_fits(root):
    heads = [f"head{number}" for number in range(12)]
    records = fabricated.fabricate(root, heads=heads, seeds=1, side=64, channels=3, ood=())
    text = fabricated.written(records, root)
    assert len(text.encode()) < page.MOST_BYTES
    assert "data:image/png" in text


def test_a_page_of_too_many_heads_keeps_its_table(root, monkeypatch):
    """Every step of the ladder is below the limit, which a smaller one makes reachable with few heads."""
    records = fabricated.fabricate(root, heads=("softmax", "sigmoid", "cosine"), seeds=1, side=64, channels=3)
    drawn = []
    original = multiples.own_pictures
    monkeypatch.setattr(album, "own_pictures", lambda head, *rest: drawn.append(head.label) or original(head, *rest))
    whole = fabricated.written(records, root)
    assert drawn == ["softmax", "sigmoid", "cosine"]
    drawn.clear()
    (root / "report.html").unlink()
    monkeypatch.setattr(page, "MOST_BYTES", 70_000)
    text = fabricated.written(records, root)
    # Nothing is drawn that could not fit.
    assert drawn == []
    assert len(text.encode()) < 70_000 < len(whole.encode())
    assert "So many heads leave no room for pictures" in text
    assert fabricated.pictures(text) == []
    for part in ('id="choice"', 'id="table"', 'id="ood"', 'id="setting"', "photographs"):
        assert part in text
    assert set(re.findall(r'href="#([^"]*)"', text)) == {"choice", "table", "ood", "setting"}
    (root / "report.html").unlink()
    monkeypatch.setattr(page, "MOST_BYTES", 1000)
    with pytest.raises(RecordError, match="compare fewer"):
        fabricated.written(records, root)


@pytest.mark.slow
def test_a_page_of_120_heads(root):
    heads = [f"squared_error:kappa={number},target=60" for number in range(120)]
    text = fabricated.written(fabricated.fabricate(root, heads=heads, seeds=2, images=100), root)
    assert len(text.encode()) < page.MOST_BYTES
    assert text.count("target=60") >= 120
    assert 'id="seeds"' in text


def test_a_page_is_drawn_again_only_where_something_changed(root, monkeypatch):
    records = fabricated.fabricate(root, heads=("softmax",), seeds=1)
    drawn = []
    original = page.render
    monkeypatch.setattr(page, "render", lambda *given: drawn.append(1) or original(*given))
    whole = fabricated.written(records, root)
    assert (fabricated.written(records, root), len(drawn)) == (whole, 1)
    folder = root / "trials" / records[0]["identity"]
    (folder / "other.txt").write_text("no part of the page")
    records[0]["provenance"]["seconds"] = 99.0
    assert ("99.0" in fabricated.written(records, root), len(drawn)) == (True, 2)
    arrays = read_outputs(folder)
    arrays["confidence"][:] = 0.5
    write_outputs(folder, arrays)
    fabricated.written(records, root)
    assert len(drawn) == 3
    (folder / "model.json").write_text(json.dumps({"class_names": list("abcde")}))
    fabricated.written(records, root)
    assert len(drawn) == 4
    for damage in ((root / "report.html").read_text().replace("softmax", "hardmax"), "", "<!-- made from"):
        (root / "report.html").write_text(damage)
        assert "hardmax" not in fabricated.written(records, root)
    assert len(drawn) == 7
    monkeypatch.setattr(seal, "version", lambda package: "9.9")
    fabricated.written(records, root)
    assert len(drawn) == 8
