"""What pages tell readers to do, done: files, commands and code in order, in an empty folder.

python -m tools.site.snippets            # writes what commands print into all pages that say it
python -m tools.site.snippets docs/tutorials/train.md

A page is one session. In its fenced blocks

- with ``title="NAME"`` is a file;
- ``bash`` is run by bash, ``python`` by one interpreter, whose names later blocks know;
- ``text`` is what the block before printed;
- others are not looked at.

A comment right before a block changes that: ``<!-- not run: WHY -->`` (code must compile),
``<!-- needs: MODULE -->`` (the same where the module is missing), or ``<!-- run as: COMMAND -->``
for one that would take too long.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agentserve_gym.files import write_file

DOCS = Path(__file__).resolve().parents[2] / "docs"
FOLDERS = ("tutorials", "guides", "background", "reference")

_BLOCK = re.compile(
    r"(?:^<!-- (?P<how>not run|needs|run as): (?P<what>[^\n]*) -->\n)?"
    r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)
_DIFFERS_EACH_TIME = ("wall time", "turns simulated / s")
"""Lines of tables that are left out of what is printed."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    title: str | None
    text: str
    how: str | None
    """``not run``, ``needs``, ``run as``, or ``None``: as it stands."""
    what: str
    span: tuple[int, int]
    """Of its text, in the page."""


class Session:
    """Blocks of one page, run in a folder.

    Attributes:
        printed: what the last block that ran printed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[str, Any] = {"__name__": "page"}
        self.printed: str | None = None

    def run(self, block: Block) -> None:
        """Do what a block says.

        Raises:
            RuntimeError: if a command fails, with what it said.
        """
        if block.title is not None:
            (self._folder / block.title).write_text(block.text, encoding="utf-8")
        if block.language == "python":
            code = compile(block.text, block.title or "<page>", "exec")
            if block.title is None:
                self.printed = self._interpret(code) if _runs(block) else None
        elif block.language == "bash":
            command = block.what if block.how == "run as" else block.text
            self.printed = self._command(command) if _runs(block) else None

    def _interpret(self, code: Any) -> str:
        output = io.StringIO()
        with chdir(self._folder), redirect_stdout(output):
            exec(code, self._names)
        return output.getvalue()

    def _command(self, command: str) -> str:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        # Without data sets, as strangers are; and the same width everywhere.
        settings = {"PATH": path, "AGENTSERVE_DATA": str(self._folder), "COLUMNS": "100"}
        finished = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self._folder, env={**os.environ, **settings},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if finished.returncode != 0:
            raise RuntimeError(f"{command}\n{finished.stdout}{finished.stderr}")
        return finished.stdout


def _runs(block: Block) -> bool:
    return block.how != "not run" and not (block.how == "needs" and find_spec(block.what) is None)


def pages() -> list[Path]:
    """Pages whose blocks are run."""
    return sorted(path for folder in FOLDERS for path in (DOCS / folder).glob("*.md"))


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page's text."""
    for found in _BLOCK.finditer(page):
        yield Block(
            found["language"], found["title"], found["text"], found["how"], found["what"] or "",
            found.span("text"),
        )  # fmt: skip


def redone(page: str, folder: Path) -> str:
    """The page with what its blocks print now.

    Raises:
        RuntimeError: if a command of it fails.
    """
    session, parts, end = Session(folder), [], 0
    for block in blocks(page):
        if block.language != "text":
            session.run(block)
        elif session.printed is not None:
            parts += [page[end : block.span[0]], _lasting(session.printed)]
            end = block.span[1]
    return "".join([*parts, page[end:]])


def _lasting(printed: str) -> str:
    """Output without lines that differ each time, blank ends and trailing spaces."""
    lines = [line.rstrip() for line in printed.strip("\n").splitlines()]
    kept = [line for line in lines if not line.startswith(_DIFFERS_EACH_TIME)]
    return "".join(f"{line}\n" for line in kept)


def main() -> None:
    """Write what differs."""
    chosen = [Path(name).resolve() for name in sys.argv[1:]] or pages()
    for path in chosen:
        page = path.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            new = redone(page, Path(folder))
        if new != page:
            write_file(path, new)
        print(f"{path.relative_to(DOCS.parent)}: {'same' if new == page else 'written'}")


if __name__ == "__main__":
    main()
