"""The page in headless Chromium: it opens, sorts, asks for nothing, fits a phone and can be read in the dark."""

import re

import fabricated
import pytest

from logitlab.report import write_report

pytestmark = pytest.mark.slow

NAMES = ["ankle boot", "a/b & <c>", "shirt", "a class with quite a long name", "日本語"]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    heads = ("softmax", "label_smoothing", "cosine_ls", "sigmoid")
    records = fabricated.fabricate(root, heads, names=NAMES, ood=("photographs", "uniform noise"))
    long = "squared_error_with_a_name_that_no_phone_is_wide_enough_for"
    records.append(fabricated.make_failure(long, 0, "The loss of epoch 2 is not finite: lower the learning rate."))
    return write_report(records, root, root / "report.html")


def column(page, number):
    return page.locator("#table tbody tr").evaluate_all(
        "(rows, place) => rows.map(row => row.cells[place].dataset.value)", number
    )


def numbers(values):
    return [float(value) for value in values if value]


def test_a_click_sorts_with_the_best_on_top_and_a_second_one_turns_it_round(open_page):
    page = open_page()
    heading = page.locator("#table th").filter(has_text="accuracy")
    before = column(page, 2)
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert numbers(column(page, 2)) == sorted(numbers(before), reverse=True)
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert numbers(column(page, 2)) == sorted(numbers(before))
    # A failed head has no number; it stays at the end either way.
    assert column(page, 2)[-1] == ""
    # Lower is better here, so the lowest comes first.
    page.locator("#table th").filter(has_text="NLL").get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "none"
    assert numbers(column(page, 3)) == sorted(numbers(column(page, 3)))


def test_the_keyboard_alone_reaches_and_sorts_the_table(open_page):
    page = open_page()
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('#table th button')"):
            break
    assert page.evaluate("document.activeElement.textContent") == "head"
    page.keyboard.press("Enter")
    assert column(page, 0) == sorted(column(page, 0))
    page.keyboard.press("Space")
    assert column(page, 0) == sorted(column(page, 0), reverse=True)
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_the_legend_shows_one_head_alone(open_page):
    page = open_page()
    button = page.locator('.legend[data-for="curves"] button').first
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert page.locator("#curves .series-1.faded").count() > 0
    assert page.locator("#curves .series-0.faded").count() == 0
    button.click()
    assert page.locator("#curves .faded").count() == 0


@pytest.mark.parametrize("width", [375, 320, 768, 1280])
def test_nothing_is_wider_than_the_screen(open_page, width):
    page = open_page(width=width)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # What hides an overflow from scrollWidth would hide it from the reader as well.
    assert page.evaluate("getComputedStyle(document.body).overflowX") == "visible"


def test_a_swatch_stands_beside_the_first_line_of_its_name(open_page):
    """Also where another cell of its row has more lines, as on a phone."""
    page = open_page(width=375)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    found = page.locator("tbody th.name").evaluate_all(
        """all => all.map(cell => {
            const range = document.createRange();
            range.selectNodeContents(cell);
            range.setStartAfter(cell.querySelector("svg"));
            const line = range.getClientRects()[0], mark = cell.querySelector("svg").getBoundingClientRect();
            return [line.top, mark.top + mark.height / 2, line.bottom, cell.getBoundingClientRect().height];
        })"""
    )
    assert max(height for *_, height in found) > 60
    assert all(top <= middle <= bottom for top, middle, bottom, _ in found)


def test_every_picture_is_drawn(open_page):
    page = open_page()
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.evaluate("Array.from(document.images).every(each => each.complete && each.naturalWidth > 0)")
    sizes = page.locator("figure > svg").evaluate_all("all => all.map(each => each.getBoundingClientRect().width)")
    assert len(sizes) > 20
    assert min(sizes) > 200


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_lines_stand_out(open_page, scheme):
    """WCAG 2.2: 4.5 for text (1.4.3), 3 for the lines and marks of a picture (1.4.11)."""
    page = open_page(scheme=scheme)
    paper = colour(page, "document.body", "backgroundColor")
    assert (luminance(paper) < 0.05) is (scheme == "dark")
    for selector in ("h1", "p.lead", ".note", "nav a", "#table td", ".notes li", "figure svg text"):
        assert contrast(colour(page, f"document.querySelector('{selector}')", "color"), paper) >= 4.5, selector
    card = colour(page, "document.querySelector('.card')", "backgroundColor")
    for selector in (".card .purpose", ".card .sentence", ".card summary"):
        assert contrast(colour(page, f"document.querySelector('{selector}')", "color"), card) >= 4.5, selector
    best = colour(page, "document.querySelector('td.best')", "backgroundColor")
    assert contrast(colour(page, "document.querySelector('td.best')", "color"), best) >= 4.5
    assert contrast(colour(page, "document.querySelector('td.best small')", "color"), best) >= 4.5
    for name in [*(f"--series-{place}" for place in range(7)), "--known", *(f"--strange-{n}" for n in range(4))]:
        value = page.evaluate("name => getComputedStyle(document.documentElement).getPropertyValue(name)", name)
        assert contrast(hexadecimal(value), paper) >= 3, name


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


def test_contrast_is_that_of_the_guideline():
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((119, 119, 119), (255, 255, 255)) == pytest.approx(4.48, abs=0.01)
