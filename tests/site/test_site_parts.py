"""What the site is made of besides pages: docstrings as Markdown, links, pictures."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from agentserve_gym import ENV_IDS
from tools.site import docstrings, environments

mkdocs = pytest.importorskip("mkdocs")

from tools.site import griffe_extension, hook  # noqa: E402

ROOT = Path(__file__).parents[2]

DOCSTRING = """First line.

More.

Placements
    In order:

    =====  =========
    keep   ``lru``
    drop   every one
    =====  =========

Observation
    decision:
        route [flag]: a turn is ready
        wait_s [log, unit 1]: time since
    instance_<i>:
        home [flag]: it ran here"""


# --- docstrings ----------------------------------------------------------------------------------


def test_sections_and_what_stands_before_them() -> None:
    opening, sections = docstrings.split(DOCSTRING)
    assert opening == "First line.\n\nMore."
    assert [section.title for section in sections] == ["Placements", "Observation"]
    assert docstrings.split("One line.") == ("One line.", [])


def test_tables_of_actions_and_features() -> None:
    placements, observation = map(docstrings.markdown, docstrings.split(DOCSTRING)[1])
    assert placements.startswith("## Placements\n\nIn order:\n\n|")
    assert "| keep | ``lru`` |\n| drop | every one |" in placements
    assert "=" not in placements
    assert "### `decision`" in observation
    assert "| `wait_s` | log, unit 1 | time since |" in observation
    assert "### `instance_<i>`" in observation


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_a_page_of_an_environment_has_every_feature_and_action(env_id: str) -> None:
    page = environments.page(env_id)
    env = environments.made(env_id)
    names = {name.rpartition(".")[2] for name in env.observation_layout if "." in name}
    assert names <= set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    asked = "routes" if "Routing" in env_id else "placements"
    for number, name in enumerate(getattr(env, asked).names):
        assert f"| {number} | {name} |" in page
    assert ("| 12 | hold |" in page) == ("Offload" not in env_id)
    assert "## Version history\n\n``v0``" in page
    assert not re.search(r"\{\w+\}", page)


def test_names_that_share_a_text_stay_together() -> None:
    written = "Summary.\n\nAttributes:\n    a, b: both.\n    c: another."
    assert "    a,\N{NO-BREAK SPACE}b: both.\n    c: another." in griffe_extension.rewritten(
        written
    )
    titled = griffe_extension.rewritten("Summary.\n\nSeeds\n    Each is drawn.")
    assert titled == "Summary.\n\n**Seeds.** Each is drawn."


# --- pages ---------------------------------------------------------------------------------------


def on_site(markdown: str, src_uri: str) -> str:
    page = SimpleNamespace(file=SimpleNamespace(src_uri=src_uri))
    return hook.on_page_markdown(markdown, page=page)


@pytest.mark.parametrize(
    ("link", "on", "becomes"),
    [
        ("[a](../SECURITY.md#x)", "training.md", "[a](reference/security.md#x)"),
        ("[a](../examples/bare_loop.py)", "a.md", "[a](reference/examples.md#bare_loop)"),
        ("[a](../../LICENSE)", "guides/a.md", "a"),
        ("[a](../training.md)", "guides/a.md", "[a](../training.md)"),
        ("[a](https://b.c)", "a.md", "[a](https://b.c)"),
        ("![a](pictures/AgentServe-v0.gif)", "index.md", "![a](pictures/AgentServe-v0.gif)"),
        ("[a](nowhere.md)", "a.md", "[a](nowhere.md)"),
    ],
)  # fmt: skip
def test_links_hold_on_the_site(link: str, on: str, becomes: str) -> None:
    assert on_site(link, on) == becomes


def test_files_of_the_checkout_are_shown_with_their_links() -> None:
    text = on_site("<!-- generated: file CONTRIBUTING.md -->\n", "reference/contributing.md")
    assert text.startswith("# Contributing")
    assert "(security.md)" in text
    assert "](docs/" not in text


def test_every_command_and_example_is_in_the_reference() -> None:
    commands = on_site("<!-- generated: commands -->", "reference/command-line.md")
    for command in ("run", "bench", "calibrate measure", "data add"):
        assert f"`agentserve {command}`" in commands
    assert "**Commands**" not in commands
    examples = on_site("<!-- generated: examples -->", "reference/examples.md")
    for path in (ROOT / "examples").glob("*.py"):
        assert f"## `{path.name}`" in examples


@pytest.mark.parametrize(
    ("html", "refused"),
    [
        ('<script src="https://a.b/c.js"></script>', True),
        ('<link rel="stylesheet" href="//fonts.a/b">', True),
        ('<link href="https://a.b/c.css" rel=stylesheet>', True),
        ('<img alt="x" src="http://a.b/c.png">', True),
        ('<a href="https://a.b">a</a><script src="../c.js"></script><img src="c.gif">', False),
    ],
)
def test_a_site_that_fetches_from_elsewhere_is_refused(html, refused, tmp_path) -> None:
    (tmp_path / "index.html").write_text(html, encoding="utf-8")
    config = SimpleNamespace(site_dir=str(tmp_path))
    if refused:
        with pytest.raises(mkdocs.exceptions.PluginError, match=r"index\.html would fetch"):
            hook.on_post_build(config)
    else:
        hook.on_post_build(config)


# --- pictures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_a_picture_is_what_its_environment_draws_now(env_id: str) -> None:
    pytest.importorskip("PIL")
    from tools.site import pictures

    content = (pictures.FOLDER / f"{env_id}.gif").read_bytes()
    assert len(content) < 400_000
    drawn = pictures.frames(env_id)
    for number, (shown, now) in enumerate(zip(pictures.shown(content), drawn, strict=True)):
        assert np.array_equal(shown, now), f"frame {number}: make docs-pictures draws it anew"


# --- keys of scenarios ---------------------------------------------------------------------------


def test_every_key_of_a_scenario_is_on_its_page() -> None:
    page = on_site("<!-- generated: keys -->", "reference/scenario.md")
    sections = dict(re.findall(r"^## (.*?) \{ #\w+ \}\n(.*?)(?=^## |\Z)", page, re.M | re.S))
    assert "| `horizon_s` | number, above 0 |" in sections["The file"]
    assert (
        "| `count` | integer, above 0, at most 10,000 | `1` |"
        in (sections["`cluster.nodes.instances`"])
    )
    assert "`max_num_seqs`" in sections["`engine`"]
    assert "| `held_order` |" in sections["`router`"]
    for kind in ("poisson", "staged", "closed_loop"):
        assert f'`arrivals`, kind `"{kind}"`' in sections
    assert '`workload`, kind `"generated"`' in sections
    anchors = re.findall(r"\]\(#(\w+)\)", page)
    assert set(anchors) <= set(re.findall(r"\{ #(\w+) \}", page))
    assert "turns and tokens in a step" in sections["`engine`"]
