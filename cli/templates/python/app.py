"""The function {{name}}. componentize-py finds the class `IncomingHandler` by its name; http_function.py holds the few lines
between it and WASI's streams. Before the first build: pip install -r requirements.txt"""

import os

import http_function
from http_function import Request, Response


class IncomingHandler(http_function.IncomingHandler):
    def answer(self, request: Request) -> Response:
        # What a function prints becomes its log: `dunlin logs {{name}}`.
        print(request.method, request.path)

        # The variables that dunlin.toml declares.
        greeting = os.environ.get("GREETING", "Hello")
        text = f"{greeting} from {{name}}, at {request.path}\n"
        return Response(200, {"content-type": "text/plain; charset=utf-8"}, [text.encode()])
