"""Editions as they come with the package: their seeds, their records, and what is published."""

from __future__ import annotations

import pytest

from agentserve_gym.bench import load_suite
from agentserve_gym.bench.suite import search_space, suite_names, tuning_grids
from agentserve_gym.leaderboard.edition import PrivateSeeds, edition_names, load_edition
from agentserve_gym.leaderboard.submission import Row, Submission, totals_of
from agentserve_gym.learning.episodes import FIRST_SELECTION_SEED, FIRST_TRAINING_SEED
from tools import docs_check, leaderboard

V1 = load_edition("v1")
_MOST_SEEDS = 1000
"""Of a suite, a tuning, a search or a selection."""


@pytest.mark.parametrize("name", edition_names())
def test_public_seeds_are_of_nothing_else(name: str) -> None:
    firsts = [load_suite(suite).first_seed for suite in suite_names()]
    firsts += [tuning_grids()["first_seed"], search_space()["first_seed"], FIRST_SELECTION_SEED]
    for seed in load_edition(name).public_seeds:
        assert seed < FIRST_TRAINING_SEED
        assert all(not first <= seed < first + _MOST_SEEDS for first in (0, *firsts))


@pytest.mark.parametrize("name", edition_names())
def test_the_reference_is_recorded_for_every_cell_and_seed(name: str) -> None:
    edition = load_edition(name)
    for part in ("public", "private"):
        for cell in edition.cell_names:
            values = edition.reference_values(part, cell, "jct_mean_s")
            assert len(values) == len(edition.public_seeds)


def test_a_private_list_must_have_the_published_hash() -> None:
    made_up = PrivateSeeds(edition="v1", nonce="", seeds=[1, 2, 3, 4, 5])
    with pytest.raises(ValueError, match=f"allowed: that of edition v1, {V1.private_seeds_sha256}"):
        V1.seeds(made_up)
    assert V1.seeds(None) == V1.public_seeds


def test_a_score_is_the_geometric_mean_of_paired_ratios() -> None:
    """Half the reference's time in half of the cells, twice as much in the others: one."""
    factors = [0.5 if number % 2 else 2.0 for number in range(len(V1.cells))]
    totals = totals_of(rows(factors), V1, "public")
    assert totals.ratios["jct_mean_s"].value == pytest.approx(1.0)
    assert totals.cells[V1.cell_names[0]].value == pytest.approx(2.0)
    assert totals.ratios["slowdown"].value == pytest.approx(1.0)


def test_a_submission_is_as_slow_as_its_slowest_cell() -> None:
    factors = [1.0] * len(V1.cells)
    allowed_us = 1e3 * V1.decision_time.p99_ms
    slow = [
        row._replace(decision_p99_us=2 * allowed_us) if row.cell == V1.cell_names[0] else row
        for row in rows(factors)
    ]
    assert totals_of(rows(factors), V1, "public").in_time
    totals = totals_of(slow, V1, "public")
    assert not totals.in_time
    assert totals.decision_p99_us == 2 * allowed_us


def rows(factors: list[float]) -> list[Row]:
    """Those of a policy that takes so many times as long as the reference, cell by cell."""
    by_cell = dict(zip(V1.cell_names, factors, strict=True))
    return [
        Row(
            row.cell, row.seed, row.jct_mean_s * by_cell[row.cell], row.jct_p99_s,
            row.slowdown, 1.0, 1.0, 100, 0, 10.0, 20.0, 1.0,
        )
        for row in V1.records.reference["public"]
    ]  # fmt: skip


# --- what is published ---------------------------------------------------------------------------


def test_published_files_hold_and_the_page_says_what_they_say() -> None:
    (check,) = [check for name, check in docs_check.CHECKS.items() if name == "leaderboard.md"]
    assert list(check()) == []


def test_a_changed_file_fails_the_check_of_documents(tmp_path, monkeypatch) -> None:
    for path in leaderboard.FOLDER.iterdir():
        text = path.read_text(encoding="utf-8").replace('"author": "', '"author": "not ')
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(leaderboard, "FOLDER", tmp_path)
    (line,) = docs_check.CHECKS["leaderboard.md"]()
    assert "checksum" in line


def test_slow_policies_have_no_place_on_the_page(monkeypatch) -> None:
    one = published()[0]
    totals = one.totals.model_copy(update={"in_time": False})
    card = one.card.model_copy(update={"name": "slow"})
    made = leaderboard.page([*published(), one.model_copy(update={"totals": totals, "card": card})],
                            V1, "make", None)  # fmt: skip
    ranking, slow = made.split("## Ranking")[1].split("## Too slow to be ranked")
    assert "`slow`" not in ranking
    assert "`slow`: a decision takes" in slow


def test_private_scores_are_of_the_same_policy() -> None:
    one = published()[0]
    private = one.model_copy(update={"part": "private"})
    other = private.model_copy(update={"card": one.card.model_copy(update={"sha256": "x"})})
    without = leaderboard.page([one], V1, "make", None)
    assert leaderboard.page([one, private], V1, "make", None) != without
    assert leaderboard.page([one, other], V1, "make", None) == without


def published() -> list[Submission]:
    return leaderboard.read_all(leaderboard.FOLDER, V1)


def test_every_policy_that_a_live_system_could_run_is_to_be_submitted() -> None:
    labels = leaderboard.shipped()
    assert {"affinity", "thunderagent", "found"} - set(labels) == {"found"}
    assert any(label.startswith("learned") for label in labels)
    for policy in labels.values():
        assert leaderboard.make_card(policy).author == "agentserve-gym"
