"""A JSON answer of a stand-in server."""

import json
from http.server import BaseHTTPRequestHandler


def send_json(handler: BaseHTTPRequestHandler, status: int, document: object) -> None:
    """Answer the request that the handler has with a document."""
    data = json.dumps(document).encode()
    handler.send_response(status)
    if status == 404:
        handler.send_header("X-Error-Code", "RepoNotFound")
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)
