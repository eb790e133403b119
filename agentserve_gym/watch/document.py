"""The HTML file: styles, scripts and contents in one, for a browser that is offline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from importlib import resources
from typing import Any

from agentserve_gym.report import palette

PAGE_BEGINNING = "<!doctype html>\n<!-- written by agentserve watch -->\n"
"""How every page begins."""

_SCRIPTS = ("model.js", "overview.js", "panels.js", "player.js")


def page(title: str, told: Mapping[str, Any]) -> str:
    """The page of some contents; equal contents give equal text.

    Args:
        title: of the browser's tab.
        told: from `contents`.
    """
    parts = {
        "TITLE": escape(title),
        "STYLE": f":root {{ {_colours()} }}\n{_file('style.css')}",
        "CONTENTS": _inert_json(told),
        "SCRIPT": "\n".join(_file(name) for name in _SCRIPTS),
    }
    text = _file("frame.html")
    for name, content in parts.items():
        before, mark, after = text.partition(f"<!--{name}-->")
        assert mark, f"frame.html has no place for {name}"
        text = before + content + after
    return PAGE_BEGINNING + text


def _inert_json(told: Mapping[str, Any]) -> str:
    """JSON that ends no script element, whatever the names of programs and policies are."""
    text = json.dumps(told, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _colours() -> str:
    """The palette as variables of the style sheet."""
    return " ".join(
        f"--{name.lower()}: {value};"
        for name, value in vars(palette).items()
        if name.isupper() and isinstance(value, str)
    )


def _file(name: str) -> str:
    found = resources.files("agentserve_gym.watch") / "page" / name
    return found.read_text(encoding="utf-8")
