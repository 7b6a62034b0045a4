"""The table of heads in LaTeX, ruled by booktabs."""

from __future__ import annotations

import re

from .columns import Column, decimals_for, write_estimate
from .content import Cell, TableContent
from .rendering import sentences

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    # What pdfLaTeX's standard fonts lack.
    "κ*": r"$\kappa^*$",
    "κ": r"$\kappa$",
    "τ": r"$\tau$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "λ": r"$\lambda$",
    "²": r"$^2$",
    "±": r"$\pm$",
    "−": "$-$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "–": "--",
    "…": r"\dots{}",
}
_PATTERN = re.compile("|".join(re.escape(text) for text in sorted(_SPECIAL, key=len, reverse=True)))


def to_latex(table: TableContent, label: str = "tab:heads") -> str:
    r"""A ``table`` with a caption that says what the numbers are; needs ``\usepackage{booktabs}``.

    What is marked (not significantly different from the best) stands in bold.

    Args:
        table: the heads.
        label: for ``\ref``.
    """
    shows_seeds = len({row.seeds for row in table.rows}) > 1
    titles = ["head", *(["seeds"] if shows_seeds else []), *(column.title for column in table.columns)]
    places = [
        decimals_for(column, [found for row in table.rows if (found := row.cells[index].estimate)])
        for index, column in enumerate(table.columns)
    ]
    lines = []
    for row in table.rows:
        cells = [_cell(*entry) for entry in zip(table.columns, row.cells, places)]
        lines.append([escape_latex(row.label), *([str(row.seeds)] if shows_seeds else []), *cells])
    caption = " ".join(sentences(table, "Bold"))
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape_latex(caption)}}}",
            rf"\label{{{label}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(titles) - 1)}}}",
            r"\toprule",
            " & ".join(map(escape_latex, titles)) + r" \\",
            r"\midrule",
            *(" & ".join(line) + r" \\" for line in lines),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def escape_latex(text: str) -> str:
    r"""Write a text so that LaTeX prints it as it stands.

    >>> print(escape_latex("label_smoothing:alpha=5% & κ*"))
    label\_smoothing:alpha=5\% \& $\kappa^*$
    """
    return _PATTERN.sub(lambda found: _SPECIAL[found[0]], " ".join(text.split()))


def _cell(column: Column, cell: Cell, decimals: int) -> str:
    if cell.estimate is None:
        return "--"
    mean, error = write_estimate(column, cell.estimate, decimals)
    body = rf"{mean} \pm {error}" if error else mean
    return rf"$\mathbf{{{body}}}$" if cell.marked else f"${body}$"
