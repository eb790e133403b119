"""A page that plays a run's history: one HTML file that needs nothing else, and who serves it."""

from agentserve_gym.watch.contents import WatchedRun, contents
from agentserve_gym.watch.document import PAGE_BEGINNING, page
from agentserve_gym.watch.server import PageServer

__all__ = ["PAGE_BEGINNING", "PageServer", "WatchedRun", "contents", "page"]
