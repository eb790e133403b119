"""Docstrings of environments as Markdown: titled sections, tables of actions and of features.

Such a docstring has paragraphs, and sections: a line that is followed by indented ones. These hold
paragraphs, simple tables of reStructuredText, and groups of features as
``envs.observation_table`` writes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from textwrap import dedent
from typing import NamedTuple

from agentserve_gym.report.markdown import text_table

_FEATURE = re.compile(r"    (?P<name>\S+) \[(?P<scale>[^]]+)\]: (?P<meaning>.+)")
_RULE = re.compile(r"=+( +=+)+$")


class Section(NamedTuple):
    """A titled part of a docstring."""

    title: str
    text: str
    """Without its indentation."""


def split(docstring: str) -> tuple[str, list[Section]]:
    """What stands before the first section, and the sections.

    Args:
        docstring: cleaned as by ``inspect.getdoc``.
    """
    lines = docstring.splitlines()
    titles = [
        number
        for number, (line, following) in enumerate(pairwise(lines))
        if line[:1].strip() and following.startswith("    ")
    ]
    bounds = [*titles, len(lines)]
    sections = [
        Section(lines[start], dedent("\n".join(lines[start + 1 : end])).strip())
        for start, end in pairwise(bounds)
    ]
    return "\n".join(lines[: bounds[0]]).strip(), sections


def markdown(section: Section) -> str:
    """A section with its heading, of the second level; groups of features have the third."""
    return "\n\n".join([f"## {section.title}", *_blocks(section.text)]) + "\n"


def _blocks(text: str) -> Iterator[str]:
    for block in re.split(r"\n\n+", text):
        lines = block.splitlines()
        if _RULE.match(lines[0]):
            yield _rows(lines)
        elif any(_FEATURE.match(line) for line in lines):
            yield from _features(lines)
        else:
            yield block


def _rows(lines: list[str]) -> str:
    """A simple table without a header as a table of Markdown."""
    width = lines[0].index(" ")
    rows = [(line[:width].strip(), line[width:].strip()) for line in lines[1:-1]]
    return text_table(("", ""), rows).strip()


def _features(lines: list[str]) -> Iterator[str]:
    """A heading and a table for each group of features."""
    groups: list[tuple[str, list[tuple[str, str, str]]]] = []
    for line in lines:
        if found := _FEATURE.match(line):
            row = (f"`{found['name']}`", found["scale"], found["meaning"])
            groups[-1][1].append(row)
        else:
            groups.append((line.removesuffix(":"), []))
    for name, rows in groups:
        yield f"### `{name}`"
        yield text_table(("feature", "scale", "meaning"), rows).strip()
