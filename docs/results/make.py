"""Put the results of a study into this folder: the page as a picture, the table and the verdicts as Markdown.

    python docs/results/make.py FOLDER [NAME ...]

FOLDER is what ``logitlab study run`` wrote (``--out``); NAME a study in it, all of them by default.
"""

from __future__ import annotations

import sys
from collections import Counter
from datetime import datetime
from pathlib import Path

from PIL import Image

from logitlab.records.study import StudyResults, list_studies
from logitlab.report.study import study_markdown, write_study_report
from logitlab.studies import gather_results

HERE = Path(__file__).parent
WIDTH = 1280


def how(results: StudyResults) -> str:
    """Say with what, and in what time, the trials were run."""
    provenance = [record["provenance"] for record in results.records.values()]
    versions = Counter(
        ", ".join(f"{name} {number}" for name, number in each["versions"].items() if number) for each in provenance
    )
    devices = Counter(f"{each['device']}, {each['threads']} thread(s) a trial" for each in provenance)
    times = sorted(datetime.fromisoformat(each[key]) for each in provenance for key in ("started", "finished"))
    seconds = sum(each["seconds"] for each in provenance)
    minutes = (times[-1] - times[0]).total_seconds() / 60
    return "\n".join(
        [
            "## How it was run",
            "",
            f"- Device: {'; '.join(devices)}.",
            f"- Versions: {'; '.join(versions)}.",
            f"- {len(provenance)} trials: {minutes:.1f} minutes from the start of the first to the end of the last, "
            f"{seconds / 60:.1f} minutes of trials added up.",
            "",
        ]
    )


def picture(page: Path, target: Path) -> None:
    """Take a picture of the whole page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": 900})
        tab.goto(page.resolve().as_uri())
        tab.screenshot(path=target, full_page=True)
        browser.close()
    # Few colours: a palette keeps the file to a third.
    with Image.open(target) as full:
        small = full.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    small.save(target, optimize=True)


def main(arguments: list[str]) -> None:
    """Write a page and a picture a study."""
    if not arguments:
        sys.exit(__doc__)
    root = Path(arguments[0])
    for name in arguments[1:] or list_studies(root):
        results = gather_results(root, name)
        assert results.folder is not None
        page = write_study_report(results, results.folder / "report.html")
        picture(page, HERE / f"{name}.png")
        text = study_markdown(results)
        (HERE / f"{name}.md").write_text(f"{text}\n{how(results)}\n![The page]({name}.png)\n", encoding="utf-8")
        sys.stdout.write(f"{name}: {len(results.records)} trials\n")


if __name__ == "__main__":
    main(sys.argv[1:])
