# SPDX-License-Identifier: MIT
"""
Memory that the daemon gives and takes: batches, long runs, a heap that is full, a /dev/shm that is full.

The heap's bytes in /dev/shm are counted by its file's blocks. The tests of a full /dev/shm run in a mount namespace of
their own, which only root can make.
"""
import errno
import os
import shutil
import subprocess
import sys
import unittest

import daemon_box
import wire
from daemon_box import Child, Daemon, until

ARENA = 256 << 10


class Grants(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon(self, "--size", "32M").start()
        self.session = self.daemon.session()

    def arenas(self):
        return self.daemon.heap_bytes() / ARENA

    def test_batches_grow(self):
        sizes = [len(self.session.grant(1, 1000)) for _ in range(6)]
        self.assertEqual(sizes, [1, 2, 4, 8, 16, 16])
        self.assertEqual(self.arenas(), sum(sizes))

    def test_no_more_than_is_welcome(self):
        sizes = [len(self.session.grant(1, n)) for n in (1, 1, 1, 3, 1, 100)]
        self.assertEqual(sizes, [1, 1, 1, 3, 1, 16])

    def test_batches_are_all_different(self):
        heads = sum((self.session.grant(1, 16) for _ in range(8)), [])
        self.assertEqual(len(heads), len(set(heads)))
        self.assertLess(max(heads), 128)

    def test_runs(self):
        a, = self.session.grant(40, 1)
        b, = self.session.grant(2, 16)
        c, = self.session.grant(16, 1)
        runs = sorted([(a, 40), (b, 2), (c, 16)])
        for (start, n), (following, _) in zip(runs, runs[1:]):
            self.assertLessEqual(start + n, following)
        self.assertEqual(self.arenas(), 58)

    def test_the_whole_heap(self):
        self.assertEqual(self.session.grant(128, 1), [0])
        self.session.send(wire.grant_request(1, 1))
        self.session.expect_error(errno.ENOMEM)
        other = self.daemon.session()
        other.send(wire.grant_request(1, 1))
        other.expect_error(errno.ENOMEM)
        self.session.send(wire.goodbye())
        until(lambda: self.arenas() == 0, "all of it is returned")
        self.assertEqual(other.grant(128, 1), [0])

    def test_fewer_when_memory_is_short(self):
        self.session.grant(125, 1)
        sizes = [len(self.session.grant(1, 100)) for _ in range(2)]
        self.assertEqual(sizes, [1, 2])
        self.session.send(wire.grant_request(1, 100))
        self.session.expect_error(errno.ENOMEM)

    def test_no_adjacent_ones(self):
        self.session.grant(100, 1)
        self.session.send(wire.grant_request(29, 1))
        self.session.expect_error(errno.ENOMEM)
        self.assertEqual(len(self.session.grant(28, 1)), 1)

    def test_comes_back(self):
        for end in ("goodbye", "kill"):
            session = None

            def take():
                session = self.daemon.session()
                session.grant(20, 1)
                for _ in range(4):
                    session.grant(1, 16)
                if end == "goodbye":
                    session.send(wire.goodbye())
                    session.expect_end()

            child = Child(self, take)
            if end == "kill":
                self.assertEqual(self.arenas(), 35)
                child.kill()
            until(lambda: self.arenas() == 0, "it comes back after " + end)

    def test_others_go_on_meanwhile(self):
        other = self.daemon.session()
        self.session.send(wire.grant_request(128, 1))
        other.stats()
        self.session.expect(wire.GRANT)


class FullMachine(unittest.TestCase):
    """/dev/shm is a tmpfs of 16 MiB here, the heap may grow to 15."""

    def setUp(self):
        if not os.environ.get("PYHEAP_SMALL_SHM"):
            self.skipTest("needs a mount namespace, which only root can make")
        self.daemon = Daemon(self, "--size", "15M").start()
        self.session = self.daemon.session()

    def fill(self):
        """Somebody else takes all the room but a little."""
        path = "/dev/shm/other-%d" % os.getpid()
        self.addCleanup(lambda: os.path.exists(path) and os.unlink(path))
        with open(path, "wb", buffering=0) as f:
            try:
                while True:
                    f.write(bytes(65536))
            except OSError as e:
                assert e.errno == errno.ENOSPC
        return path

    def take_all(self, session):
        n = 0
        while True:
            session.send(wire.grant_request(1, 16))
            kind, body = session.receive()
            if kind == wire.ERROR:
                self.assertEqual(body[1], [errno.ENOMEM])
                return n
            n += len(list(wire.varints(body[1][0])))

    def test_filled_by_somebody_else(self):
        n = len(self.session.grant(1, 1))
        path = self.fill()
        self.take_all(self.session)
        self.session.send(wire.grant_request(8, 1))
        self.session.expect_error(errno.ENOMEM)
        other = self.daemon.session()
        self.assertEqual(other.n_sessions(), 2)
        os.unlink(path)
        self.assertEqual(len(self.session.grant(8, 1)), 1)
        self.assertGreaterEqual(self.take_all(self.session) + n + 8, 40)

    def test_filled_in_a_run(self):
        os.truncate(self.fill(), 0)
        path = "/dev/shm/other-%d" % os.getpid()
        with open(path, "wb") as f:
            f.write(bytes(8 << 20))
        before = self.daemon.heap_bytes()
        self.session.send(wire.grant_request(50, 1))
        self.session.expect_error(errno.ENOMEM)
        self.assertEqual(self.daemon.heap_bytes(), before)
        self.assertEqual(len(self.session.grant(10, 1)), 1)

    def test_no_room_to_begin_with(self):
        self.fill()
        other = Daemon(self, "--size", "1M")
        status, said = other.run()
        self.assertEqual(status, 1)
        self.assertIn("/dev/shm is full", said)
        self.assertFalse(any(map(os.path.exists, other.files + [other.socket])))

    def test_larger_than_the_machine(self):
        status, said = Daemon(self, "--size", "17M").run()
        self.assertEqual(status, 1)
        self.assertIn("more than /dev/shm can hold, %d bytes" % (16 << 20), said)


def enter_namespace():
    """Run this program again where /dev/shm is small; False where that cannot be."""
    if os.environ.get("PYHEAP_SMALL_SHM") or os.geteuid() != 0 or not shutil.which("unshare"):
        return False
    script = 'mount -t tmpfs -o size=16m tmpfs /dev/shm && PYHEAP_SMALL_SHM=1 exec "$@"'
    if subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL).returncode != 0:
        return False
    run = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", sys.executable, __file__, "FullMachine"])
    return run.returncode == 0 or sys.exit(run.returncode)


if __name__ == "__main__":
    enter_namespace()
    daemon_box.main()
