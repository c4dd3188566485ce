# SPDX-License-Identifier: MIT
"""Whatever a client may say to pyheapd, and in whatever pieces: what it answers, and that nobody else notices."""
import array
import errno
import os
import socket
import struct
import unittest

import daemon_box
import wire
from daemon_box import Daemon, until


class Protocol(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon(self, "--size", "32M", "--max-sessions", "64").start()
        self.witness = self.open()
        self.n_fds = self.daemon.n_fds()

    def tearDown(self):
        # Whatever the test did to its own connection, the session that was there before it goes on.
        self.assertEqual(self.witness.stats()[21], [64])
        self.witness.close()
        self.assertEqual(self.daemon.end(), 0)

    def connect(self):
        return self.daemon.wire()

    def open(self, **arguments):
        return self.daemon.session(**arguments)

    # ---- Hello ----

    def test_welcome(self):
        a, b = self.open(), self.open()
        self.assertEqual(a.welcome[1], [1])
        self.assertEqual(a.welcome[2], [a.layout_hash])
        self.assertEqual(len(a.welcome[7][0]), 16)
        self.assertEqual(len(a.token), 16)
        self.assertEqual(a.welcome[7], b.welcome[7])
        self.assertNotEqual(a.token, b.token)
        self.assertNotEqual(a.session, b.session)
        self.assertEqual(len(a.fds), 2)
        for fd, path, size in zip(a.fds, self.daemon.files, (a.welcome[4][0], a.welcome[5][0])):
            self.assertEqual(os.fstat(fd).st_ino, os.stat(path).st_ino)
            self.assertEqual(os.fstat(fd).st_size, size)
        self.assertEqual(a.welcome[5], [32 << 20])
        self.assertEqual(a.welcome[6], [256 << 10])

    def test_byte_by_byte(self):
        c = self.connect()
        for byte in wire.hello(c.layout_hash) + wire.stats_request():
            c.send(bytes([byte]))
        c.expect_welcome()
        c.expect(wire.STATS)

    def test_many_at_once(self):
        c = self.connect()
        c.send(wire.hello(c.layout_hash) + 50 * wire.stats_request() + wire.goodbye())
        c.expect_welcome()
        for _ in range(50):
            c.expect(wire.STATS)
        c.expect_end()

    def test_every_answer_comes(self):
        c = self.connect()
        c.send(wire.hello(c.layout_hash) + 50 * wire.stats_request() + wire.grant_request(1, 1))
        c.expect_welcome()
        kinds = [c.receive()[0] for _ in range(51)]
        self.assertEqual(kinds, 50 * [wire.STATS] + [wire.GRANT])

    def test_two_frames_cut_anywhere(self):
        data = wire.hello(self.witness.layout_hash) + wire.stats_request() + wire.goodbye()
        for cut in range(1, len(data) - 6):
            c = self.connect()
            c.send(data[:cut])
            self.witness.stats()
            c.send(data[cut:-6])
            c.expect_welcome()
            c.expect(wire.STATS)
            c.send(data[-6:])
            c.expect_end()

    def test_another_version(self):
        for arguments in ({"protocol": 0}, {"protocol": 2}, {"protocol": 2 ** 32 - 1}):
            c = self.connect()
            c.send(wire.hello(c.layout_hash, **arguments))
            self.assertIn("protocol", c.expect_error(errno.EPROTO))
            c.expect_end()
        c = self.connect()
        c.send(wire.hello(c.layout_hash ^ 1))
        self.assertIn("layout", c.expect_error(errno.EPROTO))
        c.expect_end()

    def test_program_is_made_readable(self):
        self.open(program="x\n\x1b[1m\u00e4" + 100 * "y")
        self.daemon.wait_log("x??[1m??yyy")
        self.assertNotIn("\x1b", self.daemon.log())

    # ---- order ----

    def test_nothing_before_hello(self):
        for data in (wire.grant_request(1, 1), wire.stats_request(), wire.goodbye()):
            c = self.connect()
            c.send(data)
            c.expect_error(errno.EBADMSG)
            c.expect_end()

    def test_hello_only_once(self):
        c = self.open()
        c.send(wire.hello(c.layout_hash))
        c.expect_error(errno.EBADMSG)
        c.expect_end()

    def test_one_grant_at_a_time(self):
        """The second request is not taken before the first is answered."""
        c = self.open()
        c.send(wire.grant_request(64, 1) + wire.grant_request(1, 1))
        c.expect(wire.GRANT)
        c.expect(wire.GRANT)

    def test_no_memory_asked_for(self):
        for request in ((0, 1), (1, 0), (0, 0)):
            c = self.open()
            c.send(wire.grant_request(*request))
            c.expect_error(errno.EBADMSG)
            c.expect_end()

    def test_too_much_memory_asked_for(self):
        c = self.open()
        for request in ((129, 1), (2 ** 32 - 1, 1), (2 ** 32 - 1, 2 ** 32 - 1)):
            c.send(wire.grant_request(*request))
            c.expect_error(errno.ENOMEM)
        self.assertEqual(len(c.grant(1, 1)), 1)

    # ---- bad frames ----

    def test_too_long(self):
        for prefix in (struct.pack("<I", 65537), b"\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n"):
            for c in (self.connect(), self.open()):
                c.send(prefix)
                self.assertIn("65536", c.expect_error(errno.EMSGSIZE))
                c.expect_end()

    def test_the_longest_is_taken(self):
        c = self.connect()
        message = wire.hello(c.layout_hash)[4:]
        message += wire.octets(15, bytes(65536 - len(message) - 4))  # a field that nobody knows
        self.assertEqual(len(message), 65536)
        c.send(wire.frame(message))
        c.expect_welcome()

    def test_cut(self):
        whole = wire.hello(0)
        for n in (1, 3, 4, 5, len(whole) - 1):
            c = self.connect()
            c.send(whole[:n])
            c.socket.shutdown(socket.SHUT_WR)
            self.assertIn("middle", c.expect_error(errno.EBADMSG))
            c.expect_end()

    def test_gone_in_the_middle(self):
        whole = wire.hello(0)
        for n in range(len(whole)):
            c = self.connect()
            c.send(whole[:n])
            c.close()
        until(lambda: self.daemon.n_fds() == self.n_fds, "the daemon closes every connection")

    def test_malformed(self):
        for message in (b"", b"\x00", b"\x0a", b"\x0a\x05\x08", b"\x08\x01", b"\x0f\x01", b"\x7a\x00", b"\x0a\x02\x11\x01",
                        b"\x0a" + 9 * b"\xff" + b"\x01", 65536 * b"\xff"):
            for c in (self.connect(), self.open()):
                c.send(wire.frame(message))
                c.expect_error(errno.EBADMSG)
                c.expect_end()

    # ---- descriptors ----

    def test_descriptors_do_not_get_in(self):
        c = self.open()
        n = self.daemon.n_fds()
        fds = array.array("i", [0, 1, 2] * 10)
        for _ in range(20):
            c.socket.sendmsg([wire.stats_request()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
            c.expect(wire.STATS)
        self.assertEqual(self.daemon.n_fds(), n)


if __name__ == "__main__":
    daemon_box.main()
