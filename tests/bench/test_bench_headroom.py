"""Headroom: what is run, how gains are told from luck, and the page."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from bench_helpers import PLAIN, outcomes, toy_suite

from agentserve_gym.baselines import parse_policy
from agentserve_gym.bench import Outcome, Study, Suite, plan_jobs, run_jobs, write_report
from agentserve_gym.bench.headroom import (
    BASE,
    LEVERS,
    LOOKAHEAD,
    HeadroomFigures,
    HeadroomStudy,
    headroom_suite,
)
from agentserve_gym.bench.headroom_file import headroom_document, headroom_summary, read_headroom
from agentserve_gym.bench.headroom_page import (
    headroom_page,
    looking_ahead_section,
    looking_ahead_sentence,
)
from agentserve_gym.bench.page import benchmark_page
from agentserve_gym.bench.report import require_report, write_headroom
from agentserve_gym.scale import InThisProcess


def suite(seeds: int = 3) -> Suite:
    return headroom_suite(toy_suite(seeds), "least_loaded+ttl", 0.5)


def made(looking: Suite, jct_s: dict[str, list[float]]) -> list[Outcome]:
    """Outcomes with these mean JCTs by label, seed by seed."""
    marks = {job.label: job.digest for job in plan_jobs(looking)}
    return [
        replace(PLAIN, label=label, seed=seed, jct_mean_s=value, digest=marks[label])
        for label, values in jct_s.items()
        for seed, value in enumerate(values)
    ]


def test_a_base_runs_beside_all_that_looks_ahead_from_it() -> None:
    looking = suite()
    assert [entry.label for entry in looking.policies][:2] == [BASE, LOOKAHEAD]
    assert len(looking.policies) == 2 + 2 * len(LEVERS)
    for entry in looking.policies:
        policy = parse_policy(entry.policy)
        assert policy.is_oracle == (entry.lever == "oracle")
        assert policy.is_oracle == entry.label.startswith(("clairvoyant", "placebo"))
        if entry.label != BASE:
            assert "base=least_loaded+ttl,share=0.5" in entry.policy
    with pytest.raises(ValueError, match="an oracle"):
        headroom_suite(toy_suite(), "belady", 0.5)


def test_some_levers_are_looked_at_on_the_first_programs_of_a_cell() -> None:
    cell = toy_suite().only(["functions-8b-1-l40s"], [], None)
    looking = headroom_suite(cell, "lru", 0.5, ["order"], 0.25)
    assert [entry.label for entry in looking.policies][2:] == ["clairvoyant order", "placebo order"]
    (whole,) = {job.scenario.workload.programs for job in plan_jobs(cell)}
    (part,) = {job.scenario.workload.programs for job in plan_jobs(looking)}
    assert part == round(whole / 4)
    with pytest.raises(ValueError, match="unknown lever 'ordre'; did you mean 'order'"):
        headroom_suite(cell, "lru", 0.5, ["ordre"])
    for share in (0.0, 1.5):
        with pytest.raises(ValueError, match=f"programs_share is {share}; allowed"):
            headroom_suite(cell, "lru", 0.5, LEVERS, share)


def test_pages_say_of_how_many_programs_they_are() -> None:
    whole = figures()
    assert "first 25% of their programs" in headroom_page(replace(whole, programs_share=0.25))
    assert "of their programs" not in headroom_page(whole)


def test_the_net_gain_leaves_out_what_luck_gains() -> None:
    looking = suite()
    study = HeadroomStudy(
        looking,
        made(
            looking,
            {
                BASE: [100.0, 200.0, 400.0],
                "clairvoyant routing": [80.0, 160.0, 320.0],
                "placebo routing": [90.0, 180.0, 360.0],
                LOOKAHEAD: [95.0, 190.0],
            },
        ),
    )
    (found,) = study.levers()
    assert (found.cell, found.lever, found.seeds) == ("toy", "routing", 3)
    assert found.clairvoyant.value == pytest.approx(0.8)
    assert found.placebo.value == pytest.approx(0.9)
    assert found.net.value == pytest.approx(0.8 / 0.9)
    assert found.base_s == pytest.approx(700.0 / 3)
    (ahead,) = study.deployable()
    assert (ahead.seeds, ahead.against_base.value) == (2, pytest.approx(0.95))
    page = headroom_page(study.figures())
    assert "| `toy` | routing | 3 | 233.3 | **-20.0 % [-20.0, -20.0]** |" in page
    assert "`least_loaded+ttl`" in page
    summary = headroom_summary(study.figures())
    assert json.loads(json.dumps(summary))["levers"][0]["net"]["value"] == found.net.value


def test_outcomes_of_another_base_or_share_do_not_count() -> None:
    looking, other = suite(), headroom_suite(toy_suite(), "lru", 0.5)
    runs = made(other, {BASE: [1.0] * 3, LOOKAHEAD: [1.0] * 3})
    study = HeadroomStudy(looking, runs)
    assert study.levers() == []
    assert study.deployable() == []
    assert looking_ahead_sentence(study.figures(), "benchmark") == []
    assert looking_ahead_section(study.figures(), suite_study(), "benchmark") == ""


def test_it_is_run_and_written_like_any_benchmark(tmp_path) -> None:
    looking = suite(seeds=1)
    runs: list[Outcome] = []
    failures: list[Exception] = []
    run_jobs(
        plan_jobs(looking), InThisProcess(), runs.append, lambda _, error: failures.append(error)
    )
    assert failures == []
    study = HeadroomStudy(looking, runs)
    assert [found.lever for found in study.levers()] == list(LEVERS)
    path = write_headroom(study.figures(), tmp_path)
    assert path == tmp_path / "benchmark" / "headroom.md"
    assert path.read_text().startswith("# Headroom by looking ahead")
    assert "[one seed]" in path.read_text()
    assert read_headroom(path.with_name("headroom.json")) == study.figures()
    # One seed has no interval, so no gain is claimed of it.
    assert looking_ahead_sentence(study.figures(), "benchmark") == []
    assert "[one seed]" in looking_ahead_section(study.figures(), suite_study(), "benchmark")


# --- on the suite's page -------------------------------------------------------------------------


def figures() -> HeadroomFigures:
    """All levers gain a fifth, of which luck is half; of single levers, order gains beyond luck."""
    looking = suite()
    jct_s = {
        BASE: [100.0, 200.0, 400.0],
        "clairvoyant all": [80.0, 160.0, 321.0],
        "placebo all": [90.0, 180.0, 360.0],
        "clairvoyant routing": [90.0, 184.0, 350.0],
        "placebo routing": [90.0, 180.0, 360.0],
        "clairvoyant order": [85.0, 170.0, 341.0],
        "placebo order": [90.0, 180.0, 360.0],
        LOOKAHEAD: [95.0, 210.0, 390.0],
    }
    return HeadroomStudy(looking, made(looking, jct_s)).figures()


def suite_study() -> Study:
    """Of the suite that the page is about."""
    jct_s = {"random": [20.0] * 3, "affinity": [10.0] * 3, "ttl": [8.0] * 3, "belady": [7.0] * 3}
    return Study(toy_suite(), outcomes(toy_suite(), jct_s))


def test_the_suites_page_says_what_looking_ahead_gains() -> None:
    (sentence,) = looking_ahead_sentence(figures(), "benchmark")
    assert sentence.startswith("Trying alternatives to the answers of `least_loaded+ttl` gains in ")
    assert "gains in 1 of 1 cell (most in `toy`, **-11.0 % " in sentence
    assert "known, net of luck, and in 0 of 1 cell with futures that a live system" in sentence
    assert "; of single levers order most, in `toy` (**-5.5 % " in sentence
    assert sentence.endswith("[headroom.md](benchmark/headroom.md).")
    section = looking_ahead_section(figures(), suite_study(), "benchmark")
    (row,) = [line for line in section.splitlines() if line.startswith("| `toy`")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:3] == ["3", "**-19.9 % [-20.3, -19.6]**"]
    assert cells[3].startswith("**-10.0 %")
    nets = [line for line in section.splitlines() if "net, routing" in line]
    assert "net, order" in nets[0]
    assert "net, admission" not in nets[0]  # which has not run
    together = [item for item in figures().levers if item.lever == "all"]
    whole = replace(figures(), levers=tuple(together))
    assert "each alone" not in looking_ahead_section(whole, suite_study(), "benchmark")
    assert "`lookahead(base=least_loaded+ttl,share=0.5)`" in section


def test_without_oracles_headroom_is_known_where_looking_ahead_measured_it() -> None:
    part = toy_suite(policies=[e.model_dump() for e in toy_suite().policies if e.lever != "oracle"])
    jct_s = {"random": [20.0] * 3, "affinity": [10.0] * 3, "ttl": [8.0] * 3}
    study = Study(part, outcomes(part, jct_s))
    assert "nothing is known about headroom" in benchmark_page(study, "benchmark")
    assert "nothing is known" not in benchmark_page(study, "benchmark", figures())


def test_headroom_outlives_a_new_report_and_may_be_absent(tmp_path) -> None:
    page = tmp_path / "benchmark.md"
    write_report(suite_study(), tmp_path)
    assert "## Headroom by looking ahead" not in page.read_text()
    write_headroom(figures(), tmp_path)
    for _ in range(2):
        write_report(suite_study(), tmp_path)
        text = page.read_text()
        assert "## Headroom by looking ahead" in text
        assert text.index("with the true future known") < text.index("## What was run")
    assert "another version" not in text
    later = replace(figures(), codes=("later",))
    write_headroom(later, tmp_path)
    write_report(suite_study(), tmp_path)
    assert "simulation `later`, another version than that of this page's outcomes" in (
        page.read_text()
    )


def test_a_file_that_is_no_headroom_is_named_before_the_run(tmp_path) -> None:
    file = tmp_path / "benchmark" / "headroom.json"
    file.parent.mkdir()
    file.write_text(headroom_document(figures()).replace('"placebo"', '"fake"'))
    with pytest.raises(ValueError, match=r"headroom\.json was not written by agentserve bench"):
        require_report(tmp_path)
