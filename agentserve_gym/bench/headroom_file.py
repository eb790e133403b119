"""Headroom as plain numbers in a file beside its page, from which the suite's page has it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agentserve_gym.bench.headroom import Deployable, Headroom, HeadroomFigures
from agentserve_gym.bench.numbers import estimate_as_numbers, estimate_from_numbers
from agentserve_gym.tables import read_text

_MADE_BY = "agentserve bench --headroom"
HEADROOM_OPENING = f'{{\n  "made_by": "{_MADE_BY}"'
"""How every such file begins."""


def headroom_summary(figures: HeadroomFigures) -> dict[str, Any]:
    """Figures as plain numbers."""
    return {
        "made_by": _MADE_BY,
        "version": figures.version,
        "code": list(figures.codes),
        "suite": figures.suite,
        "base": figures.base,
        "programs_share": figures.programs_share,
        "lookahead_policy": figures.lookahead,
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
            for found in figures.levers
        ],
        "lookahead": [
            {
                "scenario": found.cell,
                "seeds": found.seeds,
                "base_mean_jct_s": found.base_s,
                "against_base": estimate_as_numbers(found.against_base),
            }
            for found in figures.deployable
        ],
    }


def headroom_document(figures: HeadroomFigures) -> str:
    """The file's text."""
    return json.dumps(headroom_summary(figures), indent=2) + "\n"


def read_headroom(path: Path) -> HeadroomFigures | None:
    """What `headroom_document` wrote; ``None`` where there is no file: headroom is measured by a
    command of its own, if at all.

    Raises:
        ValueError: for another file.
    """
    if not path.exists():
        return None
    try:
        return _figures(json.loads(read_text(path)))
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} was not written by {_MADE_BY} of this version ({error!r}); run it anew, or "
            "remove the file"
        ) from error


def _figures(content: dict[str, Any]) -> HeadroomFigures:
    return HeadroomFigures(
        suite=content["suite"],
        base=content["base"],
        programs_share=content["programs_share"],
        lookahead=content["lookahead_policy"],
        version=content["version"],
        codes=tuple(content["code"]),
        levers=tuple(
            Headroom(
                found["scenario"],
                found["lever"],
                found["seeds"],
                found["base_mean_jct_s"],
                *(estimate_from_numbers(found[name]) for name in ("clairvoyant", "placebo", "net")),
            )
            for found in content["levers"]
        ),
        deployable=tuple(
            Deployable(
                found["scenario"],
                found["seeds"],
                found["base_mean_jct_s"],
                estimate_from_numbers(found["against_base"]),
            )
            for found in content["lookahead"]
        ),
    )
