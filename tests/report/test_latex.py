"""The table in LaTeX."""

import re

from logitlab.report import comparison_table
from logitlab.report.latex import escape_latex, to_latex


def test_marks_are_bold_and_numbers_stand_with_their_errors(make):
    records = [
        *make.head("label_smoothing", {"alpha": 0.05}, accuracy=[0.90, 0.92, 0.91], kappa=[None] * 3),
        *make.head("cosine", accuracy=[0.50, 0.52, 0.51], kappa=[20.0] * 3),
    ]
    text = to_latex(comparison_table(records))
    rows = {line.split(" & ")[0]: line for line in text.splitlines() if line.endswith(r"\\")}
    assert r"$\mathbf{91.00 \pm 0.58}$" in rows[r"label\_smoothing:alpha=0.05"]
    assert r"$51.00 \pm 0.58$" in rows["cosine"]
    assert "--" in rows[r"label\_smoothing:alpha=0.05"]
    assert {line.count(" & ") for line in rows.values()} == {text.split("tabular}{")[1].count("r", 0, 12)}
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}", r"\end{table}"):
        assert rule in text
    assert r"Bold: not significantly different from the best" in text


def test_every_special_character_is_escaped():
    text = escape_latex("a_b & 50% #1 $x {y} ~ ^ \\ <z> κ* κ |")
    assert text == (
        r"a\_b \& 50\% \#1 \$x \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{} \textless{}z\textgreater{} "
        r"$\kappa^*$ $\kappa$ \textbar{}"
    )


def test_a_user_s_message_breaks_nothing(make):
    records = [make.record("softmax", 0), make.failure("mine", 0, r"\input{x} 100% & # _ }")]
    text = to_latex(comparison_table(records))
    assert r"\input" not in text
    assert text.isascii() or not re.search("[κ²±↑↓–]", text)
    # Braces that are not escaped are balanced.
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
