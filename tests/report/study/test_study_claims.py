"""Claims of a definition against made-up rows: which rows and numbers a rule is given, and what cannot be asked."""

import pytest
from fabricated_results import ACCURACY, NLL, example, make_paper, make_results, make_row

from logitlab.report.study import verdicts
from logitlab.report.study.claims import rule_text

HIGH, LOW, MIDDLE = [0.910, 0.912, 0.911], [0.800, 0.803, 0.801], [0.9105, 0.911, 0.912]
OPEN = "not decided at this scale"


def ask(given, table=None, /, **claim):
    claim = {"text": "So it is.", "measure": "test.accuracy", **claim}
    (found,) = verdicts(make_results(given, claims=[claim], columns=[ACCURACY, NLL]), table)
    return found


def trend_rows(means, axis="head.kappa", **kwargs):
    return [
        make_row(
            f"κ = {place}",
            [mean, mean + 0.002, mean - 0.001],
            settings={axis: place},
            entry="κ = {head.kappa}",
            **kwargs,
        )
        for place, mean in enumerate(means, start=1)
    ]


def test_above_and_below():
    rows = [make_row("softmax", LOW), make_row("a", HIGH), make_row("b", MIDDLE)]
    found = ask(rows, rule="above", than="softmax")
    assert found.verdict == "holds"
    # Written as the table writes it, with one digit more.
    assert "a minus softmax: +10.967 ± 0.033 (p < 0.0001, n = 3 seeds)" in found.evidence
    assert found.numbers.keys() == {"a - softmax", "b - softmax"}
    assert ask(rows, rule="below", than="softmax", rows=["a"]).verdict == "does not"
    assert ask(rows, rule="above", than="a", rows=["b"]).verdict == OPEN


def test_trends_along_an_axis():
    assert ask(trend_rows([0.1, 0.2, 0.3, 0.4, 0.5]), rule="increases", along="head.kappa").verdict == "holds"
    assert ask(trend_rows([0.1, 0.2, 0.3, 0.4, 0.5]), rule="decreases", along="head.kappa").verdict == "does not"
    few = ask(trend_rows([0.1, 0.2, 0.3]), rule="increases", along="head.kappa")
    assert (few.verdict, "3 rows in perfect order have p = 0.33" in few.evidence) == (OPEN, True)


def test_a_row_without_the_axis_is_no_part_of_a_trend():
    rows = [make_row("softmax", [0.9, 0.91]), *trend_rows([0.1, 0.2, 0.3, 0.4, 0.5])]
    assert ask(rows, rule="increases", along="head.kappa").verdict == "holds"
    named = ask(rows, rule="increases", along="head.kappa", rows=["softmax", "κ = 1"])
    assert (named.verdict, "softmax has no number for 'head.kappa'" in named.evidence) == (OPEN, True)
    none = ask(rows, rule="increases", along="head.tau")
    assert "no row has a number for 'head.tau'" in none.evidence


def test_a_trend_waits_for_the_rows_whose_place_is_still_to_be_chosen():
    rows = [*trend_rows([0.1, 0.2, 0.3, 0.4, 0.5]), make_row("2κ*", waiting="κ* is not known yet.")]
    claim = {"text": "It rises.", "measure": "test.accuracy", "rule": "increases", "along": "head.kappa"}
    depends = {"head.kappa": {"of": "softmax", "measure": "validation.kappa_star"}}
    heads = [{"head": "cosine", "label": "κ = {head.kappa}"}, {"head": "cosine", "label": "2κ*", "depends_on": depends}]
    (found,) = verdicts(make_results(rows, heads=heads, claims=[claim]))
    assert found.verdict == OPEN
    assert "2κ*: waits: κ* is not known yet" in found.evidence
    rows[-1] = make_row("2κ*", [0.6, 0.61], chosen={"head.kappa": 9.5})
    (found,) = verdicts(make_results(rows, heads=heads, claims=[claim]))
    assert (found.verdict, found.numbers["n"]) == ("holds", 6)


def test_best_among():
    rows = [make_row("softmax", LOW), make_row("a", HIGH), make_row("b", MIDDLE)]
    assert ask(rows, rule="best_among", rows=["a", "b"]).verdict == "holds"
    assert ask(rows, rule="best_among", rows=["softmax"]).verdict == "does not"
    assert ask(rows, rule="best_among", rows=["a"]).verdict == OPEN
    assert ask(rows, rule="best_among", rows=["softmax"], better="lower").verdict == "holds"


def test_the_best_is_looked_for_among_rows_of_the_same_images():
    rows = [
        make_row("a", HIGH, settings={"data": "digits"}),
        make_row("b", LOW, settings={"data": "digits"}),
        make_row("a, cifar10", [0.99, 0.991, 0.992], settings={"data": "cifar10"}),
    ]
    assert ask(rows, rule="best_among", rows=["a"]).verdict == "holds"


GRID = {"data": ["digits", "cifar10"]}


def grid_rows(entries, **kwargs):
    """Each entry on both sets of images, as a study lays them out; ``entries``: label → one accuracy a set."""
    return [
        make_row(
            f"{label} [data = {data}]",
            [means[place], means[place] + 0.002, means[place] - 0.001 + 0.0003 * number],
            settings={"data": data},
            entry=label,
            **kwargs,
        )
        for place, data in enumerate(GRID["data"])
        for number, (label, means) in enumerate(entries.items())
    ]


def ask_grid(rows, table=None, /, **claim):
    claim = {"text": "So it is.", "measure": "test.accuracy", **claim}
    (found,) = verdicts(make_results(rows, claims=[claim], columns=[ACCURACY], grid=GRID), table)
    return found


def test_rows_are_compared_with_the_row_on_their_own_images():
    # Worse than softmax on digits is better than softmax on cifar10.
    rows = grid_rows({"softmax": (0.9, 0.5), "a": (0.95, 0.6)})
    found = ask_grid(rows, rule="above", than="softmax")
    assert (found.verdict, set(found.numbers)) == (
        "holds",
        {f"a [data = {data}] - softmax [data = {data}]" for data in GRID["data"]},
    )
    assert "data = digits: a [data = digits] minus softmax [data = digits]: " in found.evidence
    assert " data = cifar10: a [data = cifar10] minus softmax [data = cifar10]: " in found.evidence
    assert found.evidence.endswith("Holm-corrected over 2 comparisons.")
    assert ask_grid(rows, rule="above", than="softmax", rows=["a"]).numbers == found.numbers
    # It holds where it holds on all images, and does not where it does not on some.
    assert ask_grid(grid_rows({"softmax": (0.9, 0.5), "a": (0.95, 0.4)}), rule="above", than="softmax").verdict == (
        "does not"
    )
    assert ask_grid(grid_rows({"softmax": (0.9, 0.5), "a": (0.95, 0.5)}), rule="above", than="softmax").verdict == OPEN


def test_one_exact_row_is_compared_with_on_its_own_images_alone():
    rows = grid_rows({"softmax": (0.9, 0.5), "a": (0.95, 0.6)})
    found = ask_grid(rows, rule="above", than="softmax [data = digits]")
    assert found.verdict == "holds"
    assert found.numbers.keys() == {"a [data = digits] - softmax [data = digits]"}
    assert (
        "Left out, for 'softmax [data = digits]' does not stand on their setting: softmax [data = cifar10], "
        "a [data = cifar10]."
    ) in found.evidence
    none = ask_grid(rows, rule="above", than="softmax [data = digits]", rows=["a [data = cifar10]"])
    assert none.evidence == (
        "Cannot be asked of this study: no row is left beside 'softmax [data = digits]', on its own setting."
    )
    twice = [
        make_row(f"b{number} [data = {data}]", HIGH, settings={"data": data}, entry="b")
        for data in GRID["data"]
        for number in (1, 2)
    ]
    several = ask_grid([*rows, *twice], rule="above", than="b")
    assert several.evidence.endswith("'b' makes 2 rows at data = digits; name one of them.")


def test_a_trend_is_looked_for_on_each_set_of_images():
    def rows(second):
        return [
            make_row(
                f"κ = {place} [data = {data}]",
                [mean, mean + 0.002, mean - 0.001],
                settings={"head.kappa": place, "data": data},
                entry="κ = {head.kappa}",
            )
            for data, means in zip(GRID["data"], ([0.1, 0.2, 0.3, 0.4, 0.5], second))
            for place, mean in enumerate(means, start=1)
        ]

    ask_trend = {"rule": "increases", "along": "head.kappa"}
    # Over all ten rows at once p is far below 0.05.
    turned = ask_grid(rows([0.49, 0.48, 0.47, 0.46, 0.45]), **ask_trend)
    assert turned.verdict == "does not"
    assert turned.evidence.startswith("data = digits (holds): Means along head.kappa: 10.033 at 1, ")
    assert " data = cifar10 (does not): Means along head.kappa: 49.033 at 1, " in turned.evidence
    assert turned.numbers["data = digits: n"] == turned.numbers["data = cifar10: n"] == 5
    assert ask_grid(rows([0.6, 0.7, 0.8, 0.85, 0.9]), **ask_trend).verdict == "holds"
    assert ask_grid(rows([0.1, 0.4, 0.3, 0.2, 0.5]), **ask_trend).verdict == OPEN


def test_the_axis_of_a_trend_keeps_no_rows_apart():
    places = [10, 20, 30, 40, 50]
    rows = [
        make_row(f"a [epochs = {place}]", [place / 100, place / 100 + 0.001], settings={"training.epochs": place})
        for place in places
    ]
    claim = {"text": "It rises.", "measure": "test.accuracy", "rule": "increases", "along": "training.epochs"}
    (found,) = verdicts(make_results(rows, claims=[claim], grid={"training.epochs": places}))
    assert (found.verdict, found.numbers["n"]) == ("holds", 5)


def test_the_best_is_among_the_rows_on_each_set_of_images():
    best = {"rule": "best_among", "rows": ["a"]}
    held = ask_grid(grid_rows({"a": (0.9, 0.6), "b": (0.8, 0.5)}), **best)
    assert held.verdict == "holds"
    assert "data = cifar10 (holds): Best: a [data = cifar10], " in held.evidence
    assert ask_grid(grid_rows({"a": (0.9, 0.5), "b": (0.8, 0.6)}), **best).verdict == "does not"
    alone = ask_grid(grid_rows({"a": (0.9, 0.5), "b": (0.8, 0.6)}), rule="best_among", rows=["a [data = digits]"])
    assert alone.verdict == "holds"
    assert alone.evidence.endswith("Left out, for none of the rows stands there: data = cifar10.")


def test_the_papers_order_on_each_set_of_images():
    def rows(second):
        return grid_rows({f"r{place}": (place / 10, second(place)) for place in range(5)})

    paper = make_paper({"top-1": {f"r{place} [data = {data}]": place for place in range(5) for data in GRID["data"]}})
    asked = {"rule": "paper_order", "paper": "top-1"}
    assert ask_grid(rows(lambda place: 0.5 + place / 10), paper, **asked).verdict == "holds"
    # Over all ten rows ρ is positive.
    assert ask_grid(rows(lambda place: 0.3 - place / 1000), paper, **asked).verdict == "does not"
    half = make_paper({"top-1": {f"r{place} [data = digits]": place for place in range(5)}})
    found = ask_grid(rows(lambda place: 0.3), half, **asked)
    assert (found.verdict, found.numbers["n"]) == ("holds", 5)
    assert found.evidence.endswith("Left out, for the paper prints nothing for them: the rows at data = cifar10.")


def test_the_rule_names_the_settings():
    rows = grid_rows({"softmax": (0.9, 0.5), "a": (0.95, 0.6)})
    claim = {"text": "Better.", "measure": "test.accuracy", "rule": "above", "than": "softmax"}
    results = make_results(rows, claims=[claim], grid=GRID)
    text = rule_text(results.definition.claims[0], results)
    assert text.endswith("p ≤ 0.05. Each setting by itself: data = digits; data = cifar10.")
    plain_results = make_results([make_row("softmax", LOW), make_row("a", HIGH)], claims=[claim])
    assert rule_text(plain_results.definition.claims[0], plain_results).endswith("p ≤ 0.05.")


def test_a_row_is_not_compared_with_itself():
    rows = [make_row("softmax", LOW), make_row("a", HIGH)]
    alone = ask(rows, rule="above", than="softmax", rows=["softmax"])
    assert alone.verdict == OPEN
    assert alone.evidence == "Cannot be asked of this study: no row is left beside 'softmax'."
    assert ask(rows[:1], rule="above", than="softmax").evidence == alone.evidence
    both = ask(rows, rule="above", than="softmax", rows=["softmax", "a"])
    assert (both.verdict, set(both.numbers)) == ("holds", {"a - softmax"})
    assert both.evidence.endswith(" Left out, for it is what the others are compared with: softmax.")
    assert "Left out" not in ask(rows, rule="above", than="softmax").evidence


def test_seeds_that_the_measure_is_undefined_for_decide_nothing():
    rows = [make_row("softmax", [0.8, 0.801, 0.802]), make_row("a", [0.9, 0.9012, float("nan")])]
    found = ask(rows, rule="above", than="softmax")
    assert found.verdict == OPEN
    assert "a: the measure is undefined for seed 2" in found.evidence


def test_a_verdict_stays_on_its_line():
    rows = [make_row("soft\nmax", LOW), make_row("a\u202eb", HIGH)]
    found = ask(rows, rule="above", than="soft\nmax", text="It is\n\tso\x1b.\n", source="P\u2067 1")
    assert found.line == "holds: It is so\\x1b. (P\\u2067 1)"
    assert "a\\u202eb minus soft max: " in found.evidence
    assert str(found).startswith("It is so\\x1b (P\\u2067 1): holds. a\\u202eb minus soft max")


def test_the_order_of_the_paper():
    rows = [make_row(f"row {place}", [place / 10, place / 10 + 0.001]) for place in range(5)]
    paper = make_paper({"top-1": {f"row {place}": 70.0 + place for place in range(5)}})
    assert ask(rows, paper, rule="paper_order", paper="top-1").verdict == "holds"
    turned = make_paper({"top-1": {f"row {place}": 70.0 - place for place in range(5)}})
    assert ask(rows, turned, rule="paper_order", paper="top-1").verdict == "does not"
    short = make_paper({"top-1": {f"row {place}": 70.0 + place for place in range(4)}})
    found = ask(rows, short, rule="paper_order", paper="top-1")
    assert (found.verdict, "both columns: row 4" in found.evidence) == (OPEN, True)
    wrong = ask(rows, paper, rule="paper_order", paper="top-5")
    assert (wrong.verdict, "the paper's table has no column 'top-5'" in wrong.evidence) == (OPEN, True)
    none = ask(rows, rule="paper_order", paper="top-5")
    assert "the study names no table of a paper" in none.evidence


def test_a_row_stands_beside_the_papers_row_of_another_name():
    rows = [make_row(f"row {place}", [place / 10, place / 10 + 0.001], paper_row=f"R{place}") for place in range(5)]
    paper = make_paper({"top-1": {f"R{place}": 70.0 + place for place in range(5)}})
    assert ask(rows, paper, rule="paper_order", paper="top-1").numbers["n"] == 5


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ({"rule": "above", "than": "sofmax"}, "there is no row 'sofmax'; did you mean 'softmax'?"),
        ({"rule": "above", "than": "softmax", "rows": ["zzz"]}, "there is no row 'zzz'"),
        ({"rule": "best_among", "rows": ["aa"]}, "there is no row 'aa'"),
        ({"rule": "above", "than": "softmax", "measure": "test.acuracy"}, "did you mean 'test.accuracy'?"),
        ({"rule": "increases", "along": "head.kappa", "rows": ["zzz"]}, "there is no row 'zzz'"),
    ],
)
def test_what_cannot_be_asked_is_said(claim, said):
    found = ask([make_row("softmax", LOW), make_row("a", HIGH)], **claim)
    assert found.verdict == OPEN
    assert found.evidence.startswith("Cannot be asked of this study: ")
    assert said in found.evidence


def test_the_label_of_an_entry_stands_for_all_of_its_rows():
    rows = [make_row("softmax", LOW), make_row("a, 1", HIGH, entry="a"), make_row("a, 2", MIDDLE, entry="a")]
    assert ask(rows, rule="above", than="softmax", rows=["a"]).numbers.keys() == {"a, 1 - softmax", "a, 2 - softmax"}
    assert "'a' makes 2 rows; name one of them" in ask(rows, rule="above", than="a").evidence


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (make_row("a", HIGH[:2], failures={2: "The loss is not finite."}), "a: seed 2 failed (The loss is not finite)"),
        (make_row("a", failures={0: "No memory.", 1: "No memory."}), "a: seeds 0, 1 failed (No memory)"),
        (make_row("a", HIGH[:2], missing=[2]), "a: seed 2 has no result yet"),
        (make_row("a", waiting="Its κ is not known."), "a: waits: Its κ is not known"),
        (make_row("a", blocked="Its search failed."), "a: blocked: Its search failed"),
        (make_row("a"), "a: no trial has finished"),
        (make_row("a", nll=[0.1, 0.2, 0.3]), "a: seeds 0, 1, 2 have not measured test.accuracy"),
        (make_row("a", [None, float("nan"), float("inf")]), "a: the measure is undefined"),
        (make_row("a", [0.9]), "a: one seed, and one seed decides nothing"),
    ],
)
def test_a_row_that_is_not_whole_decides_nothing(row, said):
    base = make_row("softmax", LOW)
    paper = make_paper({"top-1": {label: place for place, label in enumerate(("softmax", "a", "b", "c"))}})
    rows = [base, row, make_row("b", MIDDLE), make_row("c", [0.5, 0.6, 0.7])]
    for claim in (
        {"rule": "above", "than": "softmax", "rows": ["a"]},
        {"rule": "above", "than": "a", "rows": ["b"]},
        {"rule": "best_among", "rows": ["a"]},
        {"rule": "paper_order", "paper": "top-1"},
    ):
        found = ask(rows, paper, **claim)
        assert found.verdict == OPEN, claim
        if not ("undefined" in said and claim["rule"] == "paper_order"):
            assert said in found.evidence, claim


def test_nothing_has_run():
    rows = [make_row("softmax", missing=[0, 1]), make_row("a", missing=[0, 1])]
    for claim in ({"rule": "above", "than": "softmax"}, {"rule": "best_among", "rows": ["a"]}):
        assert ask(rows, **claim).verdict == OPEN


def test_all_verdicts_of_the_example():
    results, paper = example()
    assert [each.verdict for each in verdicts(results, paper)] == ["holds", "does not", OPEN, "holds"]
    unfinished, paper = example(finished=False)
    found = verdicts(unfinished, paper)
    assert [each.verdict for each in found] == [OPEN] * 4
    assert "softmax: seed 2 failed (TrialError: The loss of epoch 2 is not finite" in found[0].evidence
    assert str(found[0]).startswith("A small κ costs accuracy (T §4.1): not decided at this scale. ")
    assert found[0].to_json()["claim"]["rule"] == "below"


def test_one_measure_exceeds_another_of_the_same_models():
    rows = [
        make_row("a", HIGH, nll=[0.30, 0.31, 0.29]),
        make_row("b", MIDDLE, nll=[0.40, 0.42, 0.39]),
    ]
    found = ask(rows, rule="exceeds", than_measure="test.nll")
    assert (found.verdict, found.numbers["models"]) == ("holds", 6)
    assert ask(rows, rule="exceeds", measure="test.nll", than_measure="test.accuracy").verdict == "does not"
    one = ask(rows, rule="exceeds", than_measure="test.nll", rows=["a"])
    assert one.numbers["models"] == 3
    unknown = ask(rows, rule="exceeds", than_measure="test.nlll")
    assert "no trial has measured 'test.nlll'; did you mean 'test.nll'?" in unknown.evidence


def test_an_analysis_that_looked_at_the_first_seeds_alone_decides_all_the_same():
    high, low = "analysis.cka.first", "analysis.cka.last"
    rows = [make_row(name, HIGH) for name in ("a", "b")]
    for row, first in zip(rows, (0.9, 0.8)):
        row.seeds[0].update({high: first, low: 0.3})
    found = ask(rows, rule="exceeds", measure=high, than_measure=low)
    assert (found.verdict, found.numbers["models"]) == (OPEN, 2)
    rows[1].seeds[0][high] = 0.89
    assert ask(rows, rule="exceeds", measure=high, than_measure=low).verdict == "holds"
