"""``agentserve compare``: saved results side by side, paired by seed."""

from __future__ import annotations

import json

import pytest

from agentserve_gym.bench.results import COLUMNS
from agentserve_gym.report.statistics import paired_difference


def saved_run(folder, name, seed, jct_s):
    """What ``run --json`` prints of one seed; ``jct_s`` by policy."""
    runs = [
        {"policy": policy, "seed": seed, "mean_jct_s": {"finished": 0.0, "all": value}}
        for policy, value in jct_s.items()
    ]
    file = folder / name
    file.write_text(json.dumps({"scenario": "s", "runs": runs}), encoding="utf-8")
    return file


def saved_bench(folder, rows):
    """A folder of ``bench``; rows of scenario, label, seed, mean JCT and nudge."""
    folder.mkdir()
    lines = [",".join(COLUMNS)]
    for scenario, label, seed, jct_s, nudge in rows:
        cells = dict.fromkeys(COLUMNS, "0")
        cells |= {"scenario": scenario, "label": label, "seed": str(seed)}
        cells |= {"jct_mean_s": repr(jct_s), "nudge": str(nudge)}
        lines.append(",".join(cells.values()))
    text = "\n".join(lines) + "\ncut off,here"
    (folder / "results.csv").write_text(text, encoding="utf-8")
    return folder


def saved_training(folder, seeds, jct_s):
    """A folder of ``train``."""
    folder.mkdir()
    policies = [
        {"policy": policy, "by_seed": {"jct": list(values), "slowdown": []}}
        for policy, values in jct_s.items()
    ]
    evaluation = {"scenario": "s", "seeds": seeds, "policies": policies}
    (folder / "results.json").write_text(json.dumps({"evaluation": evaluation}), encoding="utf-8")
    return folder


def compared(outcome):
    assert outcome.code == 0, outcome.stderr
    return json.loads(outcome.stdout)["comparisons"]


def test_runs_of_several_seeds_are_paired(agentserve, tmp_path):
    lru, mine = (10.0, 20.0, 33.0), (9.0, 16.0, 30.0)
    files = [
        saved_run(tmp_path, f"{seed}.json", seed, {"lru": lru[seed], "mine": mine[seed]})
        for seed in range(3)
    ]
    (found,) = compared(agentserve("compare", *files, "--json"))
    assert (found["scenario"], found["against"]) == ("s", "lru")
    first, second = found["rows"]
    assert (first["policy"], first["mean_jct_s"], first["difference"]) == ("lru", 21.0, None)
    assert second["seeds"] == [0, 1, 2]
    assert second["from"] == [str(file) for file in files]
    assert second["difference"] == json.loads(json.dumps(paired_difference(mine, lru).as_dict()))
    (turned,) = compared(agentserve("compare", *files, "--against", "mine", "--json"))
    assert [row["policy"] for row in turned["rows"]] == ["mine", "lru"]
    assert turned["rows"][1]["difference"]["wins"] == 0


def test_what_a_real_run_prints_is_read(agentserve, tmp_path):
    file = tmp_path / "run.json"
    printed = agentserve("run", "--scenario", "toy", "--policy", "lru", "--policy",
                         "round_robin+dram", "--json")  # fmt: skip
    file.write_text(printed.stdout, encoding="utf-8")
    (found,) = compared(agentserve("compare", file, "--json"))
    means = [run["mean_jct_s"]["all"] for run in json.loads(printed.stdout)["runs"]]
    assert [row["mean_jct_s"] for row in found["rows"]] == means
    table = agentserve("compare", file).stdout
    assert table.splitlines()[0] == "toy"
    assert "none for fewer than two common seeds" in table


def test_before_and_after_are_rows_of_their_own_and_equal_results_one(agentserve, tmp_path):
    before = saved_training(tmp_path / "before", [0, 1], {"learned": (5.0, 6.0), "lru": (9.0, 8.0)})
    after = saved_training(tmp_path / "after", [0, 1], {"learned": (4.0, 5.0), "lru": (9.0, 8.0)})
    (found,) = compared(agentserve("compare", before, after, "--json"))
    assert [row["policy"] for row in found["rows"]] == ["learned", "lru", "learned"]
    assert found["against"] == f"learned, {before}"
    assert found["rows"][1]["from"] == [str(before), str(after)]
    assert found["rows"][2]["difference"]["mean"] == -1.0


def test_a_benchmark_that_is_going_on_is_read_and_left_alone(agentserve, tmp_path):
    rows = [
        (scenario, label, seed, 10.0 * seed + len(label), 0)
        for scenario in ("cell-a", "cell-b")
        for label in ("lru", "lmetric")
        for seed in (1, 2)
    ]
    bench = saved_bench(tmp_path / "bench", [*rows, ("cell-a", "lru", 1, 99.0, 3)])
    content = (bench / "results.csv").read_bytes()
    both = compared(agentserve("compare", bench, "--json"))
    assert [each["scenario"] for each in both] == ["cell-a", "cell-b"]
    assert both[0]["rows"][0]["mean_jct_s"] == 18.0
    assert both[0]["rows"][1]["difference"]["mean"] == 4.0
    (one,) = compared(agentserve("compare", bench, "--scenario", "cell-b", "--json"))
    assert one["scenario"] == "cell-b"
    assert (bench / "results.csv").read_bytes() == content


def test_the_picture_is_a_png_and_the_same_each_time(agentserve, tmp_path):
    pytest.importorskip("matplotlib")
    training = saved_training(tmp_path / "t", [0, 1], {"learned": (5.0, 6.0), "lru": (9.0, 8.0)})
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    for picture in pictures:
        assert agentserve("compare", training, "--picture", picture).code == 0
    assert pictures[0].read_bytes().startswith(b"\x89PNG")
    assert pictures[0].read_bytes() == pictures[1].read_bytes()


def test_what_cannot_be_compared_is_refused(refused, tmp_path):
    one = saved_run(tmp_path, "one.json", 0, {"lru": 1.0})
    two = saved_run(tmp_path, "two.json", 0, {"lru": 1.0, "mine": 2.0})
    assert "no scenario has two results to compare; found: lru" in refused("compare", one)
    assert "beside 'gate'; found: lru, mine" in refused("compare", two, "--against", "gate")
    assert "unknown policy 'min'; did you mean 'mine'?" in refused(
        "compare", two, "--policy", "min"
    )
    assert "which holds no results; allowed: a folder of bench" in refused("compare", tmp_path)
    assert "cannot read" in refused("compare", tmp_path / "none")
    other = tmp_path / "other.json"
    for text, complaint in (("{}", "a document of something else"), ("<p>", "which is no JSON"),
                            ("[]", "a document of something else")):  # fmt: skip
        other.write_text(text)
        assert complaint in refused("compare", other)
    saved_run(tmp_path, "nan.json", 0, {"lru": 1.0, "mine": float("nan")})
    assert "nan is no finite number" in refused("compare", tmp_path / "nan.json")
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n")
    assert "has no columns" in refused("compare", table)
