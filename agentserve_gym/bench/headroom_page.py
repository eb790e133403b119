"""The section on headroom: as a page of its own, and as plain numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agentserve_gym.bench.headroom import HeadroomStudy
from agentserve_gym.bench.report import FOLDER, HEADROOM, estimate_as_numbers
from agentserve_gym.files import require_replaceable
from agentserve_gym.report.markdown import change, code, table
from agentserve_gym.report.page import current_commit, joined, opening, write_page

_TITLE = "Headroom by looking ahead"

_READING = """At a share of the decisions, alternatives to the answer of {base} are simulated,
with it deciding from then on, and the best one is given. *Clairvoyant*: in the true future, which
no live system knows. *Placebo*: the same, but the alternatives are the same answer with one, two or
three more output tokens of the program's turn; what it gains is nothing but choosing among lucky
futures. *Net*: clairvoyant against placebo, the part of the gain that answers make. Changes of mean
JCT, geometric mean over paired seeds with Student's 95 % interval; **bold** excludes no change.
"""


def headroom_page(study: HeadroomStudy) -> str:
    """The page as Markdown."""
    return joined(
        [
            opening(_TITLE, "agentserve bench --headroom", current_commit()),
            _READING.format(base=code(study.base)),
            _levers(study),
            _deployable(study),
        ]
    )


def _levers(study: HeadroomStudy) -> str:
    rows = [
        (
            code(found.cell),
            found.lever,
            str(found.seeds),
            f"{found.base_s:.1f}",
            change(found.clairvoyant),
            change(found.placebo),
            change(found.net),
        )
        for found in study.levers()
    ]
    heading = ("cell", "lever", "seeds", "base, s", "clairvoyant", "placebo", "net")
    return f"## By lever\n\n{table(heading, rows)}" if rows else ""


def _deployable(study: HeadroomStudy) -> str:
    rows = [
        (code(found.cell), str(found.seeds), f"{found.base_s:.1f}", change(found.against_base))
        for found in study.deployable()
    ]
    text = (
        "## What sampled futures gain\n\nThe same with futures drawn from what may be known "
        "(`lookahead`), and alternatives taken only where samples agree.\n\n"
    )
    return text + table(("cell", "seeds", "base, s", "lookahead"), rows) if rows else ""


def require_headroom_page(*folders: Path) -> None:
    """Find out before a long run whether its page can be written to these folders.

    Raises:
        ValueError: if a folder holds a page of that name that is not such a page.
    """
    for folder in folders:
        require_replaceable(folder / FOLDER / HEADROOM, f"# {_TITLE}", "a page of bench --headroom")


def write_headroom_page(study: HeadroomStudy, folder: Path) -> Path:
    """Write ``benchmark/headroom.md``, which ``benchmark.md`` names once it is there."""
    path = folder / FOLDER / HEADROOM
    write_page(path, headroom_page(study), {})
    return path


def headroom_summary(study: HeadroomStudy) -> dict[str, Any]:
    """The study as plain numbers."""
    return {
        "suite": study.suite.name,
        "base": study.base,
        "levers": [
            {
                "scenario": found.cell,
                "lever": found.lever,
                "seeds": found.seeds,
                "base_mean_jct_s": found.base_s,
                "clairvoyant": estimate_as_numbers(found.clairvoyant),
                "placebo": estimate_as_numbers(found.placebo),
                "net": estimate_as_numbers(found.net),
            }
            for found in study.levers()
        ],
        "lookahead": [
            {
                "scenario": found.cell,
                "seeds": found.seeds,
                "base_mean_jct_s": found.base_s,
                "against_base": estimate_as_numbers(found.against_base),
            }
            for found in study.deployable()
        ],
    }
