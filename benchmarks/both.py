"""Every row with both kernels, in turns, and then the page: ``python -m benchmarks.both``.

Each measurement is a process of its own. Where no compiled kernel fits the sources (`make compiled`
builds it), the interpreted one is measured alone.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from agentserve_gym.compiled import VARIABLE
from benchmarks.catalogue import ROWS
from benchmarks.files import PAGE, PEERS_FILE, SPEED_FILES, PeersFile, read, read_speeds
from benchmarks.machine import kernels
from benchmarks.page import write_page


def main() -> None:
    """Measure, and write the page."""
    argparse.ArgumentParser(prog="python -m benchmarks.both", description=__doc__).parse_args()
    found = kernels()
    for file in SPEED_FILES.values():
        file.unlink(missing_ok=True)
    for row in ROWS:
        for name in found:
            subprocess.run(
                [sys.executable, "-m", "benchmarks.speed", row],
                env={**os.environ, VARIABLE: name},
                check=True,
            )
    write_page(read_speeds(), read(PeersFile, PEERS_FILE), PAGE)
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
