"""What the notations of a table share."""

from logitlab.report import escape_markdown


def test_names_survive_markdown():
    assert escape_markdown("cosine_ls *best* a|b <i>") == r"cosine\_ls \*best\* a\|b \<i>"
