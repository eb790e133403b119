"""Serves one page to browsers on this machine."""

from __future__ import annotations

import errno
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_ADDRESS = "127.0.0.1"
_LARGEST_PORT = 65535


class PageServer(ThreadingHTTPServer):
    """Answers every request for ``/`` with the page. Nobody else on the network reaches it."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, page: str, port: int) -> None:
        """Take a port; 0 is any free one.

        Raises:
            ValueError: if there is no such port, or it is in use or reserved.
        """
        if not 0 <= port <= _LARGEST_PORT:
            raise ValueError(f"port is {port}; allowed: 0 (any free one) to {_LARGEST_PORT}")
        self.page = page.encode("utf-8")
        try:
            super().__init__((_ADDRESS, port), _Handler)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            why = "in use" if error.errno == errno.EADDRINUSE else "reserved"
            raise ValueError(
                f"port is {port}, which is {why}; allowed: a free port, or 0 for any free one"
            ) from error

    @property
    def url(self) -> str:
        """Where browsers find the page."""
        return f"http://{_ADDRESS}:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    server: PageServer

    def do_GET(self) -> None:
        """Hand out the page."""
        if self.path.partition("?")[0] != "/":
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(self.server.page)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(self.server.page)

    def log_message(self, *_: Any) -> None:
        """Requests are nobody's concern."""
