"""The page in a headless browser, where there is one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from page_reader import told_of, watched

from agentserve_gym.watch import page

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here")

KEYS = """
const press = (key, shiftKey = false) =>
  document.dispatchEvent(new KeyboardEvent("keydown", { key, shiftKey, bubbles: true }));
const shownClock = () => document.getElementById("clock").textContent;
const said = [shownClock()];
press("ArrowRight"); said.push(player.time);
press("ArrowLeft"); said.push(player.time);
press("ArrowRight", true); said.push(shownClock());
press("End"); said.push(shownClock());
press("Home"); said.push(shownClock());
press("ArrowUp"); said.push(document.getElementById("speed").value);
press("t"); said.push(document.documentElement.dataset.theme);
press(" "); said.push(player.playing);
press(" "); said.push(player.playing);
player.seek(100);
document.querySelector("[data-panel=programs-0] tr[data-program]").click();
said.push(document.querySelectorAll(".followed").length > 0, location.hash.includes("program="));
document.body.append("SAID " + JSON.stringify(said) + " END");
"""


def opened(text: str, tmp_path: Path, place: str, width: int = 1280) -> str:
    """The page's document once its script has run; fails if the script complained."""
    assert BROWSER is not None
    file = tmp_path / "run.html"
    file.write_text(text, encoding="utf-8")
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
        f"--window-size={width},800", "--dump-dom", f"{file.as_uri()}#{place}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert complaints == []
    return done.stdout


def text_of(document: str, panel: str) -> str:
    """The words of a panel."""
    _, _, rest = document.partition(f'data-panel="{panel}">')
    return " ".join(re.sub(r"<[^>]*>", " ", rest.partition("<h3")[0]).split())


def test_two_policies_stand_side_by_side(tmp_path: Path) -> None:
    (one, first), (other, second) = watched("default", "lru"), watched("default", "learned")
    end_s = max(one.history.end_s, other.history.end_s)
    document = opened(page("two", told_of(one, other)), tmp_path, f"t={end_s + 1}")
    for index, report in enumerate((first, second)):
        words = text_of(document, f"figures-{index}")
        assert f"{report['programs']} of {report['programs']}" in words
        mean_s = report["jct_s"]["mean"]
        shown = f"{mean_s:.1f} s" if mean_s < 120 else f"{mean_s / 60:.1f} min"
        assert f"mean JCT so far {shown}" in words
        hits = sum(report["hit_rate"].values())
        assert f"prompt tokens hit {hits:.1%}" in words
    assert "prices: the least wins" in document or "values: the most wins" in document


def test_keys_move_the_clock(tmp_path: Path) -> None:
    run, _ = watched("default", "lru")
    text = page("one", told_of(run)).replace("</body>", f"<script>{KEYS}</script></body>")
    document = opened(text, tmp_path, "t=100", width=390)
    times = sorted({each.time_s for each in (*run.history.routes, *run.history.placements)})
    after = next(time_s for time_s in times if time_s > 100.0)
    before = max(time_s for time_s in times if time_s < after)
    found = re.search(r"SAID (\[.*\]) END", document)
    assert found is not None
    clock, forward, back, leapt, end, home, *rest = json.loads(found[1])
    assert clock.startswith("1:40.0 / ")
    assert (forward, back) == (pytest.approx(after, abs=1e-5), pytest.approx(before, abs=1e-5))
    minutes, seconds = divmod(before + 10.0, 60.0)
    assert leapt.startswith(f"{minutes:.0f}:{int(seconds):02}.")
    assert end.split(" / ")[0].split(".")[0] == end.split(" / ")[1]
    assert home.startswith("0:00.0 / ")
    assert rest == ["20", "dark", True, False, True, True]
