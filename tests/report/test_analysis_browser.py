"""The page of an analysis in headless Chromium: it opens, sorts, asks for nothing, fits a phone, serves dark mode."""

import analysed
import pytest

from logitlab.report.analysis_page import write_analysis_page

pytestmark = pytest.mark.slow

LONG = "a_name_that_no_phone_is_wide_enough_for_" + "x" * 24


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    given = analysed.make_analysis(
        ("cosine:kappa=5", "cosine:kappa=20", LONG, '<b>"quoted"</b>'),
        points=300,
        class_names=["ankle boot", "a/b & <c>", "日本語", *(f"class {number}" for number in range(7))],
        failures=[{"model": None, "measure": "cka", "message": "A" + "nother" * 30}],
    )
    given.measures["rank"].pop(LONG)
    return write_analysis_page(given, tmp_path_factory.mktemp("page") / "analysis.html")


@pytest.fixture
def unfolded(open_page):
    """Open the page with all that is folded."""

    def visit(**how):
        page = open_page(**how)
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        return page

    return visit


def column(page, heading):
    return page.evaluate(
        """heading => {
            const table = document.querySelector("#table table");
            const place = [...table.tHead.rows[0].cells].findIndex(each => each.textContent.trim() === heading);
            return [...table.tBodies[0].rows].map(row => row.cells[place].dataset.value);
        }""",
        heading,
    )


def test_every_table_sorts_with_the_best_on_top_and_blanks_at_the_end(unfolded):
    page = unfolded()
    page.locator("#table th button", has_text="R²").click()
    found = [float(value) for value in column(page, "R²")]
    assert found == sorted(found, reverse=True)
    page.locator("#table th button", has_text="rank").click()
    assert column(page, "rank")[-1] == ""
    page.locator("#table th button", has_text="rank").click()
    assert column(page, "rank")[-1] == ""
    assert page.locator("#table th[aria-sort=ascending]").count() == 1
    # A lower FPR is better.
    table = page.locator("#analysis-strange table").nth(2)
    heading = table.locator("th").nth(1)
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"


def test_the_legend_shows_one_model_alone(unfolded):
    page = unfolded()
    button = page.locator("#analysis-spectra .legend button").nth(1)
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert page.locator("#analysis-spectra .series-0.faded").count() > 0
    assert page.locator("#analysis-spectra .series-1.faded").count() == 0
    assert page.locator("#analysis-layers .faded").count() == 0
    button.click()
    assert page.locator(".faded").count() == 0


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_screen(unfolded, width):
    page = unfolded(width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("getComputedStyle(document.body).overflowX") == "visible"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_classes_and_words_stand_out(unfolded, scheme):
    """WCAG 2.2: 4.5 for text (1.4.3), 3 for the marks of a picture (1.4.11)."""
    page = unfolded(scheme=scheme)
    assert (
        page.evaluate(CONTRAST, ["p.lead", ".note", ".notes li", "figcaption", "#table td", "figure svg text"]) >= 4.5
    )
    marks = page.evaluate(MARKS)
    assert len(marks) == 10
    assert min(marks) >= 3


def test_every_picture_is_drawn_and_named(unfolded):
    page = unfolded()
    found = page.locator("figure > svg").evaluate_all(
        "all => all.map(each => [each.getBoundingClientRect().width, each.getAttribute('aria-label'),"
        " each.getAttribute('role')])"
    )
    assert len(found) > 40
    assert all(width > 60 and said and role == "img" for width, said, role in found)


_LUMINANCE = """
const linear = value => {
  const share = value / 255;
  return share <= .04045 ? share / 12.92 : ((share + .055) / 1.055) ** 2.4;
};
const light = text => {
  const [r, g, b] = text.match(/[\\d.]+/g).map(Number);
  return .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
};
const ratio = (one, other) => {
  const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
  return (high + .05) / (low + .05);
};
const paper = getComputedStyle(document.body).backgroundColor;
"""
#: The least contrast of the first element of each selector with the page.
CONTRAST = (
    f"selectors => {{ {_LUMINANCE} return Math.min(...selectors.map("
    "each => ratio(getComputedStyle(document.querySelector(each)).color, paper))); }"
)
#: The contrast of the colour of each class in the first map.
MARKS = (
    f"() => {{ {_LUMINANCE}"
    "const marks = document.querySelector('#analysis-map figure > svg').querySelectorAll('path');"
    "return [...marks].filter(each => each.getAttribute('d').includes('h0'))"
    ".map(each => ratio(getComputedStyle(each).stroke, paper)); }"
)
