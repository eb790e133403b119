"""Writing files: whole or not at all, and never over what somebody else has put there."""

from __future__ import annotations

import errno
import gzip
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

_BLOCK_BYTES = 2**16
_STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}


def write_file(path: Path, content: bytes | str) -> None:
    """Write bytes, or text as UTF-8; see `open_whole`."""
    with open_whole(path) as stream:
        stream.write(content.encode("utf-8") if isinstance(content, str) else content)


@contextmanager
def open_packed(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """As `open_whole`, compressed if the name ends in ``.gz``; equal content gives equal bytes."""
    with open_whole(path) as raw:
        if path.suffix != ".gz":
            yield raw
            return
        with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
            yield packed


@contextmanager
def open_whole(path: Path) -> Iterator[IO[bytes]]:
    """A stream into ``path``, which shows the new content whole at the end, or is left as it was.

    A regular file is written under another name, which then takes its place and its mode; a
    symbolic link stays and its target is replaced. Devices, pipes and this process's open files
    (``/dev/stdout``) cannot be replaced and are written to directly.

    Raises:
        OSError: naming ``path``: its folder does not exist, or it cannot be written.
    """
    partial: Path | None = None
    try:
        if _is_stream(path):
            with _open_stream(path) as stream:
                yield stream
            return
        target = Path(os.path.realpath(path))
        mode = _mode(target)
        partial = target.with_name(f".{target.name}.{os.getpid()}-{os.urandom(4).hex()}.part")
        with partial.open("xb") as stream:
            yield stream
        if mode is not None:
            partial.chmod(mode)
        partial.replace(target)
    except BaseException as error:
        if partial is not None:
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(partial)):
            raise OSError(error.errno, _reason(error, path), str(path)) from error
        raise


def drop_partial_line(path: Path) -> None:
    """Cut off what follows the last line end of a file that is appended to line by line: its writer
    was stopped there. A file that does not exist stays so."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        end = whole = file.seek(0, os.SEEK_END)
        while whole:
            begin = max(whole - _BLOCK_BYTES, 0)
            file.seek(begin)
            newline = file.read(whole - begin).rfind(b"\n")
            whole = begin + newline + 1
            if newline >= 0:
                break
        if whole < end:
            file.truncate(whole)


def is_pipe(path: Path) -> bool:
    """Whether there is something that is neither a regular file nor a folder: a pipe, a device."""
    try:
        kind = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(kind) or stat.S_ISDIR(kind))


def is_standard_output(path: Path) -> bool:
    """Whether writing to ``path`` would write to standard output."""
    return _descriptor(path) == 1


def is_regular(path: Path) -> bool:
    """Whether writing to ``path`` would replace a file that is there."""
    return not _is_stream(path) and path.is_file()


def require_replaceable(path: Path, beginning: str | bytes, what: str) -> None:
    """Refuse to replace a regular file that is not of our making, before the work is done.

    Args:
        path: what will be written.
        beginning: how every file of the kind begins.
        what: the kind, for the message.

    Raises:
        ValueError: if there is another file; an empty one may be replaced.
        OSError: if it cannot be read.
    """
    if not is_regular(path):
        return
    known = beginning.encode("utf-8") if isinstance(beginning, str) else beginning
    with path.open("rb") as file:
        found = file.read(len(known))
    if found and found != known:
        raise ValueError(f"{path} exists and is not {what}; it is left alone, name another file")


def _is_stream(path: Path) -> bool:
    """Whether a name is written to directly."""
    return _descriptor(path) is not None or is_pipe(path)


def _descriptor(path: Path) -> int | None:
    """The open file of this process that a name such as ``/dev/stdout`` means."""
    if str(path) in _STANDARD:
        return _STANDARD[str(path)]
    if str(path.parent) in ("/dev/fd", "/proc/self/fd") and path.name.isdecimal():
        return int(path.name)
    return None


def _open_stream(path: Path) -> IO[Any]:
    number = _descriptor(path)
    # A copy of an open file shares its place, so what is printed later comes after.
    return os.fdopen(os.dup(number) if number is not None else os.open(path, os.O_WRONLY), "wb")


def _mode(target: Path) -> int | None:
    """The mode bits of a file that is to be replaced; ``None`` if there is none."""
    try:
        found = target.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return stat.S_IMODE(found)


def _reason(error: OSError, path: Path) -> str:
    folder = Path(os.path.realpath(path)).parent
    if error.errno == errno.ENOENT and not folder.is_dir():
        return f"there is no folder {folder}"
    return error.strerror or str(error)
