"""``agentserve watch``: the page that it writes or serves, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest

from agentserve_gym.watch import PAGE_BEGINNING, PageServer

CALL = [sys.executable, "-c", "from agentserve_gym.cli import app; app()"]
TOY = ("watch", "--scenario", "toy", "--policy", "lru", "--policy", "round_robin+dram")


def told(path):
    text = path.read_text("utf-8")
    assert text.startswith(PAGE_BEGINNING)
    return json.loads(text.partition('id="contents">')[2].partition("</script>")[0])


def test_the_page_goes_to_a_file(agentserve, tmp_path):
    file = tmp_path / "run.html"
    outcome = agentserve(*TOY, "--seed", 3, "--out", file)
    assert outcome.code == 0
    assert outcome.stdout == f"page: {file} ({file.stat().st_size / 1e6:.1f} MB)\n"
    document = told(file)
    assert (document["scenario"], document["seed"]) == ("toy", 3)
    assert [run["policy"] for run in document["runs"]] == ["lru", "round_robin+dram"]
    again = agentserve(*TOY, "--seed", 3, "--out", file, "--json")
    assert json.loads(again.stdout) == {
        "scenario": "toy",
        "seed": 3,
        "policies": ["lru", "round_robin+dram"],
        "bytes": file.stat().st_size,
        "page": str(file),
    }


def test_equal_runs_give_equal_bytes_in_any_process(tmp_path):
    files = [tmp_path / name for name in ("a.html", "b.html")]
    for hash_seed, file in enumerate(files):
        command = [*CALL, "watch", "--scenario", "toy", "--policy", "learned", "--out", str(file)]
        environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_until_cuts_the_run(agentserve, tmp_path):
    file = tmp_path / "run.html"
    assert agentserve("watch", "--scenario", "toy", "--until", "2.5", "--out", file).code == 0
    assert [run["end"] for run in told(file)["runs"]] == [2_500_000]


def test_bad_input_is_refused_before_anything_runs(refused, tmp_path):
    mine = tmp_path / "mine.html"
    mine.write_text("<p>mine</p>")
    assert "is not a page of a run" in refused(*TOY, "--out", mine)
    assert mine.read_text() == "<p>mine</p>"
    assert "allowed: a file whose name ends in .html" in refused(*TOY, "--out", tmp_path / "a.png")
    assert "there is no folder" in refused(*TOY, "--out", tmp_path / "none" / "a.html")
    assert "policy is given 3 times; allowed: one policy or two" in refused(*TOY, "--policy", "lru")
    assert "until is 0; allowed: more than 0" in refused(*TOY, "--until", 0, "--no-open")
    assert "unknown policy part" in refused("watch", "--policy", "lrw", "--no-open")


def test_a_port_in_use_is_refused(refused):
    with PageServer("", 0) as taken:
        port = taken.server_port
        message = refused("watch", "--scenario", "toy", "--no-open", "--port", port)
    assert (
        message == f"port is {port}, which is in use; allowed: a free port, or 0 for any free one"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_stopped(number, request):
    if number == signal.SIGINT:  # ignored, also by what is started, where tests run behind a shell
        before = signal.signal(number, signal.default_int_handler)
        request.addfinalizer(lambda: signal.signal(number, before))
    command = [*CALL, *TOY, "--no-open"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        line = process.stdout.readline()
        url = line.split()[1]
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.read().decode("utf-8").startswith(PAGE_BEGINNING)
        process.send_signal(number)
        try:
            _, complaints = process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 0
    assert complaints == "stopped\n"
