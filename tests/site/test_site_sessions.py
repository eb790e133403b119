"""Pages do what they say: their commands and code run, and print what stands below them."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from tools.site import snippets
from tools.site.snippets import DOCS, Block, Session, blocks, pages, redone

PAGES = [page for page in pages() if any(blocks(page.read_text(encoding="utf-8")))]


@pytest.mark.whole_cluster
@pytest.mark.no_cover
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(DOCS).as_posix())
def test_a_page_does_what_it_says(path: Path, tmp_path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    now = redone(page, tmp_path)
    assert page == now, "\n".join(
        ["python -m tools.site.snippets writes what is printed now:",
         *difflib.unified_diff(page.splitlines(), now.splitlines(), lineterm="", n=1)]
    )  # fmt: skip


def test_every_tutorial_runs_something() -> None:
    tutorials = [path for path in PAGES if path.parent.name == "tutorials"]
    assert len(tutorials) == len(list((DOCS / "tutorials").glob("*.md"))) >= 5


# --- the runner itself ---------------------------------------------------------------------------

PAGE = """
```toml title="a.toml"
x = 1
```

```python
x = len(open("a.toml").read())
```

<!-- not run: it would fail -->
```bash
exit 3
```

<!-- run as: cat a.toml -->
```bash
exit 4
```

```text
what an older version printed
```

```python
print(x)
```

```text
```
"""


def test_files_names_and_output_go_from_block_to_block(tmp_path: Path) -> None:
    new = redone(PAGE, tmp_path)
    assert "```text\nx = 1\n```" in new
    assert "```text\n6\n```" in new
    assert "older" not in new
    assert redone(new, tmp_path) == new


def test_a_command_that_fails_is_an_error(tmp_path: Path) -> None:
    block = Block("bash", None, "echo so; echo because >&2; exit 3", None, "", (0, 0))
    with pytest.raises(RuntimeError, match="so\nbecause"):
        Session(tmp_path).run(block)


def test_code_that_is_not_run_must_compile(tmp_path: Path) -> None:
    for how, what in (("not run", "a GPU"), ("needs", "no_such_module")):
        Session(tmp_path).run(Block("python", None, "raise ValueError", how, what, (0, 0)))
        with pytest.raises(SyntaxError):
            Session(tmp_path).run(Block("python", None, "x = (", how, what, (0, 0)))


def test_lines_that_differ_each_time_are_left_out() -> None:
    printed = "\na   b  \nwall time, s   0.06\nc\n\n"
    assert snippets._lasting(printed) == "a   b\nc\n"
