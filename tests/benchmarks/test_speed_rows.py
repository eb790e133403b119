"""Every row of the speed page at tiny size, and the page itself. Nothing here asserts a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import agentserve_gym
from agentserve_gym.baselines import parse_policy, run_policy
from agentserve_gym.sim import Simulation
from benchmarks import speed
from benchmarks.catalogue import ROWS
from benchmarks.control import CONTROLS, Control
from benchmarks.drive import Drive
from benchmarks.files import PeerRun, PeersFile, SpeedFile, read, write
from benchmarks.machine import Machine
from benchmarks.measure import Bench, Result, Sample, Target, spread
from benchmarks.page import render, write_page
from benchmarks.rows.replay import replays
from benchmarks.rows.rooms import room_of
from benchmarks.sizes import FULL, QUICK
from benchmarks.workloads import growing_scenario, peer_programs, peer_scenario
from tests.data_sets import needed_data_set

pytestmark = pytest.mark.no_cover

TINY = replace(QUICK, control_events=200, repetitions=2, steps=60, vector_widths=(2,), samples=5)


def bench(said: list[str] | None = None) -> Bench:
    def report(what: str, done: int, total: int) -> None:
        assert 0 <= done <= total
        if said is not None:
            said.append(what)

    return Bench(TINY, Control(TINY.control_events), report)


@pytest.mark.whole_cluster
@pytest.mark.parametrize("name", [name for name in ROWS if name != "training"])
def test_a_row_gives_sane_results(name: str) -> None:
    said: list[str] = []
    if name == "replay":
        needed_data_set("vllm-runs")
    results = ROWS[name].measure(bench(said))
    assert said
    for result in results:
        assert result == Result.model_validate_json(result.model_dump_json())
        for table in result.tables:
            assert table.rows
            assert all(len(cells) == len(table.heading) for cells in table.rows)
        if result.missing or name == "rooms":
            continue
        assert result.measured is not None
        assert 0 < result.measured.low <= result.measured.median <= result.measured.high
        assert result.met is not None
        assert all(point.events > 0 and point.microseconds > 0 for point in result.points)


@pytest.mark.training
def test_shares_of_a_training_run_add_up() -> None:
    (result,) = ROWS["training"].measure(bench())
    shares = [float(cells[1].removesuffix(" %")) for cells in result.tables[0].rows]
    assert len(shares) == 4
    assert sum(shares) == pytest.approx(100, abs=6)
    assert all(share > 0 for share in shares[:3])


def test_rows_say_what_they_lack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTSERVE_DATA", str(tmp_path / "nothing"))
    (result,) = replays(bench())
    assert "the data set vllm-runs is not in" in result.missing
    assert result.met is None


def test_peer_programs_are_what_the_page_says() -> None:
    programs = peer_programs()
    turns = [turn for program in programs for turn in program.turns]
    assert (len(programs), len(turns)) == (200, 1000)
    assert sum(turn.new_input_tokens for turn in turns) / 1000 == pytest.approx(700, abs=20)
    assert sum(turn.output_tokens for turn in turns) / 1000 == pytest.approx(200, abs=5)
    assert programs[-1].arrival_s == pytest.approx(100, rel=0.2)
    for program in programs:
        assert [turn.gap_s for turn in program.turns] == [2.0] * 4 + [0.0]
        for before, turn in zip(program.turns, program.turns[1:], strict=False):
            assert turn.reuse_tokens == before.input_tokens + before.output_tokens
            assert turn.input_tokens == turn.reuse_tokens + turn.new_input_tokens


def test_the_scenario_holds_the_same_programs() -> None:
    simulation = Simulation(peer_scenario(8))
    for index, program in enumerate(peer_programs(8)):
        found = simulation.workload.program(index)
        assert found.arrival_s == program.arrival_s
        assert found.turns == program.turns
    report = run_policy(simulation, parse_policy("lmetric"))
    assert (report["turns"], len(simulation.engines)) == (40, 4)


def test_driving_in_parts_is_the_same_run() -> None:
    whole, parts = (Drive(growing_scenario(), "lmetric") for _ in range(2))
    whole.run(90)
    assert parts.measure(30, Control(50)).work == 30
    parts.run(60)
    assert parts.turns == whole.turns == 90
    assert parts.simulation.now_s == whole.simulation.now_s
    assert parts.simulation.report() == whole.simulation.report()


def test_driving_beyond_the_end_is_refused() -> None:
    drive = Drive(peer_scenario(1), "lmetric")
    with pytest.raises(ValueError, match="the run ended after 5"):
        drive.measure(6, Control(50))


def test_controls_measure_something() -> None:
    control = Control(300)
    control.all()
    assert all(len(values) == 1 and values[0] > 0 for values in control.seconds.values())
    assert control.seconds.keys() == CONTROLS.keys()


def test_spread_and_targets() -> None:
    found = spread([3.0, 1.0, 2.0, 10.0])
    assert (found.median, found.low, found.high, found.count) == (2.5, 1.0, 10.0, 4)
    assert (found.q1, found.q3) == (1.75, 4.75)
    assert spread([2.0]).q1 == 2.0
    with pytest.raises(ValueError, match="values is empty"):
        spread([])
    assert Target(limit=5, at="least", text="").met(5)
    assert not Target(limit=5, at="most", text="").met(5.1)
    sample = Sample(seconds=2.0, work=4.0, event_s=0.1)
    assert (sample.per_second, sample.microseconds, sample.events) == (2.0, 5e5, 5.0)


def test_rooms_of_files() -> None:
    import simpy

    package = Path(agentserve_gym.__file__).parent
    assert room_of(str(package / "envs" / "env.py")) == "envs"
    assert room_of(str(package / "sim" / "kernel" / "engine.py")) == "sim: engine"
    assert room_of(str(package / "sim" / "scenario.py")) == "sim: the rest"
    assert room_of(simpy.__file__) == "outside the package"


def test_the_full_sizes_are_those_of_the_targets() -> None:
    assert FULL.turns == (10**3, 10**4, 10**5, 10**6)
    assert (FULL.instances[0], FULL.instances[-1]) == (1, 64)
    assert (FULL.live_programs[0], FULL.live_programs[-1]) == (10, 10_000)


# -------------------------------------------------------------------------------------- the page


def measured(**changes: object) -> SpeedFile:
    result = Result(
        row="peer",
        title="peer workload",
        unit="turns/s",
        measured=spread([9000.0, 8000.0]),
        target=Target(limit=10_000, at="least", text="10,000 turns/s"),
        in_events=spread([200.0, 210.0]),
    )
    return SpeedFile(
        machine=Machine.here(),
        controls={name: spread([1e-6]) for name in CONTROLS},
        results=[result.model_copy(update=changes)],
        wall_s=60.0,
    )


PEERS = PeersFile(
    machine=Machine.here(),
    turns=1000,
    repetitions=2,
    ours=[
        PeerRun(
            name="ours", version="1", what="all", rate=spread([9e3]),
            figures={"ttft_ms": 40.0, "tpot_ms": 7.0, "cached_share": 0.5},
        )
    ],
    peers=[PeerRun(name="theirs", version="2", what="some", missing="no network")],
    ratios={"ours / another": spread([4.5, 3.9])},
)  # fmt: skip


def test_the_page_says_what_was_measured_and_what_is_missed() -> None:
    page = render({"interpreted": measured()}, None, [])
    assert (
        "| peer workload | 10,000 turns/s | 8,500 turns/s (8,000 to 9,000) | no | 205 a turn |"
        in page
    )
    assert "0 of 1 targets of a row are met" in page
    assert "85% of the target" in page
    assert Machine.here().processor in page
    assert "make bench-peers" in page
    assert "Not measured beside this run" in page
    faster = measured(measured=spread([12_000.0]))
    both = {"compiled": faster, "interpreted": measured()}
    met = render(both, PEERS, ["performance/scaling.png"])
    assert (
        "| peer workload | 10,000 turns/s | 12,000 turns/s | yes | 205 a turn "
        "| 8,500 turns/s (8,000 to 9,000) | 205 a turn |"
    ) in met
    assert "1 of 1 targets" in met
    assert "Missed" not in met
    assert "| ours | 1 | 9,000 |" in met
    assert "| theirs | 2 | no network |" in met
    assert "| peer trace, ours / another | 3 x | 4.20 x (3.90 to 4.50) | yes |" in met
    assert "](performance/scaling.png)" in met
    nothing = {"compiled": measured(measured=None, missing="why")}
    assert "not measured" in render(nothing, None, [])


def test_a_target_may_be_of_bare_events() -> None:
    target = Target(limit=204, at="most", text="204 bare events a turn", of="in_events")
    found = measured(target=target).results[0]
    assert found.judged == 205
    assert not found.met
    assert "1.00 times the limit" in render({"compiled": measured(target=target)}, None, [])


def test_the_page_and_its_pictures_are_written_whole(tmp_path: Path) -> None:
    points = ROWS["instances"].measure(bench())[0].points
    page = tmp_path / "performance.md"
    write_page({"compiled": measured(points=points)}, None, page)
    assert "](performance/scaling.png)" in page.read_text(encoding="utf-8")
    assert (tmp_path / "performance" / "scaling.png").read_bytes()[:4] == b"\x89PNG"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["performance", "performance.md"]


def test_result_files_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "speed.json"
    assert read(SpeedFile, path) is None
    write(measured(), path)
    assert read(SpeedFile, path) == measured()
    path.write_text('{"wall_s": 1}', encoding="utf-8")
    with pytest.raises(ValueError, match="another version"):
        read(SpeedFile, path)


def test_the_command_measures_rows_and_keeps_others(tmp_path: Path) -> None:
    import typer

    app = typer.Typer()
    app.command()(speed.main)
    files = ["--quick", "--results", str(tmp_path / "r.json")]
    first = CliRunner().invoke(app, ["startup", *files])
    assert first.exit_code == 0, first.output
    second = CliRunner().invoke(app, ["fused", *files])
    assert second.exit_code == 0, second.output
    kept = read(SpeedFile, tmp_path / "r.json")
    assert kept is not None
    assert [result.row for result in kept.results] == ["fused", "startup"]
    assert [table.title for table in kept.results[0].tables] == ["Decode-heavy runs"]
    wrong = CliRunner().invoke(app, ["nonsense", *files])
    assert wrong.exit_code == 2
    assert "'nonsense' is no row" in wrong.output
