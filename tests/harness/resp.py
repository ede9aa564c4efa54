"""RESP as it is on the wire: what a server answers, kept exactly, with nothing made nicer on the way.

An answer is a pair of its kind and its content, aggregates hold answers:
("int", b"3"), ("bulk", b"x"), ("null", None), ("array", [("bulk", b"x")]), ("map", [(key, value), ...]).
"""
import socket

LINES = {b"+": "status", b"-": "error", b":": "int", b",": "double", b"#": "bool", b"(": "big"}
BULKS = {b"$": "bulk", b"=": "verbatim", b"!": "error"}
AGGREGATES = {b"*": "array", b"~": "set", b">": "push"}


class Closed(Exception):
    """The server has closed the connection."""


def packed(*words):
    """A command as clients send it."""
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"".join([b"*%d\r\n" % len(words), *(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)])


class Wire:
    """A connection that sends bytes and reads answers."""

    def __init__(self, port, limit=10.0):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=limit)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.stream.close()
        self.socket.close()

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed from error

    def ask(self, *words):
        """One command and its answer."""
        self.send(packed(*words))
        return self.read()

    def is_closed(self):
        """Waits until the server closes; what it says before that is thrown away."""
        try:
            while self.stream.read(1 << 16):
                pass
        except ConnectionResetError:
            pass
        return True

    def line(self):
        try:
            line = self.stream.readline()
        except ConnectionResetError as error:
            raise Closed from error
        if not line.endswith(b"\r\n"):
            raise Closed(line)
        return line[:1], line[1:-2]

    def read(self):
        """The next answer."""
        mark, text = self.line()
        if mark in LINES:
            return LINES[mark], text
        if mark == b"_" or text == b"-1":
            return ("nullarray" if mark == b"*" else "null"), None
        if mark in BULKS:
            body = self.stream.read(int(text) + 2)
            if len(body) != int(text) + 2:
                raise Closed(body)
            return BULKS[mark], body[:-2]
        if mark in AGGREGATES:
            return AGGREGATES[mark], [self.read() for _ in range(int(text))]
        if mark == b"%":
            return "map", [(self.read(), self.read()) for _ in range(int(text))]
        raise AssertionError(f"no RESP: {mark + text!r}")


def plain(answer):
    """An answer as plain Python, for tests that do not care how it was sent."""
    kind, content = answer
    if kind == "int":
        return int(content)
    if kind == "double":
        return float(content)
    if kind in ("array", "set", "push"):
        return [plain(one) for one in content]
    if kind == "map":
        return {plain(key): plain(value) for key, value in content}
    return content
