# SPDX-License-Identifier: MIT
"""
A /dev/shm that is full: of 16 MiB, of which the heap may have 15 and somebody else any part.

It is a tmpfs in a mount namespace of the test's own. Where that cannot be made, which takes root, the test is skipped.
"""
import errno
import os
import sys
import unittest

import daemon_box
import wire
from daemon_box import Daemon


class FullMachine(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon(self, "--size", "15M").start()
        self.session = self.daemon.session()

    def fill(self, n=16 << 20):
        """Somebody else takes n bytes, or all the room that there is."""
        path = "/dev/shm/other-%d" % os.getpid()
        self.addCleanup(lambda: os.path.exists(path) and os.unlink(path))
        with open(path, "wb", buffering=0) as f:
            try:
                for _ in range(n // 65536):
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

    def test_no_room_for_another_heap(self):
        """A reset that could not end well does not begin. What is full because of the heap itself is no reason."""
        reset = lambda: wire.Wire(self.daemon.socket, self.session.layout_hash)
        path = self.fill()
        refused = reset()
        refused.send(wire.reset_request(True))
        self.assertIn("cannot be emptied", refused.expect_error(errno.ENOMEM))
        self.assertEqual(self.session.n_sessions(), 1)
        self.assertIn("no room for another one", self.daemon.log())
        os.unlink(path)
        self.session.close()
        done = reset()
        done.send(wire.reset_request(True))
        done.expect(wire.RESET_DONE)
        self.assertEqual(self.daemon.session().n_sessions(), 1)
        for connection in (refused, done):
            connection.close()

    def test_filled_in_a_run(self):
        self.fill(8 << 20)
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
        self.assertIn("more than /dev/shm can hold, 16 MiB", said)


def enter_namespace():
    """Become this program where /dev/shm is small."""
    # In a chroot / is no mount of its own, and /dev/shm is made private by itself.
    script = ('mount --make-rprivate / 2>/dev/null || mount --make-private /dev/shm && '
              'mount -t tmpfs -o size=16m tmpfs /dev/shm && PYHEAP_SMALL_SHM=1 exec "$@"')
    unshare = ["unshare", "-m", "--propagation", "unchanged"]
    if os.geteuid() != 0 or not daemon_box.can_unshare(*unshare[1:]):
        print("skipped: this user cannot make a mount namespace", file=sys.stderr)
        sys.exit(77)
    os.execvp("unshare", [*unshare, "sh", "-c", script, "sh", sys.executable, *sys.argv])


if __name__ == "__main__":
    if not os.environ.get("PYHEAP_SMALL_SHM"):
        enter_namespace()
    daemon_box.main()
