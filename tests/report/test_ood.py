"""The column of out-of-distribution sets, there only where such sets were measured."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from logitlab.report import comparison_table, group_by_head, recommendations


def with_ood(records: list[dict[str, Any]], **sets: list[float | None]) -> list[dict[str, Any]]:
    return [
        {
            **record,
            "ood": {name: {"max_logit_ap": values[index], "base_rate": 0.3} for name, values in sets.items()},
        }
        for index, record in enumerate(records)
    ]


def records_of(make: SimpleNamespace) -> list[dict[str, Any]]:
    seeds = [0.9, 0.91, 0.92]
    return [
        *with_ood(make.head("a", accuracy=seeds), noise=[0.9, 0.8, 0.7], patches=[0.7, 0.7, 0.7]),
        *with_ood(make.head("b", accuracy=seeds), noise=[0.98, 0.99, 0.98], patches=[0.96, 0.97, 0.98]),
    ]


def test_the_column_is_the_mean_over_the_sets(make: SimpleNamespace) -> None:
    table = comparison_table(records_of(make))
    assert [column.heading for column in table.columns][4:6] == ["MISS AP", "OOD AP"]
    first, second = (row.cells[5] for row in table.rows)
    assert first.estimate is not None
    assert first.estimate.mean == pytest.approx((0.8 + 0.75 + 0.7) / 3)
    assert (first.marked, second.marked) == (False, True)
    assert table.legend[-1] == (
        "OOD AP: correct answers among images of another kind (noise, patches), ranked by max logit, mean over these "
        "sets; chance gives 0.30."
    )


def test_a_table_without_sets_is_unchanged(make: SimpleNamespace) -> None:
    plain = [{key: value for key, value in record.items() if key != "ood"} for record in records_of(make)]
    table = comparison_table(plain)
    assert "OOD" not in table.to_text()
    assert len(table.columns) == 8
    assert not [line for line in recommendations(plain) if "strange" in line]
    assert comparison_table([{**record, "ood": {}} for record in plain]).to_text() == table.to_text()


def test_a_seed_that_lacks_a_set_has_no_mean(make: SimpleNamespace) -> None:
    records = records_of(make)
    del records[1]["ood"]["patches"]
    records[2]["ood"]["noise"]["max_logit_ap"] = None
    table = comparison_table(records)
    assert "OOD AP of a: over 1 of 3 seeds, else undefined." in table.notes
    assert group_by_head(records)[0].values("ood_ap") == [pytest.approx(0.8), None, None]


def test_the_recommendation_names_the_sets(make: SimpleNamespace) -> None:
    line = next(line for line in recommendations(records_of(make)) if "strange" in line)
    assert line == (
        "for rejecting strange inputs take b (OOD AP 0.977 ± 0.003); every other head is significantly worse; "
        "strange: noise, patches"
    )


def test_the_range_of_chance_is_told(make: SimpleNamespace) -> None:
    records = with_ood(make.head("a", accuracy=[0.9, 0.9]), noise=[0.9, 0.8])
    records[1]["ood"]["noise"]["base_rate"] = 0.254
    legend = comparison_table(records).legend[-1]
    assert legend.endswith("(noise), ranked by max logit; chance gives 0.25 to 0.30.")


def test_a_narrow_terminal_drops_it_before_miss_ap(make: SimpleNamespace) -> None:
    table = comparison_table(records_of(make))
    for width in range(20, 120):
        caption = str(table.to_rich(width).caption or "")
        if "MISS AP" in caption:
            assert "OOD AP" in caption
    assert "OOD AP" not in str(table.to_rich(200).caption or "")
