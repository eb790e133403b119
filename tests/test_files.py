"""Files appear whole, are written through where they cannot be replaced, and are not destroyed."""

from __future__ import annotations

import gzip
import os
import stat
import threading
from pathlib import Path

import pytest

from agentserve_gym.files import (
    drop_partial_line,
    is_pipe,
    is_regular,
    is_standard_output,
    open_packed,
    open_whole,
    require_replaceable,
    write_file,
)

FULL = Path("/dev/full")
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX files")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail_half_way(path: Path) -> None:
    with open_whole(path) as stream:
        stream.write(b"half")
        raise RuntimeError("half-way")


def test_text_and_bytes_are_written(tmp_path: Path) -> None:
    write_file(tmp_path / "text", "é\n")
    write_file(tmp_path / "bytes", b"\x00\xff")
    assert (tmp_path / "text").read_bytes() == b"\xc3\xa9\n"
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff"
    assert names(tmp_path) == ["bytes", "text"]


def test_the_old_content_stays_until_the_new_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with open_whole(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("old", ["old", None])
def test_a_failure_changes_nothing_and_leaves_nothing(tmp_path: Path, old: str | None) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_text(old)
    before = names(tmp_path)
    with pytest.raises(RuntimeError, match="half-way"):
        fail_half_way(path)
    assert names(tmp_path) == before
    assert old is None or path.read_text() == old


@posix
def test_a_file_keeps_its_mode_and_a_new_one_has_the_usual(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    usual = path.stat().st_mode
    path.chmod(0o640)
    write_file(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    write_file(tmp_path / "other", "new")
    assert (tmp_path / "other").stat().st_mode == usual


@posix
@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_its_target_is_written(tmp_path: Path, there: bool) -> None:
    (tmp_path / "place").mkdir()
    target, link = tmp_path / "place" / "target", tmp_path / "link"
    if there:
        target.write_text("old")
    link.symlink_to(target)
    write_file(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert names(tmp_path / "place") == ["target"]


@posix
def test_a_pipe_is_written_through(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert is_pipe(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_file(pipe, "through")
    reader.join(10)
    assert read == [b"through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert names(tmp_path) == ["pipe"]


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("linked", [True, False])
def test_a_full_device_is_an_error_that_names_it_and_stays_a_device(
    tmp_path: Path, linked: bool
) -> None:
    path = FULL
    if linked:
        path = tmp_path / "full"
        path.symlink_to(FULL)
    with pytest.raises(OSError, match="No space left") as caught:
        write_file(path, "x" * 100_000)
    assert caught.value.filename == str(path)
    assert stat.S_ISCHR(FULL.stat().st_mode)


@posix
def test_an_open_file_is_written_where_it_stands(tmp_path: Path) -> None:
    """As in ``agentserve ... --to /dev/stdout >> file``."""
    path = tmp_path / "file"
    path.write_text("before ")
    with path.open("ab") as file:
        write_file(Path(f"/dev/fd/{file.fileno()}"), "now ")
        file.write(b"after")
    assert path.read_text() == "before now after"
    assert is_standard_output(Path("/dev/stdout"))
    assert not is_standard_output(path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere") as caught:
        write_file(tmp_path / "nowhere" / "file", "x")
    assert caught.value.filename == str(tmp_path / "nowhere" / "file")
    assert names(tmp_path) == []


def test_a_folder_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_file(tmp_path / "folder", "x")
    assert names(tmp_path) == ["folder"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everything")
def test_a_file_that_may_not_be_written_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o444)
    with pytest.raises(PermissionError):
        write_file(path, "new")
    assert path.read_text() == "old"


def test_names_in_gz_are_packed_and_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz", "plain"):
        with open_packed(tmp_path / name) as stream:
            stream.write(b"content")
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == b"content"
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert (tmp_path / "plain").read_bytes() == b"content"


def test_only_files_of_our_kind_are_replaceable(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    require_replaceable(path, "# Ours", "a page")
    for content in ("# Ours: more", ""):
        path.write_text(content)
        require_replaceable(path, "# Ours", "a page")
    path.write_text("# Mine")
    with pytest.raises(ValueError, match=r"page.md exists and is not a page"):
        require_replaceable(path, "# Ours", "a page")


def test_what_a_write_would_replace(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    assert not is_regular(file)
    file.write_text("")
    link.symlink_to(file)
    assert is_regular(file)
    assert is_regular(link)
    assert not is_regular(tmp_path)
    assert not is_regular(Path(os.devnull))


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (b"", b""),
        (b"one\ntwo\n", b"one\ntwo\n"),
        (b"one\ntwo", b"one\n"),
        (b"one", b""),
        (b"one\n" + 200_000 * b"x", b"one\n"),
        (70_000 * b"x" + b"\ntwo", 70_000 * b"x" + b"\n"),
    ],
)
def test_a_line_that_was_cut_off_is_dropped(tmp_path, content, kept):
    path = tmp_path / "lines"
    path.write_bytes(content)
    drop_partial_line(path)
    assert path.read_bytes() == kept


def test_no_line_is_cut_off_a_file_that_is_not_there(tmp_path):
    drop_partial_line(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
