"""The page of a study in headless Chromium: it sorts, asks for nothing, fits a phone, can be read in the dark."""

import re

import pytest
from fabricated_results import example

from logitlab.report.study import write_study_report

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    results, paper = example(finished=False)
    return write_study_report(results, tmp_path_factory.mktemp("study") / "report.html", paper)


def column(page, number):
    return page.locator("#table tbody tr").evaluate_all(
        "(rows, place) => rows.map(row => row.cells[place].dataset.value)", number
    )


def numbers(values):
    return [float(value) for value in values if value]


def test_ours_and_the_papers_columns_sort_alike(open_page):
    page = open_page()
    headings = page.locator("#table thead tr").nth(1).locator("th")
    titles = [re.sub(r"\s+", " ", title) for title in headings.all_inner_texts()]
    assert [title.split(" ↑")[0].split(" ↓")[0] for title in titles][:4] == ["row", "seeds", "accuracy %", "NLL"]
    # Row, seeds, three of ours: the paper's first column is the sixth.
    for place, best_first in ((2, True), (3, False), (5, True)):
        headings.nth(place).get_by_role("button").click()
        found = numbers(column(page, place))
        assert len(found) >= 5
        assert found == sorted(found, reverse=best_first)
        # The row that waits has no number of ours; it stays at the end.
        assert (column(page, place)[-1] == "") or place == 5
    assert headings.nth(5).get_attribute("aria-sort") == "descending"
    assert headings.nth(2).get_attribute("aria-sort") == "none"


def test_every_cell_stands_below_its_heading(open_page):
    page = open_page()
    widths = page.evaluate(
        """() => {
            const table = document.querySelector("#table table");
            const groups = Array.from(table.tHead.rows[0].cells).reduce((sum, cell) => sum + cell.colSpan, 0);
            return [groups, table.tHead.rows[1].cells.length,
                    ...Array.from(table.tBodies[0].rows, row => row.cells.length)];
        }"""
    )
    assert set(widths) == {7}


def test_the_points_of_a_search_sort(open_page):
    page = open_page()
    table = page.locator("#searches table").first
    table.get_by_role("button", name="mean").click()
    found = table.locator("tbody tr").evaluate_all("rows => rows.map(row => Number(row.cells[1].dataset.value))")
    assert found == sorted(found, reverse=True)


def test_a_verdict_is_said_in_words(open_page):
    page = open_page()
    assert page.locator(".badge").all_inner_texts() == ["? not decided at this scale"] * 4


def test_the_legend_shows_one_row_alone(open_page):
    page = open_page()
    for section in ("figures", "epochs"):
        button = page.locator(f'.legend[data-for="{section}"] button').first
        button.click()
        assert page.locator(f"#{section} .series-1.faded").count() > 0
        assert page.locator(f"#{section} .series-0.faded").count() == 0


@pytest.mark.parametrize("width", [320, 375, 768, 1280])
def test_nothing_is_wider_than_the_screen(open_page, width):
    page = open_page(width=width)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("getComputedStyle(document.body).overflowX") == "visible"


def test_every_picture_is_drawn(open_page):
    page = open_page()
    sizes = page.locator("figure > svg").evaluate_all("all => all.map(each => each.getBoundingClientRect().width)")
    assert len(sizes) >= 9
    assert min(sizes) > 200
    assert page.locator("figure > svg").evaluate_all("all => all.every(each => each.getAttribute('aria-label'))")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(open_page, scheme):
    """WCAG 2.2, 1.4.3: 4.5."""
    page = open_page(scheme=scheme)
    paper = colour(page, "document.body", "backgroundColor")
    assert (luminance(paper) < 0.05) is (scheme == "dark")
    for selector in ("h1", ".scale", "td.foreign", "td.foreign small", "small.state", "figure svg text"):
        assert contrast(colour(page, f"document.querySelector('{selector}')", "color"), paper) >= 4.5, selector
    raised = colour(page, "document.querySelector('.claim')", "backgroundColor")
    assert raised != paper
    for selector in (".claim .badge", ".claim .sentence", ".claim .rule", ".groups small", "small.source"):
        assert contrast(colour(page, f"document.querySelector('{selector}')", "color"), raised) >= 4.5, selector
    for name in ("--good", "--bad", "--muted"):
        value = page.evaluate("name => getComputedStyle(document.documentElement).getPropertyValue(name)", name)
        assert contrast(hexadecimal(value), raised) >= 4.5, name


def test_it_can_be_sent_by_mail(report):
    assert report.stat().st_size < 2_000_000


def colour(page, element, style):
    found = page.evaluate(f"getComputedStyle({element}).{style}")
    return tuple(int(part) for part in re.findall(r"\d+", found)[:3])


def hexadecimal(value):
    digits = value.strip().lstrip("#")
    return tuple(int(digits[place : place + 2], 16) for place in (0, 2, 4))


def luminance(rgb):
    def linear(value):
        share = value / 255
        return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(value) for value in rgb)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
