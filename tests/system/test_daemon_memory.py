# SPDX-License-Identifier: MIT
"""
Memory that the daemon gives and takes: batches, long runs, a heap that is full.

The heap's bytes in /dev/shm are counted by its file's blocks.
"""
import errno
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


if __name__ == "__main__":
    daemon_box.main()
