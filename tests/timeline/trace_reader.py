"""Reads trace files back as a viewer does: slices, instants and levels by track."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

Slice = tuple[str, int, int, dict[str, Any]]
"""Name, start and end in nanoseconds, values."""


@dataclass
class ReadTrace:
    """What a trace shows, by the names of a group and of a track in it."""

    slices: dict[tuple[str, str], list[Slice]] = field(default_factory=lambda: defaultdict(list))
    instants: dict[tuple[str, str], list[tuple[str, int, dict[str, Any]]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    levels: dict[tuple[str, str], list[tuple[int, int]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    parents: dict[str, str] = field(default_factory=dict)

    def group(self, name: str) -> dict[str, list[Slice]]:
        return {track: found for (group, track), found in self.slices.items() if group == name}


class _Open:
    """Slices that have begun: the last one of a track ends first."""

    def __init__(self, trace: ReadTrace) -> None:
        self._trace = trace
        self._begun: dict[tuple[str, str], list[tuple[str, int, dict[str, Any]]]] = defaultdict(
            list
        )

    def begin(self, track: tuple[str, str], name: str, time_ns: int, values: Any) -> None:
        assert not self._begun[track], f"slices overlap on {track}"
        self._begun[track].append((name, time_ns, values))

    def end(self, track: tuple[str, str], time_ns: int) -> None:
        name, start_ns, values = self._begun[track].pop()
        assert time_ns >= start_ns
        self._trace.slices[track].append((name, start_ns, time_ns, values))

    def require_all_ended(self) -> None:
        assert not any(self._begun.values())


def read_perfetto(content: bytes) -> ReadTrace:
    from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos

    trace = ReadTrace()
    file = protos.Trace()
    file.ParseFromString(content)
    described = {
        packet.track_descriptor.uuid: packet.track_descriptor
        for packet in file.packet
        if packet.HasField("track_descriptor")
    }

    def place(uuid: int) -> tuple[str, str]:
        group = described[uuid]
        while group.parent_uuid:
            group = described[group.parent_uuid]
        return group.name, described[uuid].name

    for track in described.values():
        if track.parent_uuid:
            trace.parents[track.name] = described[track.parent_uuid].name
    words: dict[str, dict[int, str]] = defaultdict(dict)
    opened, before_ns = _Open(trace), 0
    for packet in file.packet:
        for listed, entries in packet.interned_data.ListFields():
            for entry in entries:
                word = entry.str.decode() if "string" in listed.name else entry.name
                words[listed.name][entry.iid] = word
        if not packet.HasField("track_event"):
            continue
        event, at_ns = packet.track_event, packet.timestamp
        assert at_ns >= before_ns
        before_ns = at_ns
        track, name = place(event.track_uuid), words["event_names"].get(event.name_iid, "")
        if event.type == event.TYPE_COUNTER:
            trace.levels[track].append((at_ns, event.counter_value))
        elif event.type == event.TYPE_SLICE_BEGIN:
            opened.begin(track, name, at_ns, _values(event, words))
        elif event.type == event.TYPE_SLICE_END:
            opened.end(track, at_ns)
        else:
            trace.instants[track].append((name, at_ns, _values(event, words)))
    opened.require_all_ended()
    return trace


def _values(event: Any, words: dict[str, dict[int, str]]) -> dict[str, Any]:
    values = {}
    for annotation in event.debug_annotations:
        value = getattr(annotation, annotation.WhichOneof("value"))
        if annotation.HasField("string_value_iid"):
            value = words["debug_annotation_string_values"][value]
        values[words["debug_annotation_names"][annotation.name_iid]] = value
    return values


def read_chrome(content: bytes) -> ReadTrace:
    trace = ReadTrace()
    groups: dict[int, str] = {}
    tracks: dict[tuple[int, int], tuple[str, str]] = {}
    opened = _Open(trace)
    for event in json.loads(content)["traceEvents"]:
        place = event["pid"], event.get("tid", 0)
        if event["ph"] == "M":
            if event["name"] == "process_name":
                groups[event["pid"]] = event["args"]["name"]
            elif event["name"] == "thread_name":
                tracks[place] = groups[event["pid"]], event["args"]["name"]
            continue
        at_ns = round(event["ts"] * 1000)
        if event["ph"] == "C":
            level = (at_ns, event["args"]["bytes"])
            trace.levels[groups[event["pid"]], event["name"]].append(level)
        elif event["ph"] == "B":
            opened.begin(tracks[place], event["name"], at_ns, event["args"])
        elif event["ph"] == "E":
            opened.end(tracks[place], at_ns)
        else:
            trace.instants[tracks[place]].append((event["name"], at_ns, event["args"]))
    opened.require_all_ended()
    return trace
