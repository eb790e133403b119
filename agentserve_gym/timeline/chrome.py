"""The Trace Event format, JSON that chrome://tracing and Perfetto's viewer read."""

from __future__ import annotations

import json
from typing import IO, Any

from agentserve_gym.timeline.tracks import Kind, Mark, Progress, Timeline, reported

CHROME_BEGINNING = '{"otherData": {"writer": "agentserve_gym"'
"""How every file begins that ``write_chrome`` writes."""

_PHASES = {Kind.BEGIN: "B", Kind.END: "E", Kind.INSTANT: "i", Kind.LEVEL: "C"}
_NS_PER_US = 1000

# Metadata that no viewer shows: after it, unlike after all others, there is no comma.
_LAST = b'\n{"ph": "M", "name": "end", "pid": 0, "args": {}}\n]}\n'


def write_chrome(timeline: Timeline, stream: IO[bytes], progress: Progress) -> None:
    """Write a timeline, an event a line; equal timelines give equal bytes.

    Uppermost tracks are its processes, those below them its threads.
    """
    title = json.dumps(timeline.title)
    lines = [f'{CHROME_BEGINNING}, "title": {title}}}, "traceEvents": [']
    for track in timeline.tracks:
        place = {"ph": "M", "pid": track.group, "tid": track.number}
        if track.parent == 0:
            lines.append(_line(place | {"name": "process_name", "args": {"name": track.name}}))
            order = {"sort_index": track.number}
            lines.append(_line(place | {"name": "process_sort_index", "args": order}))
        elif not track.unit:
            lines.append(_line(place | {"name": "thread_name", "args": {"name": track.name}}))
            order = {"sort_index": track.number}
            lines.append(_line(place | {"name": "thread_sort_index", "args": order}))
    stream.write("\n".join(lines).encode("utf-8"))
    for mark in reported(timeline.marks(), progress):
        stream.write(f"\n{_line(_event(timeline, mark))}".encode())
    stream.write(_LAST)


def _line(event: dict[str, Any]) -> str:
    return f"{json.dumps(event, allow_nan=False)},"


def _event(timeline: Timeline, mark: Mark) -> dict[str, Any]:
    track = timeline.tracks[mark.track - 1]
    event: dict[str, Any] = {
        "ph": _PHASES[mark.kind],
        "pid": track.group,
        "tid": track.number,
        "ts": mark.time_ns / _NS_PER_US,
    }
    if mark.kind is Kind.LEVEL:
        event |= {"name": track.name, "args": {track.unit: mark.level}}
    elif mark.kind is not Kind.END:
        event |= {"name": mark.name, "cat": mark.category, "args": dict(mark.values)}
    if mark.kind is Kind.INSTANT:
        event["s"] = "t"
    return event
