"""An HTTP function in Python on WASI 0.2. componentize-py finds the class `IncomingHandler` by its name; http_function.py
holds the few lines between it and the standard's streams."""

import json
import os

import http_function
from http_function import Request, Response


class IncomingHandler(http_function.IncomingHandler):
    def answer(self, request: Request) -> Response:
        # What a function prints becomes its log: `dunlin logs hello-python`.
        print(request.method, request.path)
        match request.method:
            case "GET":
                return hello(request)
            case "POST":
                return echo(request)
            case _:
                text = b"this function answers GET and POST\n"
                return Response(405, {"allow": "GET, POST", "content-type": "text/plain"}, [text])


def hello(request: Request) -> Response:
    """Greets, and shows where it was called."""
    # The only environment variables that a function sees are the ones that its dunlin.toml declares.
    greeting = os.environ.get("GREETING", "Hello")
    answer = {"message": f"{greeting} from Python", "method": request.method, "path": request.path}
    return Response(200, {"content-type": "application/json"}, [json.dumps(answer).encode() + b"\n"])


def echo(request: Request) -> Response:
    """Sends the body back as it arrives: it is streamed, never held whole in memory."""
    content_type = request.header("content-type") or "application/octet-stream"
    return Response(200, {"content-type": content_type}, request.body())
