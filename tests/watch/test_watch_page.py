"""The page is one file that asks nobody for anything, and serves from this machine alone."""

from __future__ import annotations

import re
import subprocess
import threading
import urllib.error
import urllib.request
from dataclasses import replace
from importlib import resources

import pytest
from page_reader import NODE, contents_of, told_of, watched

from agentserve_gym.report import palette
from agentserve_gym.sim.recording.history import ProgramNote
from agentserve_gym.watch import PAGE_BEGINNING, PageServer, page


def test_the_page_needs_no_other_file() -> None:
    text = page("a run", told_of(watched("default", "lru")[0], watched("default", "learned")[0]))
    assert text.startswith(PAGE_BEGINNING)
    assert "http:" not in text
    assert "https:" not in text
    code = re.sub(r'id="contents">.*?</script>', "", text, flags=re.DOTALL)
    assert re.findall(r'(?:src|href)="([^"]*)"', code) == ["data:,"]
    assert not re.search(r"\bimport\b|\bfetch\b|XMLHttpRequest|url\(", code)
    assert "default-src 'none'" in code
    assert f"--teal: {palette.TEAL};" in code
    assert "<!--" not in code.removeprefix(PAGE_BEGINNING)


def test_a_page_of_the_default_preset_is_small() -> None:
    text = page("a run", told_of(watched("default", "lru")[0], watched("default", "learned")[0]))
    assert len(text.encode()) < 1_500_000


def test_names_are_text_and_never_part_of_the_page() -> None:
    run, _ = watched("toy", "lru")
    evil = "</script><script>alert(1)</script>"
    programs = [
        ProgramNote(note.index, evil, evil, note.model, -1) for note in run.history.programs
    ]
    history = replace(run.history, programs=programs)
    text = page(evil, told_of(replace(run, history=history, policy=evil)))
    assert evil not in text
    assert contents_of(text)["runs"][0]["policy"] == evil


@pytest.mark.skipif(NODE is None, reason="reads the page's script with Node")
def test_the_script_makes_names_harmless() -> None:
    assert NODE is not None
    folder = resources.files("agentserve_gym.watch") / "page"
    code = (folder / "panels.js").read_text("utf-8") + "\nconsole.log(safe('<a b=\"c\">&'))"
    done = subprocess.run([NODE, "-e", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "&lt;a b=&quot;c&quot;&gt;&amp;"


def test_the_server_hands_out_the_page_and_stops() -> None:
    with PageServer("<p>ä</p>", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        assert server.url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{server.url}?again", timeout=10) as answer:
            assert answer.read().decode("utf-8") == "<p>ä</p>"
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{server.url}favicon.ico", timeout=10)
        server.shutdown()
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_a_port_that_is_taken_is_named() -> None:
    with PageServer("", 0) as server:
        port = server.server_port
        with pytest.raises(ValueError, match=f"port is {port}, which is in use; allowed: a free"):
            PageServer("", port)
    with pytest.raises(ValueError, match="port is 70000; allowed: 0"):
        PageServer("", 70000)
