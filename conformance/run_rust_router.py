"""Run by the Python that has sglang-router or vllm-router: ``run_rust_router.py CASES RESULTS``,
JSON lines each way.

Starts the router in a process of its own before servers that only hold requests until they are told
to answer, and writes down to which server it sent each.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import queue
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_PATIENCE_S = 60.0
_POLL_S = 0.05


def _serve_router(
    extension: str,
    policy: str,
    urls: list[str],
    port: int,
    match: float,
    difference: int,
    ratio: float,
) -> None:
    module = importlib.import_module(extension)
    module.Router(
        worker_urls=urls,
        policy=getattr(module.PolicyType, policy),
        host="127.0.0.1",
        port=port,
        cache_threshold=match,
        balance_abs_threshold=difference,
        balance_rel_threshold=ratio,
        eviction_interval_secs=3600,
        worker_startup_timeout_secs=int(_PATIENCE_S),
        worker_startup_check_interval=1,
        prometheus_host="127.0.0.1",
        prometheus_port=_free_port(),
        log_level="error",
    ).start()


class _Servers:
    """Servers of one case, and the requests that they hold."""

    def __init__(self, count: int) -> None:
        self.arrived: queue.Queue[int] = queue.Queue()
        self.gates: dict[str, threading.Event] = {}
        self._servers = [
            ThreadingHTTPServer(("127.0.0.1", 0), self._handler(number)) for number in range(count)
        ]
        self.urls = [f"http://127.0.0.1:{each.server_address[1]}" for each in self._servers]
        for server in self._servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def _handler(self, number: int) -> type[BaseHTTPRequestHandler]:
        servers = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def do_GET(self) -> None:
                self._answer({"status": "ok", "model_path": "m", "served_model_name": "m"})

            def do_POST(self) -> None:
                size = int(self.headers.get("content-length", 0))
                asked = json.loads(self.rfile.read(size))
                if self.path.endswith("/render"):
                    self._answer([{"token_ids": [ord(each) for each in asked["prompt"]]}])
                    return
                name = asked["rid"]
                servers.arrived.put(number)
                servers.gates[name].wait(_PATIENCE_S)
                self._answer({"text": "x", "meta_info": {"id": name}})

            def _answer(self, content: Any) -> None:
                body = json.dumps(content).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        return Handler

    def close(self) -> None:
        for gate in self.gates.values():
            gate.set()
        for server in self._servers:
            server.shutdown()


def _drive(case: dict[str, Any]) -> list[int]:
    servers = _Servers(case["workers"])
    port = _free_port()
    which = (case["extension"], case["policy"])
    settings = (case["match"], case["difference"], case["ratio"])
    router = multiprocessing.get_context("spawn").Process(
        target=_serve_router, args=(*which, servers.urls, port, *settings), daemon=True
    )
    router.start()
    try:
        _await_workers(port, case["workers"])
        return _choices(case, servers, f"http://127.0.0.1:{port}/v1/completions")
    finally:
        servers.close()
        router.kill()
        router.join()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _await_workers(port: int, count: int) -> None:
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/workers", timeout=5) as answer:
                workers = json.load(answer)["workers"]
            if sum(bool(each.get("is_healthy")) for each in workers) == count:
                return
        except (OSError, urllib.error.URLError):
            pass
        time.sleep(_POLL_S)
    raise RuntimeError("the router does not see its servers")


def _choices(case: dict[str, Any], servers: _Servers, url: str) -> list[int]:
    chosen: list[int] = []
    clients: dict[int, threading.Thread] = {}
    for what, name, text, session in case["moves"]:
        rid = str(name)
        if what == "begin":
            servers.gates[rid] = threading.Event()
            clients[name] = threading.Thread(
                target=_post, args=(url, rid, text, session), daemon=True
            )
            clients[name].start()
            chosen.append(servers.arrived.get(timeout=_PATIENCE_S))
        else:
            servers.gates[rid].set()
            clients.pop(name).join()
    return chosen


def _post(url: str, rid: str, text: str, session: str) -> None:
    body = json.dumps({"model": "m", "prompt": text, "rid": rid}).encode()
    headers = {"content-type": "application/json", "x-session-id": session}
    request = urllib.request.Request(url, body, headers)
    with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:
        answer.read()


def main() -> None:
    with open(sys.argv[1]) as cases, open(sys.argv[2], "w") as results:
        for line in cases:
            results.write(json.dumps(_drive(json.loads(line))) + "\n")
            results.flush()


if __name__ == "__main__":
    main()
