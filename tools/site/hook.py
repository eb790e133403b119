"""What MkDocs asks while it builds the site: generated text, links, and nothing from elsewhere.

A line ``<!-- generated: KIND ARGUMENT -->`` of a page is replaced by what the generator of that
kind makes. Links that lead out of ``docs/`` go to the page that shows the file, or become text
where there is none.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.pages import Page
from typer.cli import get_docs_for_click

from agentserve_gym.cli import app
from tools.site import environments, scenario_keys

ROOT = Path(__file__).resolve().parents[2]

SHOWN = {
    "README.md": "docs/index.md",
    "CHANGELOG.md": "docs/reference/changelog.md",
    "CONTRIBUTING.md": "docs/reference/contributing.md",
    "SECURITY.md": "docs/reference/security.md",
    "examples": "docs/reference/examples.md",
}
"""Files and folders of the checkout, and the pages that show them."""

_GENERATED = re.compile(r"^<!-- generated: ([a-z]+) ?(\S*) -->$", re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[([^]\[]+)\]\(([^)#\s]+)(#[^)\s]*)?\)")
_COMMANDS = re.compile(r"\*\*Commands\*\*:\n\n(?:\* .*\n)+")
"""Lists of subcommands, cut in mid-sentence; each has a section of its own."""
_FETCHED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^>]*>"
    r"|<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preconnect|preload|icon))"
    r"[^>]*\bhref=[\"']?(?:https?:)?//[^>]*>"
)


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """The page's text with what is generated, and with links that hold on the site."""
    place = f"docs/{page.file.src_uri}"
    text = _GENERATED.sub(lambda found: GENERATORS[found[1]](found[2]), markdown)
    return _relinked(text, posixpath.dirname(place), place)


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a site whose pages fetch anything from elsewhere.

    Raises:
        PluginError: naming the first page that does, and what.
    """
    for path in sorted(Path(config.site_dir).rglob("*.html")):
        if found := _FETCHED.search(path.read_text(encoding="utf-8")):
            name = path.relative_to(config.site_dir)
            raise PluginError(f"{name} would fetch from elsewhere: {found[0]}")


def _relinked(text: str, folder: str, place: str) -> str:
    """Links of a text that was written in ``folder`` for the page ``place``."""

    def link(found: re.Match[str]) -> str:
        words, target, anchor = found[1], found[2], found[3] or ""
        path = posixpath.normpath(posixpath.join(folder, target))
        if "://" in target or not (ROOT / path).exists():
            return found[0]
        page = path if path.startswith("docs/") else SHOWN.get(path)
        if page is None and path.startswith("examples/"):
            page, anchor = SHOWN["examples"], f"#{Path(path).stem}"
        if page is None:
            return words
        return f"[{words}]({posixpath.relpath(page, posixpath.dirname(place))}{anchor})"

    return _LINK.sub(link, text)


def _command_line(_: str) -> str:
    """Every command with its options, without a heading of the first level."""
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="agentserve")
    text = get_docs_for_click(obj=command, ctx=context, name="agentserve")
    return _COMMANDS.sub("", text.partition("\n")[2])


def _file(name: str) -> str:
    """A file at the top of the checkout, for the page that shows it."""
    return _relinked((ROOT / name).read_text(encoding="utf-8"), "", SHOWN[name])


def _examples(_: str) -> str:
    """Every script with its source."""
    return "\n".join(
        f"## `{path.name}` {{ #{path.stem} }}\n\n"
        f"````python\n{path.read_text(encoding='utf-8').rstrip()}\n````\n"
        for path in sorted((ROOT / "examples").glob("*.py"))
    )


GENERATORS: dict[str, Callable[[str], str]] = {
    "environment": environments.page,
    "commands": _command_line,
    "keys": lambda _: scenario_keys.page(),
    "file": _file,
    "examples": _examples,
}
"""From the argument of a line to Markdown."""
