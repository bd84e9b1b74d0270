"""A receiver of webhooks: takes events as a user's own server would, and checks them as the specification has it."""

import base64
import hashlib
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver:
    """Takes events; answers as it is told, 204 otherwise. Verifies by the text of the Standard Webhooks specification."""

    def __init__(self):
        self.seen, self.answers, self.secrets = [], [], []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.seen.append((dict(self.headers), body))
                answer = receiver.answers.pop(0) if receiver.answers else 204
                if answer == "slow":
                    time.sleep(12)
                    answer = 204
                self.send_response(answer)
                if answer == 302:
                    self.send_header("location", f"http://127.0.0.1:{receiver.port}/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()

    def ids(self):
        return [headers["webhook-id"] for headers, _ in self.seen]

    def events(self):
        """What has come, each event once, verified and in the order of the first attempts."""
        found = {}
        for headers, body in list(self.seen):
            assert any(self.verify(secret, headers, body) for secret in self.secrets), headers
            event = json.loads(body)
            assert event["specversion"] == "1.0" and event["id"] == headers["webhook-id"], event
            assert headers["content-type"].startswith("application/cloudevents+json"), headers
            assert found.setdefault(event["id"], event) == event, "an event changed between attempts"
        return list(found.values())

    @staticmethod
    def verify(secret, headers, body):
        assert abs(time.time() - int(headers["webhook-timestamp"])) < 300
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return any(hmac.compare_digest(given, expected) for given in headers["webhook-signature"].split(" "))
