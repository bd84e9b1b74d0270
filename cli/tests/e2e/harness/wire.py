"""What no client library would send: bytes on a socket, frames of HTTP/2 by hand, and what a process pays for them."""

import contextlib
import json
import os
import socket
import struct
import threading
import time
from urllib.parse import urlsplit

import hpack

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 1
END_HEADERS, PADDED, WITH_PRIORITY = 4, 8, 32
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def connect(url, seconds=20, receive_buffer=None):
    """A connection to the server of a URL, in the clear."""
    address = urlsplit(url)
    stream = socket.socket()
    if receive_buffer:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    stream.settimeout(seconds)
    stream.connect((address.hostname, address.port))
    return stream


def read_all(stream):
    """What comes until the other side ends the connection, in one way or the other."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while data := stream.recv(65536):
            received += data
    return received


def exchange(url, request, seconds=20):
    """Sends bytes on a connection of their own, and reads until it is closed."""
    with connect(url, seconds) as stream:
        with contextlib.suppress(ConnectionError):
            stream.sendall(request)
        return read_all(stream)


def push(stream, piece, times, seconds=3):
    """Sends a piece over and over, until the other side ends the connection or does not read on for `seconds`; says how often."""
    stream.settimeout(seconds)
    for count in range(times):
        try:
            stream.sendall(piece)
        except OSError:
            return count
    return times


class Answer:
    """One answer of HTTP/1.1 with an error of the platform."""

    def __init__(self, received):
        head, _, self.body = received.partition(b"\r\n\r\n")
        self.text = received.decode(errors="replace")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split(" ")[1]) if head else 0
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}

    @property
    def error(self):
        return json.loads(self.body)["error"]

    @property
    def code(self):
        return self.error["code"]


def frame(kind, flags=0, stream=0, payload=b""):
    """A frame of HTTP/2 (RFC 9113 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


class Http2:
    """A connection that speaks HTTP/2 with prior knowledge, or as agreed by TLS, as far as it likes."""

    def __init__(self, url, settings=(), receive_buffer=None, tls=None, preface=PREFACE):
        self.authority, self.scheme = urlsplit(url).netloc, "https" if tls else "http"
        self.stream, self._received, self.frames, self.closed = connect(url, receive_buffer=receive_buffer), b"", [], False
        if tls:
            self.stream = tls.wrap_socket(self.stream, server_hostname=urlsplit(url).hostname)
        self._encoder, self._decoder = hpack.Encoder(), hpack.Decoder()
        values = b"".join(struct.pack(">HI", *setting) for setting in settings)
        self.send(preface + frame(SETTINGS, payload=values))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()

    def send(self, data):
        """Sends, and says whether the other side still took it."""
        if self.closed:
            return False
        try:
            self.stream.sendall(data)
        except OSError:
            self.closed = True
        return not self.closed

    def request(self, stream, path, method="GET", end=True, more=()):
        """The frame that begins a request."""
        fields = [(":method", method), (":scheme", self.scheme), (":authority", self.authority), (":path", path), *more]
        return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, self._encoder.encode(fields))

    def read(self, seconds):
        """Reads for so long, or until the connection is closed; answers settings and pings as one must."""
        deadline = time.monotonic() + seconds
        while not self.closed and (left := deadline - time.monotonic()) > 0:
            self.stream.settimeout(max(left, 0.001))
            try:
                data = self.stream.recv(65536)
            except TimeoutError:
                break
            except OSError:
                data = b""
            self.closed = not data
            self._received += data
            self._parse()
        self.stream.settimeout(20)
        return self

    def _parse(self):
        while len(self._received) >= 9:
            length = int.from_bytes(self._received[:3], "big")
            if len(self._received) < 9 + length:
                return
            kind, flags, stream = struct.unpack(">BBI", self._received[3:9])
            payload, self._received = self._received[9:9 + length], self._received[9 + length:]
            self.frames.append((kind, flags, stream, payload))
            if kind in (SETTINGS, PING) and not flags & ACK:
                self.send(frame(kind, ACK, 0, payload if kind == PING else b""))

    def until(self, *kinds, seconds=20, stream=None):
        """Reads until a frame of such a kind comes, and returns it."""
        deadline = time.monotonic() + seconds
        while True:
            found = next((got for got in self.frames if got[0] in kinds and stream in (None, got[2])), None)
            if found or self.closed or time.monotonic() > deadline:
                return found
            self.read(0.1)

    def status(self, stream, seconds=20):
        """The status of the only answer on this connection."""
        found = self.until(HEADERS, seconds=seconds, stream=stream)
        return int(dict(self._decoder.decode(found[3]))[":status"]) if found else None

    def is_ended(self, seconds=20):
        """Whether the other side ends the connection."""
        self.read(seconds)
        return self.closed


class Expense:
    """What a process has used, and how much more it has since."""

    def __init__(self, pid):
        self.pid = pid
        self.began = self._look()

    def _look(self):
        with open(f"/proc/{self.pid}/status") as file:
            memory = next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS:"))
        with open(f"/proc/{self.pid}/stat") as file:
            user, system = file.read().rpartition(")")[2].split()[11:13]
        return memory, (int(user) + int(system)) / os.sysconf("SC_CLK_TCK"), self.descriptors()

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    @property
    def memory(self):
        """MiB."""
        return self._look()[0] - self.began[0]

    @property
    def cpu(self):
        """Seconds."""
        return self._look()[1] - self.began[1]

    @property
    def connections(self):
        return self.descriptors() - self.began[2]


class Beside:
    """A caller with a new connection for each call, to several places in turn, none of which may ever fail it."""

    def __init__(self, *calls):
        self._calls, self._stop, self.calls, self.slowest, self.failures = calls, threading.Event(), 0, 0.0, []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self._stop.is_set():
            for call in self._calls:
                began = time.monotonic()
                try:
                    problem = call()
                except Exception as error:  # noqa: BLE001
                    problem = repr(error)
                self.calls, self.slowest = self.calls + 1, max(self.slowest, time.monotonic() - began)
                if problem:
                    self.failures.append(problem)
            self._stop.wait(0.05)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        seen = self.calls
        while self._thread.is_alive() and self.calls < seen + 2 * len(self._calls) and not self.failures:
            time.sleep(0.01)
        self._stop.set()
        self._thread.join(60)
