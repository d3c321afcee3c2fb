"""OPA's Data API in front of rego-cpp, a Rego engine of another author (PyPI: regopy, by Microsoft).

    server.py POLICY.rego    prints its port, then answers POST /v1/data/<path> with {"result": …}

Open Policy Agent itself is not in the registries that the tests install from. `check` asks the server with a client that was
written for Open Policy Agent (PyPI: opa-python-client), so that the shape of the API is not our opinion alone.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from regopy import Interpreter

PREFIX = "/v1/data/"


class Data(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        query = "data." + self.path.removeprefix(PREFIX).strip("/").replace("/", ".")
        with self.server.lock:
            self.server.rego.set_input(body["input"])
            said = str(self.server.rego.query("x = " + query))
        # A document that is not defined is an answer without a result.
        known = said.startswith("{")
        answer = {"result": json.loads(said)["bindings"]["x"]} if known else {}
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def check(port):
    from opa_client.opa import OpaClient

    client = OpaClient(host="127.0.0.1", port=port)
    request = {"phase": "request", "stream": False, "texts": [], "caller": {"organisation": {"name": "acme"}}}
    answer = client.query_rule(request, "odock.request", "decision")
    assert answer == {"result": {"allow": True, "redact": [], "transform": {"tags": {"policy": "2026-11"}}}}, answer
    assert "result" not in client.query_rule(request, "odock.request", "nothing")


def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Data)
    server.daemon_threads = True
    server.lock = threading.Lock()
    server.rego = Interpreter()
    with open(sys.argv[1], encoding="utf-8") as policy:
        server.rego.add_module("request", policy.read())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    check(server.server_port)
    print(server.server_port, flush=True)
    # Ends with whoever started it.
    sys.stdin.read()


main()
