"""Reading a file in every way that there is."""

from __future__ import annotations

from pathlib import Path

from agentserve_gym.workloads import Program, detect_format, read_programs, validate_program


def read(path: Path, expected_format: str) -> list[Program]:
    assert detect_format(path) == expected_format
    programs = read_programs(path)
    assert programs == read_programs(path, expected_format)
    for program in programs:
        validate_program(program)
    return programs
