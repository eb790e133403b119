"""Text and pictures."""

from __future__ import annotations

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from env_helpers import IDS, JOINT, base, crowded, play, random_chooser

from agentserve_gym.envs.rendering import Scene, describe, draw
from agentserve_gym.envs.rendering.canvas import Canvas
from agentserve_gym.envs.rendering.font import text_mask, text_width
from agentserve_gym.envs.rendering.picture import _CACHED, _DECODE, _PINNED, _PREFILL
from agentserve_gym.sim import ProgramStatus, load_scenario, preset_names


@pytest.mark.parametrize("preset", preset_names())
@pytest.mark.parametrize("env_id", IDS)
def test_pictures_have_one_size_through_an_episode(env_id: str, preset: str) -> None:
    env = gym.make(env_id, scenario=preset, render_mode="rgb_array")
    env.reset(seed=0)
    sizes = {env.render().shape}
    pixels = None
    for _ in play(env, random_chooser(), limit=5):
        pixels = env.render()
        sizes.add(pixels.shape)
    assert pixels is not None
    assert pixels.dtype == np.uint8
    assert len(sizes) == 1
    height, width, depth = sizes.pop()
    assert (height % 16, width % 16, depth) == (0, 0, 3)


def _has(pixels: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((pixels == np.array(color, np.uint8)).all(axis=-1).sum())


def test_a_picture_shows_what_happens() -> None:
    """Bars and squares grow with what they stand for."""
    env = gym.make(JOINT, scenario=crowded(), render_mode="rgb_array")
    env.reset(seed=0)
    start = env.render()
    for color in (_PREFILL, _PINNED):
        assert _has(start, color) == 12 * 12, "only the legend"
    shown = {"prefill": 0, "pinned": 0, "decode": 0, "cached": 0}
    for _ in play(env, random_chooser(4)):
        pixels = env.render()
        scene = Scene.of(base(env).simulation, base(env).pending)
        prefilling = sum(instance.prefilling for instance in scene.instances)
        assert _has(pixels, _PREFILL) == (1 + prefilling) * 12 * 12
        shown["prefill"] += prefilling > 0
        shown["pinned"] += _has(pixels, _PINNED) > 12 * 12
        shown["decode"] += _has(pixels, _DECODE) > 2 * 12 * 12
        shown["cached"] += _has(pixels, _CACHED) > 12 * 12
    assert all(shown.values()), shown


def test_text_shows_the_cluster_the_programs_and_the_question() -> None:
    env = gym.make(JOINT, scenario=crowded(), render_mode="ansi")
    env.reset(seed=0)
    for _ in play(env, random_chooser(4), limit=25):
        pass
    text = env.render()
    scene = Scene.of(base(env).simulation, base(env).pending)
    lines = text.splitlines()
    assert lines[0].startswith("crowded (seed 0)  t = ")
    assert f"{scene.done_programs}/6 programs done" in lines[0]
    assert [line[:11] for line in lines[2:4]] == ["instance  0", "instance  1"]
    assert "node0 dram" in text
    assert lines[-1] == f"> {scene.question}"
    bars = [line[line.index("[") + 1 : line.index("]")] for line in lines if "[" in line]
    for bar, pool in zip(
        bars, [*(i.hbm for i in scene.instances), *scene.lower_tiers], strict=True
    ):
        assert len(bar) == 30
        assert abs(bar.count(".") - 30 * (1 - pool.full)) <= 1
    assert sum(scene.programs.values()) == 6


def test_the_end_is_shown_as_the_end() -> None:
    env = gym.make(JOINT, scenario="toy", render_mode="ansi")
    env.reset(seed=0)
    for _ in play(env, random_chooser()):
        pass
    assert env.render().endswith("> every program is done")
    scene = Scene.of(base(env).simulation, None)
    assert scene.programs[ProgramStatus.DONE] == 2
    cut = gym.make(JOINT, scenario=crowded(horizon_s=2.0), render_mode="ansi")
    cut.reset(seed=0)
    for _ in play(cut, random_chooser()):
        pass
    assert cut.render().endswith("> horizon reached")


def test_rendering_needs_a_mode_and_an_episode() -> None:
    env = base(gym.make(JOINT, scenario="toy"))
    with pytest.warns(UserWarning, match="without a render_mode"):
        assert env.render() is None
    with pytest.raises(RuntimeError, match="has not begun"):
        base(gym.make(JOINT, scenario="toy", render_mode="ansi")).render()


def test_large_clusters_and_long_queues_fit() -> None:
    """Ten instances take four columns; more turns than squares are counted."""
    content = crowded().model_dump(mode="json")
    content["cluster"]["nodes"][0]["instances"][0]["count"] = 10
    content["engine"]["max_num_seqs"] = 1
    for number, program in enumerate(content["workload"]["programs"]):
        program["program_id"] = f"a program with a name that is far too long for a line {number}"
    content["workload"]["programs"] *= 10
    for number, program in enumerate(content["workload"]["programs"]):
        content["workload"]["programs"][number] = {**program, "program_id": f"{number}" * 60}
    env = gym.make(JOINT, scenario=load_scenario(content), render_mode="rgb_array")
    env.reset(seed=0)
    first = env.render()
    most = 0
    for _ in play(env, lambda _: [0, 0], limit=40):
        scene = Scene.of(base(env).simulation, base(env).pending)
        most = max(most, scene.instances[0].queued)
        assert draw(scene).shape == first.shape
        assert describe(scene)
    assert most > 24


def test_pictures_need_numpy_only() -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = sys.modules['PIL'] = None;"
        "import gymnasium as gym;"
        "env = gym.make('agentserve_gym:AgentServe-v0', render_mode='rgb_array');"
        "env.reset(seed=0); print(env.render().shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip().endswith(", 3)")


def test_letters_differ_and_unknown_ones_show_as_question_marks() -> None:
    shapes = {text_mask(chr(code), 1).tobytes() for code in range(32, 127)}
    assert len(shapes) == 95
    assert np.array_equal(text_mask("é", 1), text_mask("?", 1))
    assert text_mask("abc", 2).shape == (16, text_width("abc", 2))
    assert text_width("", 2) == 0


def test_drawing_outside_is_cut_off() -> None:
    canvas = Canvas(20, 10, (0, 0, 0))
    canvas.text(15, 5, "wide text", (255, 0, 0))
    canvas.text(30, 5, "beyond", (255, 0, 0))
    canvas.fill(-5, -5, 8, 8, (0, 255, 0))
    canvas.stacked_bar(0, 8, 20, 50, [(0.7, (0, 0, 9)), (0.7, (0, 0, 8))], (0, 0, 7))
    assert canvas.pixels.shape == (10, 20, 3)
    assert tuple(canvas.pixels[0, 0]) == (0, 255, 0)
    assert [int(blue) for blue in canvas.pixels[9, (0, 13, 14, 19), 2]] == [9, 9, 8, 8]


@pytest.mark.filterwarnings("ignore:.*doesn't natively support it")
def test_human_rendering_shows_the_same_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygame", reason="pygame is not installed; it comes with the render extra")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = gym.make(JOINT, scenario=crowded(), render_mode="human")
    env.reset(seed=0)
    for _ in play(env, random_chooser(4), limit=5):
        pass
    assert env.screen_size == base(env).render().shape[1::-1]
    env.close()
