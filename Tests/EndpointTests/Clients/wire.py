"""The frontend's side of PostgreSQL's protocol by hand, for what no well-behaved library would send.

Source: PostgreSQL manual, "Message Flow" and "Message Formats"; RFC 5802 and RFC 7677 for SCRAM.
"""

import base64
import hashlib
import hmac
import os
import socket
import struct

from endpoint import HOST, PORT, password_of


def message(kind, body=b""):
    return kind + struct.pack("!i", len(body) + 4) + body


def startup(**parameters):
    body = struct.pack("!i", 196608)
    for name, value in parameters.items():
        body += name.encode() + b"\0" + value.encode() + b"\0"
    body += b"\0"
    return struct.pack("!i", len(body) + 4) + body


def query(text):
    return message(b"Q", text.encode() + b"\0")


def cancel_request(process, secret):
    return struct.pack("!iiii", 16, 80877102, process, secret)


SSL_REQUEST = struct.pack("!ii", 8, 80877103)
GSS_REQUEST = struct.pack("!ii", 8, 80877104)
TERMINATE = message(b"X")


class Closed(Exception):
    """The endpoint has closed the connection."""


class Wire:
    """A TCP connection to the endpoint.

    `step` bytes are written at a time, each in a segment of its own.
    """

    def __init__(self, step=None):
        self.socket = socket.create_connection((HOST, PORT))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A hang must be a failure.
        self.socket.settimeout(120)
        self.step = step
        self.key = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def reset(self):
        """Disappears without a word: the endpoint gets RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def stop_sending(self):
        self.socket.shutdown(socket.SHUT_WR)

    def send(self, data):
        if self.step is None:
            self.socket.sendall(data)
        else:
            for start in range(0, len(data), self.step):
                self.socket.sendall(data[start:start + self.step])

    def exactly(self, count):
        data = b""
        while len(data) < count:
            try:
                part = self.socket.recv(count - len(data))
            except ConnectionError as error:
                raise Closed from error
            if not part:
                raise Closed
            data += part
        return data

    def read(self):
        """One message."""
        kind, length = struct.unpack("!ci", self.exactly(5))
        return kind, self.exactly(length - 4)

    def until(self, wanted=b"Z"):
        """Messages up to one of this kind."""
        messages = []
        while not messages or messages[-1][0] != wanted:
            messages.append(self.read())
        return messages

    def rest(self):
        """Everything until the endpoint closes."""
        messages = []
        try:
            while True:
                messages.append(self.read())
        except Closed:
            return messages

    def log_in(self, user="app", database="app", password=None, **parameters):
        self.send(startup(user=user, database=database, **parameters))
        kind, body = self.read()
        assert kind == b"R" and body.startswith(struct.pack("!i", 10)), (kind, body)
        nonce = base64.b64encode(os.urandom(18)).decode()
        bare = f"n=,r={nonce}"
        first = b"n,," + bare.encode()
        self.send(message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first))
        kind, body = self.read()
        if kind != b"R":
            raise PermissionError(fields(body))
        server_first = body[4:].decode()
        attributes = dict(part.split("=", 1) for part in server_first.split(","))
        salted = hashlib.pbkdf2_hmac("sha256", (password or password_of(user)).encode(),
                                     base64.b64decode(attributes["s"]), int(attributes["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        final = f"c=biws,r={attributes['r']}"
        signed = f"{bare},{server_first},{final}".encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        self.send(message(b"p", f"{final},p={base64.b64encode(proof).decode()}".encode()))
        kind, body = self.read()
        if kind == b"E":
            raise PermissionError(fields(body))
        verifier = base64.b64encode(hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256"))
        assert body[4:] == b"v=" + verifier, "the endpoint does not know the password either"
        while kind != b"Z":
            kind, body = self.read()
            if kind == b"K":
                self.key = struct.unpack("!ii", body)
            if kind == b"E":
                raise PermissionError(fields(body))
        return self

    def ask(self, text):
        """The rows of a simple query, as lists of bytes."""
        self.send(query(text))
        return rows(self.until())


def rows(messages):
    answer = []
    for kind, body in messages:
        if kind == b"E":
            raise RuntimeError(fields(body))
        if kind != b"D":
            continue
        offset, row = 2, []
        for _ in range(struct.unpack_from("!h", body)[0]):
            (length,) = struct.unpack_from("!i", body, offset)
            offset += 4
            row.append(None if length < 0 else body[offset:offset + length])
            offset += max(length, 0)
        answer.append(row)
    return answer


def fields(body):
    """Of an ErrorResponse."""
    return {chr(field[0]): field[1:].decode() for field in body.split(b"\0") if field}
