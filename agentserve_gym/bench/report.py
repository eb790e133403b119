"""The report of a study: ``benchmark.md``, complete tables per cell, and pictures."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

from agentserve_gym.bench.cell_pages import cells_page
from agentserve_gym.bench.directions import directions
from agentserve_gym.bench.headroom import HeadroomFigures
from agentserve_gym.bench.headroom_file import HEADROOM_OPENING, headroom_document, read_headroom
from agentserve_gym.bench.headroom_page import HEADROOM, HEADROOM_TITLE, headroom_page
from agentserve_gym.bench.numbers import estimate_as_numbers
from agentserve_gym.bench.page import benchmark_page
from agentserve_gym.bench.pictures import draw_all
from agentserve_gym.bench.study import Study
from agentserve_gym.files import require_replaceable
from agentserve_gym.report.page import write_page

PAGE = "benchmark.md"
FOLDER = "benchmark"
CELLS = "cells.md"
HEADROOM_FILE = "headroom.json"


def require_report(*folders: Path) -> None:
    """Find out before a long run whether its report can be made, and written to these folders.

    Raises:
        ValueError: if a folder holds a page of that name that is not such a report, or a file of
            headroom that cannot be read.
        ModuleNotFoundError: naming the missing module, which the ``plot`` extra brings.
    """
    importlib.import_module("matplotlib")
    for folder in folders:
        require_replaceable(folder / PAGE, "# Benchmark: ", "a report of bench")
        require_replaceable(folder / FOLDER / CELLS, "# Every cell", "a report of bench")
        read_headroom(folder / FOLDER / HEADROOM_FILE)


def write_report(study: Study, folder: Path) -> Path:
    """Write ``benchmark.md``, and beside it ``benchmark/`` with tables per cell and pictures.

    Headroom that a run left in the folder is shown, too.

    Returns:
        The page's path.

    Raises:
        ValueError: if there is a file of headroom that cannot be read.
    """
    beside = {f"{FOLDER}/{name}.png": content for name, content in draw_all(study).items()}
    write_page(
        folder / PAGE,
        benchmark_page(study, FOLDER, read_headroom(folder / FOLDER / HEADROOM_FILE)),
        {**beside, f"{FOLDER}/{CELLS}": cells_page(study)},
    )
    return folder / PAGE


def require_headroom(*folders: Path) -> None:
    """Find out before a long run whether its page can be written to these folders.

    Raises:
        ValueError: if a folder holds a file of that name that is not of such a run.
    """
    for folder in folders:
        beside, what = folder / FOLDER, "of bench --headroom"
        require_replaceable(beside / HEADROOM, f"# {HEADROOM_TITLE}", f"a page {what}")
        require_replaceable(beside / HEADROOM_FILE, HEADROOM_OPENING, f"a file {what}")


def write_headroom(figures: HeadroomFigures, folder: Path) -> Path:
    """Write ``benchmark/headroom.md``, and beside it the figures, which ``benchmark.md`` of the
    folder shows from then on.

    Returns:
        The page's path.
    """
    path = folder / FOLDER / HEADROOM
    write_page(path, headroom_page(figures), {HEADROOM_FILE: headroom_document(figures)})
    return path


def summary(study: Study) -> dict[str, Any]:
    """The study as plain numbers: overall table, cells, directions."""
    return {
        "suite": study.suite.name,
        "skipped": study.suite.skipped,
        "missing": study.missing,
        "overall": [
            {
                "policy": row.label,
                "score": estimate_as_numbers(row.score),
                "beats_stock": estimate_as_numbers(row.beats_stock),
                "jct_against_stock": estimate_as_numbers(row.against_stock),
                "best_in": row.best_in,
                "tied_in": row.tied_in,
                "invalid_answers": study.invalid_answers(row.label),
            }
            for row in study.overall
        ],
        "cells": [
            {
                "scenario": cell.name,
                "seeds": cell.seeds,
                "spread": cell.spread,
                "control": cell.is_control,
                "pressure": {
                    column: cell.mean(study.suite.stock, column)
                    for column in ("live", "working_set", "working_set_p90", "hit_hbm", "drift")
                },
                "luck": cell.luck,
                "smallest_difference": _finite(cell.smallest_difference),
                "ranked": [] if cell.is_control else cell.ranked,
                "mean_jct_s": {label: cell.mean(label) for label in cell.outcomes},
                "invalid_answers": {label: cell.invalid_answers(label) for label in cell.outcomes},
                "silent": {
                    label: silent for label in cell.outcomes if (silent := cell.silent(label))
                },
            }
            for cell in study.cells
        ],
        "directions": [
            {
                "number": found.number,
                "statement": found.statement,
                "measured": found.measured,
                "estimate": estimate_as_numbers(found.estimate),
                "verdict": found.verdict,
            }
            for found in directions(study)
        ],
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else value
