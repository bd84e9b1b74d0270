"""A guest for benchmarks: ?work=N counts the steps of the Collatz sequences from 1 to N, as in the other languages."""

import http_function
from http_function import Request, Response


class IncomingHandler(http_function.IncomingHandler):
    def answer(self, request: Request) -> Response:
        name, _, number = request.query.partition("=")
        most = int(number) if name == "work" else 0
        return Response(200, {"content-type": "text/plain"}, [f"{steps(most)}\n".encode()])


def steps(most: int) -> int:
    steps = 0
    for start in range(1, most + 1):
        value = start
        while value != 1:
            value = value // 2 if value % 2 == 0 else 3 * value + 1
            steps += 1
    return steps
