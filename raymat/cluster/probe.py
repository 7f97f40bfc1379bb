"""Is there a gRPC server, as Ray's are, behind an address?

Ray itself waits two minutes for a port that is open but silent, and ends the process.
"""

import os
import socket
import time

WAIT_S = 10.0

# HTTP/2 (RFC 9113, 3.4 and 6.5): a client begins with this preface and an empty SETTINGS frame,
# and the server begins with a SETTINGS frame of its own: 3 bytes length, 1 byte type 0x4, ...
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_TYPE_AT, _SETTINGS_TYPE = 3, 4


def probe(host: str, port: int, wait_s: float = WAIT_S) -> str | None:
    """Give None if a gRPC server answers within `wait_s` seconds, else what is wrong."""
    deadline = time.monotonic() + wait_s
    try:
        with socket.create_connection((host, port), timeout=wait_s) as connection:
            if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
                return None  # it would not speak before a TLS handshake
            connection.sendall(_PREFACE + _SETTINGS)
            return _read_answer(connection, deadline)
    except TimeoutError:
        return "no answer"
    except OSError as cause:
        return cause.strerror or str(cause)


def _read_answer(connection: socket.socket, deadline: float) -> str | None:
    answer = b""
    while len(answer) <= _TYPE_AT:
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        received = connection.recv(64)
        if not received:
            return "the connection was closed; is it the port of another program?"
        answer += received
    return None if answer[_TYPE_AT] == _SETTINGS_TYPE else "another program answers there"
