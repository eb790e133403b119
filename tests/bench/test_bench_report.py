"""Pages and pictures from numbers made by hand."""

from dataclasses import replace

import pytest
from bench_helpers import outcomes, toy_suite

from agentserve_gym.bench import Study, write_report
from agentserve_gym.bench.directions import FAILS, HOLDS, directions
from agentserve_gym.bench.pictures import draw_all
from agentserve_gym.bench.report import summary

JCT_S = {
    "random": [20.0, 22.0, 21.0],
    "affinity": [10.0, 11.0, 10.5],
    "ttl": [8.0, 8.8, 8.5],
    "belady": [7.0, 7.7, 7.4],
}


@pytest.fixture(scope="module")
def study() -> Study:
    return Study(toy_suite(), outcomes(toy_suite(), JCT_S))


def test_a_report_is_pages_and_small_pictures(study: Study, tmp_path):
    page = write_report(study, tmp_path).read_text()
    pictures = sorted((tmp_path / "benchmark").glob("*.png"))
    assert [picture.stem for picture in pictures] == ["cells", "levers", "profile", "scores"]
    for picture in pictures:
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert picture.stat().st_size < 200_000
        assert f"benchmark/{picture.name}" in page
    assert "**-19.7 % [-21.0, -18.3]** `ttl`" in page
    assert "| `ttl` | residency | 0.79 " in page
    cells = (tmp_path / "benchmark" / "cells.md").read_text()
    assert cells.index("| ttl |") < cells.index("| affinity |") < cells.index("| random |")


def test_pictures_are_the_same_for_the_same_results(study: Study):
    assert draw_all(study) == draw_all(study)


def test_the_summary_is_plain(study: Study):
    document = summary(study)
    assert document["overall"][0]["policy"] == "ttl"
    assert document["cells"][0]["control"] is False
    assert document["cells"][0]["ranked"] == ["ttl", "affinity", "random"]


def _routing_study(hits: float) -> Study:
    """Affinity, which hits half of its tokens, against least-loaded, on four instances."""
    policies = [
        {"label": "random", "policy": "random", "lever": "stock"},
        {"label": "affinity", "policy": "affinity", "lever": "stock"},
        {"label": "least-loaded", "policy": "least_loaded", "lever": "routing"},
    ]
    cells = [{"scenario": "default", "load": "saturated"}]
    suite = toy_suite(policies=policies, cells=cells)
    jct_s = {"random": [20.0] * 3, "affinity": [10.0, 11.0, 10.5], "least-loaded": [9.0, 9.5, 9.1]}
    found = outcomes(suite, jct_s, scenario="default")
    return Study(
        suite, [replace(o, hit_hbm=hits) if o.label == "least-loaded" else o for o in found]
    )


@pytest.mark.parametrize(("hits", "verdict"), [(0.4, HOLDS), (0.6, FAILS)])
def test_a_direction_is_measured_where_its_policies_ran(hits: float, verdict: str):
    found = directions(_routing_study(hits))
    assert [(item.number, item.verdict) for item in found] == [("C1", verdict)]
    assert found[0].estimate.value == pytest.approx(0.5 / hits)


def test_directions_between_instances_need_several(study: Study):
    """The toy has one instance: nothing to route."""
    assert "C1" not in {item.number for item in directions(study)}
