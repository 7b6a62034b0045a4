"""Make the pages of this folder, and ``docs/results.md``, from the records in ``records.tar.xz``.

    python docs/results/make.py [NAME ...]

A page and a picture for each study of the archive, NAME for some of them; ``results.md`` lists the claims of all.
``archive.py`` puts records into the archive.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from archive import ARCHIVE, contents, unpack
from PIL import Image
from trails import head_trails, measure_trail

from logitlab.records.study import StudyResults, list_studies
from logitlab.report.rendering import escape_markdown
from logitlab.report.study import study_markdown, verdicts, write_study_report
from logitlab.report.study.claims import Verdict
from logitlab.report.study.state import study_command
from logitlab.studies import gather_results

HERE = Path(__file__).parent
INDEX = HERE.parent / "results.md"
WIDTH = 1280

# What is left of a page for its picture.
_FIGURES_ALONE = """for (const part of document.querySelectorAll("section, nav, footer"))
    if (part.id != "figures" && !part.id.startsWith("analysis-")) part.remove()"""

#: Verdicts in the order of the summary.
_WORDS = {"holds": "hold", "does not": "do not", "not decided at this scale": "are not decided"}


def how(results: StudyResults) -> str:
    """Say with what, and in what time, the trials were run."""
    provenance = [record["provenance"] for record in results.records.values()]
    versions = Counter(
        ", ".join(f"{name} {number}" for name, number in each["versions"].items() if number) for each in provenance
    )
    devices = Counter(f"{each['device']}, {each['threads']} thread(s) a trial" for each in provenance)
    times = sorted(datetime.fromisoformat(each[key]) for each in provenance for key in ("started", "finished"))
    seconds = sum(each["seconds"] for each in provenance)
    return "\n".join(
        [
            "## How it was run",
            "",
            f"- Device: {'; '.join(devices)}.",
            f"- Versions: {'; '.join(versions)}.",
            f"- {len(provenance)} trials, {seconds / 60:.1f} minutes of training added up, from {times[0]:%Y-%m-%d %H:%M} "
            f"to {times[-1]:%Y-%m-%d %H:%M} UTC. Trials that several studies share were trained once.",
            "",
        ]
    )


def where(results: StudyResults) -> str:
    """Lead from each row and column to the code and to the equation in the paper."""
    up = "../../"
    lines = [
        "## Where it comes from",
        "",
        f"The preset: [{results.definition.name}.yaml]({up}src/logitlab/studies/presets/{results.definition.name}.yaml).",
        "",
        "| row | head, with its equation | code |",
        "| --- | --- | --- |",
    ]
    for row in results.rows:
        name, source, trails = head_trails(row.plan.head)
        code = ", ".join(f"{trail.link(up)}: {escape_markdown(trail.source)}" for trail in trails)
        lines.append(f"| {escape_markdown(row.label)} | [{name}](../heads/{name}.md): {source} | {code} |")
    lines += ["", "| measure | code | in the paper |", "| --- | --- | --- |"]
    for measure in measures_of(results):
        trail = measure_trail(measure)
        lines.append(f"| `{measure}` | {trail.link(up)} | {escape_markdown(trail.source)} |")
    return "\n".join([*lines, ""])


def measures_of(results: StudyResults) -> list[str]:
    """Return what the table and the claims of a study are about, each once."""
    definition = results.definition
    asked = [column.measure for column in definition.columns]
    for claim in definition.claims:
        asked += [claim.measure, claim.than_measure or claim.measure]
    return list(dict.fromkeys(asked))


def picture(page: Path, target: Path) -> None:
    """Take a picture of the figures of a page; its tables and claims stand beside it as text."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": 900})
        tab.goto(page.resolve().as_uri())
        tab.evaluate(_FIGURES_ALONE)
        shot = Path(folder) / "page.png"
        tab.screenshot(path=shot, full_page=True)
        browser.close()
        with Image.open(shot) as full:
            # No side of a WebP is longer than 16,383 pixels.
            full.convert("RGB").crop((0, 0, full.width, min(full.height, 16_383))).save(target, quality=55, method=6)


def index(studies: Sequence[tuple[StudyResults, Sequence[Verdict]]]) -> str:
    """Return the list of all claims with their verdicts."""
    counts = Counter(verdict.verdict for _, found in studies for verdict in found)
    total = sum(counts.values())
    words = ", ".join(f"{counts[verdict]} {word}" for verdict, word in _WORDS.items())
    trials = {identity: record for results, _ in studies for identity, record in results.records.items()}
    hours = sum(record["provenance"]["seconds"] for record in trials.values()) / 3600
    lines = [
        "# Results",
        "",
        "What LogitLab's own studies say of the claims of the papers, at the scale `small`: 10,000 training images of",
        "Fashion-MNIST, a small network, ten or twelve epochs, three seeds. A claim that fails here fails at this scale,",
        "on these images; that does not make it wrong. Where W speaks of ImageNet and 8 or 25 models, three seeds of a",
        "small network decide little, and most often *not decided at this scale* is the honest answer.",
        "",
        "Each claim stood with its rule in the preset before its study was measured. Two things to know: the nine objectives",
        "of W were trained for Table 1, whose accuracy, NLL, ECE and R² were published here before the further claims of",
        "Tables 3, 4 and E.1 about the same numbers were written; and the models of the sweep over κ were being trained,",
        "and nobody had seen more than two accuracies, while the claims about them were written.",
        "",
        f"{total} claims: {words}. {len(trials)} trials, {hours:.1f} hours of one core.",
        "",
        "Each study is one command, which trains what is not there; studies share their trials. The records are kept in",
        "[records.tar.xz](results/records.tar.xz); `python docs/results/make.py` makes this page and the others from them.",
        "From a row of a study's page: its head's page with the equation, the code of head and measure, and the preset",
        "stand under *Where it comes from*.",
        "",
    ]
    lines += ["| study | claims | hold | do not | not decided |", "| --- | ---: | ---: | ---: | ---: |"]
    for results, found in studies:
        words = [sum(verdict.verdict == word for verdict in found) for word in _WORDS]
        title = escape_markdown(results.definition.title)
        lines.append(f"| [{title}](#{anchor(title)}) | {len(found)} | {' | '.join(map(str, words))} |")
    lines.append("")
    for results, found in studies:
        name, folder = results.definition.name, results.definition.folder_name
        lines += [
            f"## {escape_markdown(results.definition.title)}",
            "",
            f"    {study_command(results)}",
            "",
            f"[Table, verdicts and trails](results/{folder}.md), [picture](results/{folder}.webp), "
            f"[preset](../src/logitlab/studies/presets/{name}.yaml). {escape_markdown(results.definition.source)}.",
            "",
        ]
        if found:
            lines += ["| claim | here | figures |", "| --- | --- | --- |"]
        for verdict in found:
            source = f" ({verdict.claim.source})" if verdict.claim.source else ""
            text = escape_markdown(f"{verdict.claim.text}{source}")
            lines.append(f"| {text} | **{verdict.verdict}** | {escape_markdown(verdict.evidence)} |")
        lines.append("")
    return "\n".join(lines)


def anchor(title: str) -> str:
    """Return what a heading is called in links to it: letters, digits and hyphens.

    >>> anchor("Linear transfer (W Table 5)")
    'linear-transfer-w-table-5'
    """
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def in_order(name: str) -> tuple[int, int, str]:
    """Order studies by paper, W first, tables before figures."""
    paper, kind = name.split("-")[:2]
    return ["w", "t", "ts", "g", "l"].index(paper), ["table", "figure"].index(kind), name


def main(names: Sequence[str]) -> None:
    """Write the pages that are asked for, and the list of claims."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        unpack(root)
        known = sorted(list_studies(root), key=in_order)
        if unknown := sorted(set(names) - set(known)):
            sys.exit(f"{ARCHIVE.name} holds no study '{unknown[0]}'. It holds: {', '.join(known)}.")
        studies = []
        for name in known:
            results = gather_results(root, name)
            studies.append((results, verdicts(results)))
            if names and name not in names:
                continue
            assert results.folder is not None
            page = write_study_report(results, results.folder / "report.html")
            picture(page, HERE / f"{name}.webp")
            parts = [study_markdown(results), where(results), how(results), f"![The figures]({name}.webp)\n"]
            (HERE / f"{name}.md").write_text("\n".join(parts), encoding="utf-8")
            sys.stdout.write(f"{name}: {len(results.records)} trials, {len(studies[-1][1])} claims\n")
        INDEX.write_text(index(studies), encoding="utf-8")
        sys.stdout.write(f"{len(contents())} files in {ARCHIVE.name}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
