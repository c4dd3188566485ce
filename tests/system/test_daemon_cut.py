# SPDX-License-Identifier: MIT
"""Clients that cut, stretch or lock the two files of the heap, of which they were given descriptors."""
import errno
import fcntl
import os
import signal
import unittest

import daemon_box
import wire
from daemon_box import Daemon, until

SIZE = 8 << 20


class Cut(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon(self, "--size", str(SIZE)).start()
        self.witness = self.daemon.session()
        self.client = self.daemon.session()
        self.sizes = [os.stat(path).st_size for path in self.daemon.files]

    def is_mended(self):
        return [os.stat(path).st_size for path in self.daemon.files] == self.sizes

    def resize(self, half, size):
        os.ftruncate(self.client.fds[half], size)

    def exercise(self):
        """What the daemon does for its clients reads and writes both files. Whatever it answers, it answers."""
        for _ in range(3):
            for request in (wire.stats_request(), wire.grant_request(2, 1), wire.grant_request(1, 4)):
                self.witness.send(request)
                self.assertIn(self.witness.receive()[0], (wire.STATS, wire.GRANT, wire.ERROR))
        until(self.is_mended, "the files have their sizes again")
        self.daemon.wait_log("by a client")
        self.witness.stats()

    def test_heap(self):
        self.client.grant(3, 1)
        for size in (0, 1, 4096, (256 << 10) + 1, SIZE - 4096):
            self.resize(1, size)
            self.exercise()
        self.assertEqual(self.daemon.session().n_sessions(), 3)
        self.assertEqual(self.daemon.log().count("by a client"), 1)  # said once

    def test_control(self):
        for size in (self.sizes[0] - 4096, self.sizes[0] // 2, 65536, 4096, 1, 0):
            self.resize(0, size)
            self.exercise()
            hello = wire.Wire(self.daemon.socket)
            self.daemon.wires.append(hello)
            hello.send(wire.hello(self.witness.layout_hash))
            self.assertIn(hello.receive()[0], (wire.WELCOME, wire.ERROR))
            hello.close()
            self.exercise()

    def test_again_and_again(self):
        for _ in range(200):
            self.resize(0, 0)
            self.resize(1, 0)
            self.witness.send(wire.stats_request())
            self.assertIn(self.witness.receive()[0], (wire.STATS, wire.ERROR))
        self.exercise()

    def test_no_records_no_admission(self):
        layout_hash = self.witness.layout_hash
        self.resize(0, 0)
        self.exercise()
        new = wire.Wire(self.daemon.socket, layout_hash)
        self.daemon.wires.append(new)
        new.send(wire.hello(layout_hash))
        self.assertIn("pyheapctl reset", new.expect_error(errno.EUCLEAN))
        new.expect_end()

    def test_stretched(self):
        for half in (0, 1):
            self.resize(half, 1 << 40)
            self.exercise()
        self.assertEqual(self.daemon.session().n_sessions(), 3)

    def test_sent_by_somebody(self):
        """A SIGBUS that is no fault ends the daemon as it would any process."""
        os.kill(self.daemon.pid, signal.SIGBUS)
        self.assertEqual(self.daemon.process.wait(wire.WATCHDOG_S), -signal.SIGBUS)


class Locked(unittest.TestCase):
    """What a client locks keeps no daemon from the name."""

    def lock(self, daemon):
        session = daemon.session()
        for fd in session.fds:
            again = os.open("/proc/self/fd/%d" % fd, os.O_RDWR)
            self.addCleanup(os.close, again)
            fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return session

    def test_the_next_daemon(self):
        daemon = Daemon(self, "--size", "8M").start()
        self.lock(daemon)
        daemon.end(signal.SIGKILL)
        daemon.start()
        self.assertIn("adopted", daemon.log())
        self.assertEqual(daemon.run("--socket", daemon.folder + "/other")[0], 3)  # the name is taken

    def test_remove(self):
        daemon = Daemon(self, "--size", "8M").start()
        self.lock(daemon)
        self.assertEqual(daemon.run("--remove")[0], 3)
        daemon.end(signal.SIGKILL)
        self.assertEqual(daemon.run("--remove")[0], 0)
        self.assertFalse(any(map(os.path.exists, daemon.files)))


if __name__ == "__main__":
    daemon_box.main()
