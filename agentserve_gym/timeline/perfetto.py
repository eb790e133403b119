"""Perfetto's own format: https://perfetto.dev/docs/reference/synthetic-track-event."""

from __future__ import annotations

from typing import IO, Any

from agentserve_gym.timeline.tracks import Kind, Mark, Progress, Timeline, Track, Values, reported

_SEQUENCE = 1


def perfetto_beginning() -> bytes:
    """How every file begins that ``write_perfetto`` writes.

    Raises:
        ModuleNotFoundError: where the ``trace`` extra is missing.
    """
    protos = _protos()
    packet = protos.TracePacket(
        trusted_packet_sequence_id=_SEQUENCE,
        sequence_flags=protos.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED,
        track_descriptor=protos.TrackDescriptor(uuid=2**32, name="agentserve_gym"),
    )
    return _framed(protos, packet)


def write_perfetto(timeline: Timeline, stream: IO[bytes], progress: Progress) -> None:
    """Write a timeline; equal timelines give equal bytes.

    Raises:
        ModuleNotFoundError: where the ``trace`` extra is missing.
    """
    protos = _protos()
    stream.write(perfetto_beginning())
    for track in timeline.tracks:
        stream.write(_framed(protos, _track_packet(protos, track)))
    events = _Events(protos)
    for mark in reported(timeline.marks(), progress):
        stream.write(_framed(protos, events.packet(mark)))


def _protos() -> Any:
    from perfetto.protos.perfetto.trace import perfetto_trace_pb2

    return perfetto_trace_pb2


def _framed(protos: Any, packet: Any) -> bytes:
    """A packet as a part of the file: traces of one packet each, one after the other, are a trace
    of all of them."""
    content: bytes = protos.Trace(packet=[packet]).SerializeToString(deterministic=True)
    return content


def _track_packet(protos: Any, track: Track) -> Any:
    described = protos.TrackDescriptor(
        uuid=track.number,
        name=track.name,
        child_ordering=protos.TrackDescriptor.EXPLICIT,
        sibling_order_rank=track.number,
    )
    if track.parent:
        described.parent_uuid = track.parent
    if track.description:
        described.description = track.description
    if track.unit:
        described.counter.unit = protos.CounterDescriptor.UNIT_SIZE_BYTES
    return protos.TracePacket(trusted_packet_sequence_id=_SEQUENCE, track_descriptor=described)


class _Events:
    """Makes the packets of marks. Words are written once, and numbered from then on."""

    def __init__(self, protos: Any) -> None:
        self._protos = protos
        event = protos.TrackEvent
        self._types = {
            Kind.BEGIN: event.TYPE_SLICE_BEGIN,
            Kind.END: event.TYPE_SLICE_END,
            Kind.INSTANT: event.TYPE_INSTANT,
            Kind.LEVEL: event.TYPE_COUNTER,
        }
        self._numbers: dict[str, dict[str, int]] = {
            "event_categories": {},
            "event_names": {},
            "debug_annotation_names": {},
            "debug_annotation_string_values": {},
        }

    def packet(self, mark: Mark) -> Any:
        """The packet of a mark."""
        packet = self._protos.TracePacket(
            timestamp=mark.time_ns,
            trusted_packet_sequence_id=_SEQUENCE,
            sequence_flags=self._protos.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE,
        )
        event = packet.track_event
        event.type = self._types[mark.kind]
        event.track_uuid = mark.track
        if mark.kind is Kind.LEVEL:
            event.counter_value = mark.level
        elif mark.kind is not Kind.END:
            event.name_iid = self._number(packet, "event_names", mark.name)
            event.category_iids.append(self._number(packet, "event_categories", mark.category))
            self._annotate(packet, event, mark.values)
        return packet

    def _annotate(self, packet: Any, event: Any, values: Values) -> None:
        for name, value in values.items():
            annotation = event.debug_annotations.add()
            annotation.name_iid = self._number(packet, "debug_annotation_names", name)
            if isinstance(value, bool):
                annotation.bool_value = value
            elif isinstance(value, int):
                annotation.int_value = value
            elif isinstance(value, float):
                annotation.double_value = value
            else:
                number = self._number(packet, "debug_annotation_string_values", value)
                annotation.string_value_iid = number

    def _number(self, packet: Any, kind: str, word: str) -> int:
        """A word's number; where it is new, the packet says which word that is."""
        numbers = self._numbers[kind]
        number = numbers.get(word)
        if number is None:
            number = numbers[word] = len(numbers) + 1
            interned = getattr(packet.interned_data, kind).add(iid=number)
            if kind == "debug_annotation_string_values":
                interned.str = word.encode("utf-8")
            else:
                interned.name = word
        return number
