"""Requests and responses as Python knows them, over `wasi:http`. Not a framework: add to it what your function needs; the
interfaces it calls are declared in wit/http.wit."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import (
    Fields,
    IncomingRequest,
    Method_Other,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)

# The most that one write to a WASI stream may hold, in bytes.
WRITE_LIMIT = 4096
READ_SIZE = 64 * 1024


class Request:
    def __init__(self, incoming: IncomingRequest) -> None:
        self._incoming = incoming
        method = incoming.method()
        named = type(method).__name__.removeprefix("Method_").upper()
        self.method = method.value if isinstance(method, Method_Other) else named
        self.path, _, self.query = (incoming.path_with_query() or "/").partition("?")

    def header(self, name: str) -> str | None:
        """The first header of this name; names are compared without regard to case."""
        with self._incoming.headers() as headers:
            values = headers.get(name)
        return values[0].decode("latin-1") if values else None

    def body(self) -> Iterator[bytes]:
        """The body in the pieces in which it arrives; can be read once."""
        with self._incoming.consume() as body, body.stream() as stream:
            while True:
                try:
                    yield stream.blocking_read(READ_SIZE)
                except Err as end:
                    if isinstance(end.value, StreamError_Closed):
                        return
                    raise


@dataclass
class Response:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: Iterable[bytes] = ()


class IncomingHandler(exports.IncomingHandler):
    """Implement `answer` in a subclass of the same name."""

    def answer(self, request: Request) -> Response:
        raise NotImplementedError

    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        response = self.answer(Request(request))
        fields = [(name, value.encode("latin-1")) for name, value in response.headers.items()]
        head = OutgoingResponse(Fields.from_list(fields))
        head.set_status_code(response.status)
        body = head.body()
        ResponseOutparam.set(response_out, Ok(head))
        with body.write() as stream:
            for piece in response.body:
                for start in range(0, len(piece), WRITE_LIMIT):
                    stream.blocking_write_and_flush(piece[start : start + WRITE_LIMIT])
        OutgoingBody.finish(body, None)
