"""A run's history as a timeline of tracks, in files that trace viewers open.

Perfetto's own format is written with its classes, which the ``trace`` extra brings; importing this
package does not import them.
"""

from agentserve_gym.timeline.chrome import CHROME_BEGINNING, write_chrome
from agentserve_gym.timeline.layout import lay_out
from agentserve_gym.timeline.perfetto import perfetto_beginning, write_perfetto
from agentserve_gym.timeline.tracks import Timeline

__all__ = [
    "CHROME_BEGINNING",
    "Timeline",
    "lay_out",
    "perfetto_beginning",
    "write_chrome",
    "write_perfetto",
]
