"""Python's `standardwebhooks`: receives webhooks and verifies them. Used by tests/tools/foreign_receivers.rs.

Prints its port, reads the secret from its input, prints "ready", and then a line of JSON for each request: the path, and the event or
why it is refused. Answers 204, or 400 to what it refuses.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            line, status = {"event": webhook.verify(body, headers)}, 204
        except WebhookVerificationError as error:
            line, status = {"refused": str(error)}, 400
        print(json.dumps({"path": self.path, "id": headers.get("webhook-id"), **line}), flush=True)
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_port, flush=True)
webhook = Webhook(sys.stdin.readline().strip())
print("ready", flush=True)
server.serve_forever()
