"""A client that costs little, by hand: thousands of them, values of a gigabyte, and rudeness need no driver.

Source: PostgreSQL manual, "Message Flow" and "Message Formats"; RFC 5802 and RFC 7677 for SCRAM.
"""

import base64
import functools
import hashlib
import hmac
import os
import socket
import struct

CHUNK = 1 << 20


def message(kind, body=b""):
    return kind + struct.pack("!i", len(body) + 4) + body


@functools.lru_cache(maxsize=4096)
def salted(password, salt, iterations):
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)


def digest(key, text):
    return hmac.digest(key, text, "sha256")


class Client:
    def __init__(self, login):
        self.login = login
        self.socket = socket.create_connection((login.host, login.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(300)
        self.buffered = b""

    def close(self):
        self.socket.close()

    def reset(self):
        """Disappears without a word."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def fill(self):
        data = self.socket.recv(CHUNK)
        if not data:
            raise ConnectionError("closed")
        self.buffered += data

    def read(self):
        """One message."""
        while len(self.buffered) < 5:
            self.fill()
        length = struct.unpack_from("!i", self.buffered, 1)[0]
        while len(self.buffered) < 1 + length:
            self.fill()
        kind, body = self.buffered[:1], self.buffered[5:1 + length]
        self.buffered = self.buffered[1 + length:]
        if kind == b"E":
            raise RuntimeError(body.replace(b"\0", b" ").decode(errors="replace"))
        return kind, body

    def until(self, wanted=b"Z"):
        while True:
            kind, body = self.read()
            if kind == wanted:
                return body

    def begin(self):
        """Sends what comes before the password."""
        body = struct.pack("!i", 196608)
        for name, value in (("user", self.login.user), ("database", self.login.database)):
            body += name.encode() + b"\0" + value.encode() + b"\0"
        self.send(struct.pack("!i", len(body) + 5) + body + b"\0")

    def log_in(self):
        self.begin()
        self.read()
        nonce = base64.b64encode(os.urandom(18))
        bare = b"n=,r=" + nonce
        first = b"n,," + bare
        self.send(message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first))
        challenge = self.read()[1][4:]
        fields = dict(part.split(b"=", 1) for part in challenge.split(b","))
        secret = salted(self.login.password, base64.b64decode(fields[b"s"]), int(fields[b"i"]))
        client_key = digest(secret, b"Client Key")
        final = b"c=biws,r=" + fields[b"r"]
        signature = digest(hashlib.sha256(client_key).digest(), bare + b"," + challenge + b"," + final)
        proof = bytes(left ^ right for left, right in zip(client_key, signature))
        self.send(message(b"p", final + b",p=" + base64.b64encode(proof)))
        self.until()
        return self

    def query(self, text):
        self.send(message(b"Q", text.encode() + b"\0"))

    def ask(self, text):
        self.query(text)
        self.until()

    def skip(self, pause=None):
        """Reads an answer of any size up to ReadyForQuery, keeping nothing. Returns how many bytes it had.

        `pause` is called once, when a part of the answer is there.
        """
        memory, total, left = bytearray(CHUNK), 0, 0
        header = b""
        while True:
            count = self.socket.recv_into(memory)
            if not count:
                raise ConnectionError("closed")
            total += count
            start = 0
            while start < count:
                if left:
                    step = min(left, count - start)
                    left -= step
                    start += step
                    continue
                step = min(5 - len(header), count - start)
                header += bytes(memory[start:start + step])
                start += step
                if len(header) == 5:
                    left = struct.unpack_from("!i", header, 1)[0] - 4
                    kind, header = header[:1], b""
                    if kind == b"E":
                        raise RuntimeError("an error: " + bytes(memory[start:count]).decode(errors="replace"))
                    if kind == b"Z":
                        return total
            if pause and total > 8 * CHUNK:
                pause()
                pause = None
