"""Everything of bad_input.py again, inside of TLS, and what breaks TLS itself. The nodes have been given their certificates."""

import os
import random
import resource
import socket
import ssl

import bad_input
from endpoint import eventually, main
from tls import SecuredWire
from wire import SSL_REQUEST, Closed, Wire, fields


class BadInputOverTLS(bad_input.BadInput):
    wire = SecuredWire
    # The pools of the load.
    slack = 16

    def test_what_comes_too_early(self):
        """Encryption is asked for once; inside of it this is a protocol nobody speaks, as for PostgreSQL."""
        with self.wire() as wire:
            wire.send(SSL_REQUEST)
            answers = wire.rest()
            self.assertEqual([fields(body)["C"] for kind, body in answers if kind == b"E"], ["0A000"])

    def test_two_thousand_silent_connections(self):
        """Half as many, which have shaken hands first."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
        with bad_input.Bystander() as bystander:
            silent = [self.wire() for _ in range(1000)]
            served = bystander.served
            eventually("others are served meanwhile", lambda: bystander.served > served + 10 or bystander.failures)
            for wire in silent:
                wire.close()

    def test_random_bytes_instead_of_a_handshake(self):
        generator = random.Random(4)
        with bad_input.Bystander():
            for size in [1, 5, 6, 100, 1000, 20_000, 100_000] * 20:
                with Wire() as wire:
                    wire.send(SSL_REQUEST)
                    self.assertEqual(wire.exactly(1), b"S")
                    # A record's header in front of every other, so that what follows is looked at.
                    header = generator.choice([b"", b"\x16\x03\x01\x40\0", b"\x17\x03\x03\0\x20"])
                    self.pour(wire, header + generator.randbytes(size))

    def test_random_bytes_in_a_session(self):
        """Who can write on somebody's connection can end it, and nothing else."""
        generator = random.Random(5)
        with bad_input.Bystander():
            for size in [1, 5, 6, 100, 1000, 20_000] * 10:
                with self.wire() as wire:
                    wire.log_in()
                    self.assertEqual(wire.ask("SELECT 1"), [[b"1"]])
                    header = generator.choice([b"", b"\x17\x03\x03\x40\0", b"\x15\x03\x03\0\2"])
                    # Past TLS, and enough behind it for the longest record that it could be the beginning of.
                    with socket.socket(fileno=os.dup(wire.socket.fileno())) as plain:
                        plain.settimeout(60)
                        plain.sendall(header + generator.randbytes(size) + bytes(20_000))
                    with self.assertRaises((Closed, ssl.SSLError, OSError)):
                        wire.ask("SELECT 2")


if __name__ == "__main__":
    main()
