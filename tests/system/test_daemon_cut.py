# SPDX-License-Identifier: MIT
"""Clients that cut, stretch or lock the two files of the heap, of which they were given descriptors."""
import errno
import fcntl
import os
import shutil
import signal
import subprocess
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
    """What a client locks keeps no daemon from the name, and a daemon of an older build is seen."""

    def make(self):
        """A heap without a daemon, and a client that has locked both of its files, as soon as it could."""
        daemon = Daemon(self, "--size", "8M").start()
        session = daemon.session()
        daemon.end(signal.SIGKILL)
        for fd in session.fds:
            again = os.open("/proc/self/fd/%d" % fd, os.O_RDWR)
            self.addCleanup(os.close, again)
            fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return daemon

    def test_the_next_daemon(self):
        daemon = self.make()
        daemon.start()
        self.assertIn("adopted", daemon.log())
        self.assertIn("process %d, which is no pyheapd, has a lock" % os.getpid(), daemon.log())
        self.assertEqual(daemon.run("--socket", daemon.folder + "/other")[0], 3)  # the name is taken

    def test_remove(self):
        daemon = self.make()
        daemon.start()
        self.assertEqual(daemon.run("--remove")[0], 3)
        daemon.end(signal.SIGKILL)
        self.assertEqual(daemon.run("--remove")[0], 0)
        self.assertFalse(any(map(os.path.exists, daemon.files)))

    # ---- older daemons ----

    def locker(self, daemon, name, uid=None):
        """A process of a program of that name, which has locked the control segment and sleeps."""
        program = os.path.join(daemon.folder, name)
        shutil.copy(shutil.which("sleep"), program)
        fd = os.open(daemon.files[0], os.O_RDWR)

        def lock():
            daemon_box.die_with_parent()
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if uid is not None:
                os.setresuid(uid, uid, uid)
                daemon_box.die_with_parent()  # which the change of user has undone

        run = subprocess.Popen([program, "100000"], pass_fds=[fd], preexec_fn=lock)
        os.close(fd)
        self.addCleanup(lambda: (run.kill(), run.wait()))
        return run

    def test_older_daemon(self):
        daemon = Daemon(self, "--size", "8M").start()
        daemon.session()
        daemon.end(signal.SIGKILL)
        os.unlink(daemon.truth)  # which it does not have
        older = self.locker(daemon, "pyheapd")
        for args in ((), ("--remove",)):
            status, said = daemon.run(*args)
            self.assertEqual(status, 3, said)
            self.assertIn("a pyheapd of an older build, process %d, serves the heap" % older.pid, said)
        self.assertTrue(all(map(os.path.exists, daemon.files)))
        self.assertFalse(os.path.exists(daemon.truth))
        os.unlink(os.path.join(daemon.folder, "pyheapd"))  # an upgrade has replaced it
        self.assertEqual(daemon.run()[0], 3)
        older.kill()
        older.wait()
        daemon.start()
        self.assertIn("adopted", daemon.log())

    def test_other_programs(self):
        daemon = Daemon(self, "--size", "8M").start()
        daemon.end(signal.SIGKILL)
        self.locker(daemon, "pyheapd-exporter")
        daemon.start()

    @unittest.skipUnless(daemon_box.can_be_nobody(daemon_box.PYHEAPD, "--version"), "needs root, to be another user")
    def test_another_user_that_calls_itself_so(self):
        daemon = Daemon(self, "--size", "8M")
        user = 65533
        os.chown(daemon.folder, user, user)

        def be_user():
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            daemon_box.die_with_parent()

        daemon.start(preexec_fn=be_user)
        daemon.end(signal.SIGKILL)
        self.locker(daemon, "pyheapd", uid=65534)
        daemon.start(preexec_fn=be_user)
        self.assertIn("adopted", daemon.log())

    def test_older_daemons_see_this_one(self):
        daemon = Daemon(self, "--size", "8M").start()
        for _ in range(2):
            fd = os.open(daemon.files[0], os.O_RDWR)
            with self.assertRaises(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(fd)
            done = wire.Wire(daemon.socket)
            daemon.wires.append(done)
            done.send(wire.reset_request(True))
            done.expect(wire.RESET_DONE)


if __name__ == "__main__":
    daemon_box.main()
