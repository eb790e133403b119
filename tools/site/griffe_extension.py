"""For mkdocstrings: docstrings of this package as its parser and Markdown take them."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

from tools.site.docstrings import split

_SEVERAL_NAMES = re.compile(r"^(\s+\w+(?:, \w+)+)(?=: )", re.MULTILINE)
_NO_BREAK = "\N{NO-BREAK SPACE}"
_DIRECTIVE = re.compile(r"^\.\. code-block:: python\n\n", re.MULTILINE)


class AsMarkdown(Extension):
    """Rewrites every docstring once its object is loaded."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = rewritten(obj.docstring.value)


def rewritten(docstring: str) -> str:
    """The docstring with bold titles over its own kinds of sections.

    ``a, b: text`` in a list of names describes both: they are joined by a space that is not taken
    for the beginning of a type.
    """
    docstring = _DIRECTIVE.sub("", docstring)
    opening, sections = split(docstring)
    if sections and not any(section.title.endswith(":") for section in sections):
        titled = (f"**{section.title}.** {section.text}" for section in sections)
        return "\n\n".join([opening, *titled])
    return _SEVERAL_NAMES.sub(_together, docstring)


def _together(found: re.Match[str]) -> str:
    return found[1].replace(", ", f",{_NO_BREAK}")
