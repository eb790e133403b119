"""Generated pages: who made them, and that a changed number is noticed."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agentserve_gym import __version__
from agentserve_gym.baselines.learned.weights import load_weights
from agentserve_gym.bench import Study
from agentserve_gym.bench.suite import Suite, load_suite
from agentserve_gym.report import page as shell
from agentserve_gym.report.markdown import change
from agentserve_gym.report.page import current_commit, is_made_by, made_by
from tools import (
    docs_check,
    learning_ingredients,
    learning_limits,
    learning_page,
    learning_results,
    learning_studies,
    training_results,
)
from tools.learning_ingredients import INGREDIENTS, write_lacking
from tools.learning_studies import (
    GENERAL,
    SPECIALIST,
    UNTRAINED,
    elsewhere_suite,
    part_policies,
    parts_of,
    specialist_suite,
    swapped,
    swapped_suite,
)

PAGES = docs_check.GENERATED


@pytest.mark.parametrize("name", PAGES)
def test_every_generated_page_says_who_made_it(name: str) -> None:
    lines = (docs_check.DOCS / name).read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if is_made_by(line)]
    assert "commit" in line


def test_the_readme_says_of_learned_policies_what_their_page_says() -> None:
    """Against the best single one and the best of each cell, in the standard suite and unseen."""
    page = (docs_check.DOCS / "learning.md").read_text(encoding="utf-8")
    readme = (docs_check.DOCS.parent / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^- Against the best .*?[ *]([+-]\S+ %) \[", page, flags=re.MULTILINE)
    said = re.findall(r"(\S+ %) against the best", readme)
    assert len(said) == 4
    assert said == found


def test_the_line_names_command_version_and_commit() -> None:
    line = made_by("agentserve bench", "0123456789")
    assert (
        line == f"*Made by `agentserve bench` (agentserve-gym {__version__}, commit 0123456789).*\n"
    )
    assert is_made_by(line)
    assert "commit" not in made_by("agentserve bench", None)


def test_changes_that_are_not_committed_are_marked(tmp_path, monkeypatch) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True)

    monkeypatch.setattr(shell, "_PACKAGE", tmp_path)
    assert current_commit() is None
    git("init", "-q")
    assert current_commit() is None
    file = tmp_path / "__init__.py"
    file.touch()
    git("add", ".")
    git("commit", "-qm", "one")
    commit = current_commit()
    assert commit is not None
    assert len(commit) >= 10
    file.write_text("changed\n", encoding="utf-8")
    assert current_commit() == f"{commit}+"


CELLS = """## small

| policy | mean JCT, s | JCT / best | p99, s |
| :-- | --: | --: | --: |
| affinity | 19.4 | 1.00 [1.00, 1.00] | 47.7 |
| lmetric | 19.5 | 1.01 [1.00, 1.02] | 47.9 |
"""


def test_cell_rows_leave_out_what_depends_on_other_policies() -> None:
    rows = docs_check._cell_rows(CELLS)
    assert rows["small", "affinity"] == ["19.4", "47.7"]
    assert rows["small", "lmetric"] == ["19.5", "47.9"]


def test_a_changed_number_is_a_difference_and_another_commit_is_none() -> None:
    old = ["# Page", made_by("make x", "1").strip(), "| a | 1.0 |"]
    new = ["# Page", made_by("make x", "2").strip(), "| a | 1.1 |"]
    assert list(docs_check._differences(old, [*new[:2], old[2]])) == []
    assert "+| a | 1.1 |" in list(docs_check._differences(old, new))


def test_a_check_that_finds_something_fails(monkeypatch, capsys, tmp_path: Path) -> None:
    monkeypatch.setattr(docs_check, "CHECKS", {"one": lambda: iter(["-1", "+2"])})
    with pytest.raises(SystemExit):
        docs_check.main()
    assert capsys.readouterr().out == "one: differs\n  -1\n  +2\n"
    monkeypatch.setattr(docs_check, "CHECKS", {"one": lambda: iter([])})
    docs_check.main()
    monkeypatch.setattr(docs_check, "NEEDED", {"one": ("tau2",)})
    monkeypatch.setenv("AGENTSERVE_DATA", str(tmp_path))
    docs_check.main()
    assert "one: not checked, for want of the data sets tau2" in capsys.readouterr().out


def test_a_learned_policy_whose_figures_moved_is_noticed(monkeypatch, tmp_path: Path) -> None:
    """On the toy and two seeds; the page is written by hand."""
    toy = specialist_suite().only(["toy"], [SPECIALIST, GENERAL, "lmetric"], 2)
    for name in ("specialist_suite", "elsewhere_suite"):
        monkeypatch.setattr(docs_check, name, lambda: toy)
    monkeypatch.setattr(docs_check, "LEARNED_CELL", "toy")
    monkeypatch.setattr(docs_check, "DOCS", tmp_path)

    def found(specialist_s: float, general_s: float) -> list[str]:
        lines = (
            "cells of the [standard suite](benchmark.md), on 2 seeds",
            f"| `toy` | {general_s:.1f} | +0.0 % |",
            "## Beside looking ahead",
            "| `toy` | 0.1 | +0.0 % |",
            f"`{SPECIALIST}`: mean JCT {specialist_s:.1f} s over 2 seeds",
        )
        (tmp_path / "learning.md").write_text("\n".join(lines), encoding="utf-8")
        return list(docs_check._learning())

    (cell,) = Study(toy, docs_check._run(toy)).cells
    right_s = cell.mean(SPECIALIST), cell.mean(GENERAL)
    assert found(*right_s) == []
    assert "the page has ['999.9']" in found(999.9, right_s[1])[0]
    assert "the page has ['888.8']" in found(right_s[0], 888.8)[0]


def test_the_page_of_learned_policies_is_written_from_outcomes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On the toy and two seeds; another baseline stands in for other trainings."""

    def toy(made: Callable[[], Suite], policies: list[str]) -> Callable[[], Suite]:
        return lambda: made().only(["toy"], policies, 2)

    suites = {
        name: toy(suite, _TOY_POLICIES[name]) for name, suite in learning_results.SUITES.items()
    }
    monkeypatch.setattr(learning_results, "SUITES", suites)
    monkeypatch.setattr(
        learning_results,
        "retrained_suite",
        lambda suite: suite.only([], [*_TOY_POLICIES["standard"], "learned(weights=default)"], 2),
    )
    monkeypatch.chdir(tmp_path)
    write_lacking("queue")
    for name in set(INGREDIENTS) - {"queue"}:
        monkeypatch.delitem(learning_ingredients.INGREDIENTS, name)
    for module, name in (
        (learning_studies, "ahead_suite"),
        (learning_studies, "left_suite"),
        (learning_ingredients, "ingredients_suite"),
    ):
        shortened = shorter(getattr(module, name)())
        monkeypatch.setattr(learning_results, name, lambda shortened=shortened: shortened)
    written = learning_results.evidence(lambda _, suite: docs_check._run(suite))
    made = learning_page.page(written)
    specialist_s = written.studies["default"].cells[0].mean(SPECIALIST)
    for line in (
        f"`{SPECIALIST}`: mean JCT {specialist_s:.1f} s over 2 seeds",
        "| `lmetric` |",
        "`agentserve train --recipe default`",
        "Against the best of each cell: ",
        "| all but routing | `learned(residency,admission,scheduling)+learned(routing,weights=",
        "| admission alone | `learned(admission,weights=general)+learned(routing,residency,",
        "Against the rules that recipes start from",
        "2 trainings by `agentserve train --recipe general --seed N`",
        "| all |",
        "| queues: shortest prefill first |",
        "tried at a share of 5% of its decisions in the true future, change mean JCT by",
    ):
        assert line in made, line
    pictures = learning_page.pictures(written.studies)
    assert set(pictures) == set(re.findall(r"\]\((.*png)\)", made))


def shorter(suite: Suite) -> Suite:
    """The toy in the place of a suite's cells, on two seeds."""
    (cell,) = load_suite("standard").only(["toy"], ["affinity"], 2).cells
    return suite.model_copy(update={"cells": [cell], "seeds": 2, "programs_share": 1.0})


def test_weights_lack_what_they_are_named_for(tmp_path: Path, monkeypatch) -> None:
    """And nothing else; what counts nothing already is no ingredient."""
    monkeypatch.chdir(tmp_path)
    whole = load_weights("general").as_dict()
    for name, ingredient in INGREDIENTS.items():
        write_lacking(name)
        lacking = load_weights(learning_ingredients.lacking_file(name)).as_dict()
        for group, values in whole.items():
            expected = {**values, **ingredient.without.get(group, {})}
            assert lacking[group] == expected, name
        assert lacking != whole, name


def test_a_cell_that_is_lost_says_by_which_part() -> None:
    best = "lmetric+write_through+program_fcfs"
    mixed = swapped(GENERAL, best)
    assert list(mixed) == ["routing", "residency", "admission", "scheduling"]
    assert parts_of(mixed["admission"]) == {**parts_of(GENERAL), "admission": "none"}
    assert swapped(best, "lmetric+write_through") == {
        "scheduling": "lmetric+write_through+none+fcfs"
    }
    suite = swapped_suite(elsewhere_suite(), "toy", GENERAL, best)
    toy = suite.model_copy(update={"seeds": 2})
    study = Study(toy, docs_check._run(toy))
    made = learning_limits.losses_section([(best, study)])
    (cell,) = study.cells
    for family, label in mixed.items():
        assert change(cell.against(label, GENERAL)) in made, family
    assert f"|  | `{best}` | {cell.mean(best, 'hit_hbm'):.0%} |" in made
    assert learning_limits.losses_section([]) == ""


_TOY_POLICIES = {
    "default": ["lmetric", UNTRAINED, SPECIALIST],
    "standard": ["lmetric", "thunderagent", UNTRAINED, GENERAL],
    "unseen": ["lmetric", "thunderagent", UNTRAINED, GENERAL],
    "parts": [*part_policies(SPECIALIST), SPECIALIST],
    "general-parts": [*part_policies(GENERAL), GENERAL],
}


def run_results(policy: str) -> dict[str, object]:
    """What a run's results.json holds."""
    bounds = {"low": -12.0, "high": -8.0}
    difference = {"mean": -10.0, "relative": -0.1, "wins": 3, "pairs": 3, "bootstrap": bounds}
    return {
        "teacher": policy,
        "commit": "0123456789",
        "selection": {"best_step": 64, "history": [{"step": 0, "mean": 9.0},
                                                   {"step": 64, "mean": 8.0}]},
        "evaluation": {
            "seeds": [0, 1, 2],
            "policies": [
                {"policy": "learned", "mean_jct": 90.0},
                {"policy": policy, "mean_jct": 100.0, "difference": difference},
            ],
        },
    }  # fmt: skip


def test_training_results_are_written_from_the_runs_files() -> None:
    results = {name: run_results("affinity+lru") for name in ("main", *training_results.VARIANTS)}
    imitation = {"measured": {"affinity+lru": -2.0, "lmetric+dram": -1.0}, "agreement": 0.9}
    page = training_results.page(results, imitation, "0123456789")
    row = "| `affinity+lru` (teacher) | 100.0 | -10.0 [-12.0, -8.0] | -10.0% | 3 of 3 |"
    assert row in page
    assert "3 held-out seeds, mean JCT of the" in page
    assert "| `lmetric+dram` | -1.000 | +0.0% |" in page
    assert page.count("| 9.0 | 8.0 | 90.0 |") == len(training_results.VARIANTS)
    assert "commit 0123456789" in page
