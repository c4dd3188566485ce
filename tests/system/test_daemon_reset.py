# SPDX-License-Identifier: MIT
"""A heap is emptied without a restart of its daemon, whatever became of it: pyheapctl reset."""
import ast
import errno
import fcntl
import os
import random
import signal
import struct
import subprocess
import unittest

import daemon_box
import wire
from daemon_box import Child, Daemon, until

PYHEAPCTL = os.environ.get("PYHEAPCTL", "pyheapctl")
NOBODY = 65534
OWNED_POOLS1 = 832  # heap/shared/layout.h: struct session_entry
ENDED, LOCK_WORD, LOCK_OWNER1 = 248, 196600, 196480  # heap/shared/layout.h: struct control


class Reset(unittest.TestCase):
    def start(self, *args):
        self.daemon = Daemon(self, "--size", "32M", *args).start()
        self.hash = wire.layout_hash_of(self.daemon.name)

    def ctl(self, *args, **more):
        return subprocess.run([PYHEAPCTL, "--socket", self.daemon.socket, *args], capture_output=True, text=True,
                              timeout=wire.WATCHDOG_S, preexec_fn=daemon_box.die_with_parent, **more)

    def ok(self, *args, **more):
        run = self.ctl(*args, **more)
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        return run.stdout

    def wire(self):
        connection = wire.Wire(self.daemon.socket, self.hash)
        self.daemon.wires.append(connection)
        return connection

    def ask(self, with_sessions):
        connection = self.wire()
        connection.send(wire.reset_request(with_sessions))
        return connection

    def is_fresh(self):
        """The heap is empty, and serves: a name is set and found, and memory is granted."""
        self.assertEqual(self.ok("ls").splitlines()[1:], [])
        self.ok("put", "fresh", input="content")
        self.assertEqual(self.ok("get", "fresh"), "content")
        self.assertIn("no faults", self.ok("check"))
        self.assertEqual(len(self.daemon.session().grant(2, 1)), 1)

    # ---- the sessions that are there ----

    def test_without_sessions(self):
        self.start()
        self.ok("put", "x", input="content")
        self.assertEqual(self.ok("reset"), "the heap is empty (0 sessions were ended)\n")
        self.is_fresh()
        self.daemon.wait_log("process")
        self.assertIn("is empty: 0 sessions were ended", self.daemon.log())

    def test_with_sessions(self):
        self.start()
        sessions = [self.daemon.session() for _ in range(2)]
        before = sessions[0].welcome[7]
        for _ in range(2):
            run = self.ctl("reset")
            self.assertEqual(run.returncode, 1)
            self.assertIn("2 sessions use the heap", run.stderr)
            self.assertIn("--yes", run.stderr)
            self.assertEqual(sessions[0].n_sessions(), 2)  # nothing was changed
        self.assertEqual(self.daemon.session().welcome[7], before)
        self.assertEqual(self.ok("reset", "--yes"), "the heap is empty (3 sessions were ended)\n")
        for session in sessions:
            session.expect(wire.GOODBYE_FROM_DAEMON)
            session.expect_end()
            self.assertNotEqual(os.pread(session.fds[0], 8, ENDED), bytes(8))
            again = self.daemon.wire()
            again.send(wire.hello(self.hash, resume=(session.session, session.token)))
            self.assertIn("gone", again.expect_error(errno.ESTALE))
        self.is_fresh()
        new = self.daemon.session()
        self.assertNotEqual(new.welcome[7], before)

    def test_a_program_of_the_library(self):
        """It is told that the heap has ended, and opens another session if it likes."""
        self.start()
        put = subprocess.Popen([PYHEAPCTL, "--socket", self.daemon.socket, "put", "x"], stdin=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, preexec_fn=daemon_box.die_with_parent)
        self.addCleanup(lambda: (put.kill(), put.wait()))
        until(lambda: "1 sessions" in self.ctl("reset").stderr, "it has a session")
        self.ok("reset", "--yes")
        said = put.communicate("content")[1]
        self.assertEqual(put.returncode, 1)
        self.assertIn("the heap has ended", said)
        self.is_fresh()

    def test_connections_without_a_session_stay(self):
        self.start()
        silent = self.wire()
        self.daemon.session()
        self.ok("reset", "--yes")
        silent.say_hello()
        self.assertEqual(silent.n_sessions(), 1)

    def test_all_sessions_are_taken(self):
        self.start("--max-sessions", "2")
        for _ in range(2):
            self.daemon.session()
        waiting = self.wire()
        waiting.send(wire.hello(self.hash))
        waiting.expect_error(errno.EUSERS)
        self.ok("reset", "--yes")
        self.is_fresh()

    def test_twice_at_once(self):
        self.start()
        self.daemon.session()
        several = [self.ask(True) for _ in range(3)]
        for connection in several:
            connection.expect(wire.RESET_DONE)
            connection.expect_end()
        self.is_fresh()

    def test_gone_meanwhile(self):
        self.start()
        self.daemon.session()
        for _ in range(20):
            self.ask(True).close()
        self.is_fresh()

    def test_not_behind_hello(self):
        self.start()
        session = self.daemon.session()
        session.send(wire.reset_request(True))
        session.expect_error(errno.EBADMSG)

    @unittest.skipUnless(os.geteuid() == 0, "needs root, to be another user")
    def test_another_user(self):
        self.start("--group", str(NOBODY))
        witness = self.daemon.session()

        def ask():
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            return [self.ask(with_sessions).expect_error(errno.EACCES) for with_sessions in (False, True)]

        for text in ast.literal_eval(Child(self, ask).result):
            self.assertIn("user 65534 may not empty the heap", text)
        self.assertEqual(witness.n_sessions(), 1)

    # ---- what may have become of the heap ----

    def test_cut_short(self):
        for half, size in ((0, 0), (0, 4096), (1, 0), (1, 4096)):
            self.start()
            client = self.daemon.session()
            client.grant(3, 1)
            os.ftruncate(client.fds[half], size)
            self.ok("reset", "--yes")
            self.is_fresh()

    def test_cut_short_and_seen(self):
        """The daemon has had its SIGBUS, and refuses new sessions."""
        self.start()
        client = self.daemon.session()
        client.grant(3, 1)
        for half in (1, 0):
            os.ftruncate(client.fds[half], 0)
        client.send(wire.stats_request())
        self.assertIn(client.receive()[0], (wire.STATS, wire.ERROR))
        refused = self.wire()
        refused.send(wire.hello(self.hash))
        self.assertIn("pyheapctl reset", refused.expect_error(errno.EUCLEAN))
        self.daemon.wait_log("pyheapctl reset empties the heap")
        self.assertIn("pyheapctl reset", self.ctl("ls").stderr)
        self.ok("reset", "--yes")
        self.is_fresh()
        again = self.daemon.session()  # the next heap is guarded, too
        os.ftruncate(again.fds[0], 0)
        again.send(wire.stats_request())
        self.assertIn(again.receive()[0], (wire.STATS, wire.ERROR))
        self.ok("reset", "--yes")
        self.is_fresh()

    def test_forged_lock(self):
        self.start("--lock-timeout", "0")
        client = self.daemon.session()
        for word in (os.getpid(), (1 << 22) - 1, 0xffffffff, 1 << 30):
            os.pwrite(client.fds[0], struct.pack("<I", word), LOCK_WORD)
            os.pwrite(client.fds[0], struct.pack("<I", client.session + 1), LOCK_OWNER1)
            self.ok("reset", "--yes")
            self.is_fresh()
            client = self.daemon.session()

    def test_who_waits_for_a_forged_lock(self):
        """The heap has ended: nobody waits in it for a thread that does not have the lock."""
        self.start("--lock-timeout", "0")
        client = self.daemon.session()
        for word in (os.getpid(), (1 << 22) - 1):
            os.pwrite(client.fds[0], struct.pack("<I", word), LOCK_WORD)
            put = subprocess.Popen([PYHEAPCTL, "--socket", self.daemon.socket, "put", "x", "/dev/null"],
                                   stderr=subprocess.DEVNULL, preexec_fn=daemon_box.die_with_parent)
            self.addCleanup(lambda p=put: (p.kill(), p.wait()))
            until(lambda: client.n_sessions() == 2 or put.poll() is not None, "it has a session, and waits")
            self.ok("reset", "--yes")
            put.wait(wire.WATCHDOG_S)
            self.is_fresh()
            client = self.daemon.session()

    def test_scribbled_over(self):
        self.start()
        numbers = random.Random(1)
        for _ in range(5):
            client = self.daemon.session()
            client.grant(3, 1)
            for _ in range(20):
                size = os.fstat(client.fds[0]).st_size
                os.pwrite(client.fds[0], numbers.randbytes(65536), numbers.randrange(0, max(size - 65536, 1), 8))
            self.ok("reset", "--yes")
            self.is_fresh()

    def test_locked(self):
        self.start()
        client = self.daemon.session()
        fcntl.flock(client.fds[1], fcntl.LOCK_EX)
        self.assertRaises(BlockingIOError, fcntl.flock, client.fds[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.ok("reset", "--yes")
        self.is_fresh()

    def damage(self):
        """A session says that it owns a pool that there is not."""
        session = self.daemon.session()
        os.pwrite(session.fds[0], struct.pack("<I", 0x7fffffff), session.entry_off(OWNED_POOLS1))
        return session.session

    def test_what_the_log_says_of_damage(self):
        """What is damaged, whose session wrote there last, and what to do; and that is true."""
        self.start()
        for command in (("check", "--repair"), ("reset", "--yes")):
            victim = Child(self, self.damage)
            session, pid = int(victim.result), victim.pid
            victim.kill()
            self.daemon.wait_log("session %d (pid %d, user %d, wire.py) wrote there last" % (session, pid, os.geteuid()))
            self.assertIn("the heap is damaged: a session that has ended cannot be reclaimed", self.daemon.log())
            self.assertIn("pyheapctl check --repair mends it, or pyheapctl reset empties the heap", self.daemon.log())
            self.ctl(*command)
            until(lambda: '"dead": true' not in self.ok("clients", "--json"), "nothing of it is left")

    # ---- what is left ----

    def left(self):
        with open("/proc/%d/maps" % self.daemon.pid, encoding="utf-8") as f:
            maps = [line.split()[5:] for line in f]
        shm = sorted(name for name in os.listdir("/dev/shm") if self.daemon.name in name)
        return self.daemon.n_fds(), sum(any("/dev/shm" in word for word in path) for path in maps), shm, \
            sum("deleted" in word for path in maps for word in path)

    def test_nothing_is_left(self):
        self.start()
        before = self.left()
        for i in range(50):
            client = self.daemon.session()
            client.grant(1, 1)
            if i % 3 == 0:
                os.ftruncate(client.fds[0], 0)
            if i % 3 == 1:
                os.pwrite(client.fds[0], struct.pack("<I", 1 << 20), LOCK_WORD)
            self.ask(True).expect(wire.RESET_DONE)
            client.close()
            until(lambda: self.left() == before, "all of it is gone: %r, was %r" % (self.left(), before))
        self.assertEqual(len(before[2]), 3)
        self.assertEqual(before[3], 0)
        self.is_fresh()

    def test_name_and_heap_stay(self):
        """No other daemon can have the name, and the next one adopts the fresh heap."""
        self.start("--keep")
        self.ok("reset")
        self.assertEqual(self.daemon.run("--socket", self.daemon.folder + "/other")[0], 3)
        self.ok("put", "x", input="content")
        self.daemon.end(signal.SIGKILL)
        self.daemon.start()
        self.assertIn("adopted", self.daemon.log())
        self.assertEqual(self.ok("get", "x"), "content")

    def test_killed_in_it(self):
        self.start()
        for i in range(30):
            self.daemon.session()
            self.ask(True)
            for _ in range(i * 200):
                pass  # so that it is hit at different moments
            self.daemon.end(signal.SIGKILL)
            self.daemon.start()
            self.ok("reset", "--yes")
        self.is_fresh()

    def test_files_of_another(self):
        """Somebody has removed the daemon's own file: another daemon may have the name by now."""
        self.start()
        witness = self.daemon.session()
        os.unlink(self.daemon.truth)
        run = self.ctl("reset", "--yes")
        self.assertEqual(run.returncode, 1)
        self.assertIn("was not emptied", run.stderr)
        self.assertEqual(witness.n_sessions(), 1)


if __name__ == "__main__":
    daemon_box.main()
