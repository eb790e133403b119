"""The shell of generated pages, and their tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentserve_gym.report.markdown import plain_table, table, text_table
from agentserve_gym.report.page import is_made_by, joined, opening, write_page


def test_a_page_opens_with_its_title_and_who_made_it() -> None:
    title, empty, made, end = opening("Speed", "make speed", "0123456789").split("\n")
    assert (title, empty, end) == ("# Speed", "", "")
    assert is_made_by(made)


def test_empty_parts_leave_no_gap() -> None:
    assert joined(["one\n", "", "two\n"]) == "one\n\ntwo\n"


@pytest.mark.parametrize(
    ("make", "rule"), [(table, ":-- | --:"), (text_table, ":-- | :--"), (plain_table, "- | -")]
)
def test_a_bar_within_a_cell_does_not_end_it(make, rule) -> None:
    assert make(("a", "b"), [("x|y", "1")]) == f"| a | b |\n| {rule} |\n| x/y | 1 |\n"


def test_a_page_is_written_with_what_it_shows(tmp_path: Path) -> None:
    write_page(tmp_path / "docs" / "page.md", "text\n", {"page/picture.png": b"\x89PNG"})
    assert (tmp_path / "docs" / "page.md").read_text(encoding="utf-8") == "text\n"
    assert (tmp_path / "docs" / "page" / "picture.png").read_bytes() == b"\x89PNG"
