# SPDX-License-Identifier: MIT
"""
What clients write into the control segment, the daemon does not decide on.

Each test is a client that writes what the daemon alone should: into the session table, the arena table, the lock, the
header. The daemon, and the one that follows it, go on by what they know themselves (/dev/shm/pyheap.NAME.daemon).
"""
import errno
import os
import signal
import stat
import struct
import time
import unittest

import daemon_box
import wire
from daemon_box import Child, Daemon, until

ARENA = 256 << 10

# heap/shared/layout.h: struct control
MAGIC, HEAP_SIZE, N_SESSIONS, HEAP_ID, ARENAS_OFF, POOLS_OFF, ENDED, KNOWN, MAPPED = 0, 32, 52, 64, 192, 208, 248, 256, 260
LOCK_WORD, LOCK_OWNER1 = 196600, 196480
# struct session_entry, struct arena_entry
PID, START_TIME, TOKEN, PROGRAM = 4, 8, 24, 40
ARENA_SIZE, ARENA_STATE, ARENA_SESSION1, ARENA_N = 64, 0, 4, 8
HOLE, MAPPING, POOLS, RUN, RETURNING, BODY = 0, 1, 3, 4, 6, 7
FOREIGN = 1 << 29  # heap/change/foreign_lock.h


class Truth(unittest.TestCase):
    def start(self, *args):
        self.daemon = Daemon(self, "--size", "32M", "--keep", *args).start()

    def kill(self):
        self.daemon.end(signal.SIGKILL)

    def write(self, offset, data):
        with open(self.daemon.files[0], "r+b", buffering=0) as f:
            f.seek(offset)
            f.write(data)

    def read(self, offset, form):
        with open(self.daemon.files[0], "rb", buffering=0) as f:
            f.seek(offset)
            return struct.unpack(form, f.read(struct.calcsize(form)))[0]

    def entry(self, session, member):
        return self.read(wire.SESSIONS_OFF, "<Q") + session * wire.SESSION_SIZE + member

    def arena(self, i, member):
        return self.read(ARENAS_OFF, "<Q") + i * ARENA_SIZE + member

    def serves(self, n_sessions=None):
        """A newcomer is served: it gets figures, and memory. Returns its session, which is closed again."""
        newcomer = self.daemon.session()
        figures = newcomer.stats()
        if n_sessions is not None:
            self.assertEqual(figures.get(20, [0])[0], n_sessions + 1)
        heads = newcomer.grant(1, 1)
        self.assertEqual(len(heads), 1)
        newcomer.send(wire.goodbye())
        newcomer.expect_end()
        return newcomer.session

    # ---- the file ----

    def test_file(self):
        self.start()
        path = self.daemon.truth
        st = os.stat(path)
        self.assertTrue(stat.S_ISREG(st.st_mode))
        self.assertEqual(stat.S_IMODE(st.st_mode), 0o600)
        session = self.daemon.session()
        self.assertEqual(len(session.fds), 2)
        for fd in session.fds:
            self.assertNotEqual(os.fstat(fd).st_ino, st.st_ino)
        self.daemon.end()  # --keep
        self.assertTrue(os.path.exists(path))
        self.assertEqual(self.daemon.run("--remove")[0], 0)
        self.assertFalse(os.path.exists(path))

    def test_file_goes_with_the_heap(self):
        self.daemon = Daemon(self, "--size", "32M").start()
        path = self.daemon.truth
        self.assertTrue(os.path.exists(path))
        self.daemon.end()
        self.assertFalse(os.path.exists(path))

    def test_older_heap(self):
        """A daemon that kept no such file has left its heap: it is adopted, and the log says by what."""
        self.start()
        session = self.daemon.session()
        self.kill()
        os.unlink(self.daemon.truth)
        self.write(self.entry(session.session, TOKEN), session.token)
        self.daemon.start()
        self.daemon.wait_log("what the heap says of itself is believed this once")
        back = self.daemon.wire()
        self.assertEqual(back.say_hello(resume=(session.session, session.token)), session.session)
        self.assertEqual(self.read(self.entry(session.session, TOKEN), "16s"), bytes(16))
        self.kill()
        self.daemon.start()
        again = self.daemon.wire()
        self.assertEqual(again.say_hello(resume=(session.session, session.token)), session.session)
        self.assertEqual(self.daemon.log().count("is believed this once"), 1)

    # ---- the session table ----

    def victim(self):
        """A process that has nothing to do with the heap."""
        return Child(self, lambda: 0)

    def test_pid_of_another(self):
        """The daemon crashed; another process' pid stands in a session that has the lock, as it seems."""
        self.start("--lock-timeout", "1")
        session = self.daemon.session()
        victim = self.victim()
        self.kill()
        self.write(self.entry(session.session, PID), struct.pack("<iQ", victim.pid, 0))
        self.write(LOCK_OWNER1, struct.pack("<I", session.session + 1))
        self.write(LOCK_WORD, struct.pack("<I", victim.pid))
        self.daemon.start()
        self.daemon.wait_log("which does not have it: it is broken")
        self.assertEqual(os.waitpid(victim.pid, os.WNOHANG), (0, 0), "it was killed: " + self.daemon.log())
        self.assertNotIn("evicted", self.daemon.log())
        self.serves(1)

    def test_pid_of_another_is_not_watched(self):
        self.start()
        session = self.daemon.session()
        victim = self.victim()
        self.kill()
        self.write(self.entry(session.session, PID), struct.pack("<iQ", victim.pid, 0))
        self.daemon.start()
        victim.kill()
        time.sleep(0.2)  # that something does not happen can be seen for a while only
        self.serves(1)
        back = self.daemon.wire()
        self.assertEqual(back.say_hello(resume=(session.session, session.token)), session.session)

    def test_unknown_state(self):
        """In a session that nobody has: also the daemon after the next adopts the heap."""
        self.start()
        session = self.daemon.session()
        self.write(self.entry(session.session + 3, wire.SESSION_STATE), struct.pack("<I", 7))
        for _ in range(2):
            self.kill()
            self.daemon.start()
            self.serves(1)

    def test_free_while_busy(self):
        """Its own entry says FREE: its slot is nobody else's, and its end is seen."""
        self.start("--max-sessions", "4")
        for _ in range(8):
            child = Child(self, lambda: self.daemon.session().session)
            number = int(child.result)
            self.write(self.entry(number, wire.SESSION_STATE), struct.pack("<I", wire.FREE))
            self.assertNotEqual(self.serves(), number)
            child.kill()
            until(lambda: self.n_used() == 0, "its end is seen")
        sessions = [self.daemon.session() for _ in range(4)]
        self.assertEqual(sorted(s.session for s in sessions), [0, 1, 2, 3])

    def n_used(self):
        """Sessions in use but for the one that asks."""
        asks = self.daemon.session()
        n = asks.n_sessions() - 1
        asks.send(wire.goodbye())
        asks.expect_end()
        return n

    def test_token_of_another(self):
        """A reader of the table finds no token; a client that has one and writes its own pid there is not believed."""
        self.start()
        owner = Child(self, lambda: (lambda s: (s.session, s.token))(self.daemon.session()))
        session, token = eval(owner.result)
        self.assertEqual(self.read(self.entry(session, TOKEN), "16s"), bytes(16), "a token for everybody to read")
        mine = self.daemon.session()
        pid, start = self.read(self.entry(mine.session, PID), "<i"), self.read(self.entry(mine.session, START_TIME), "<Q")
        self.assertEqual(pid, os.getpid())
        self.write(self.entry(session, PID), struct.pack("<iQ", pid, start))
        self.write(self.entry(session, TOKEN), bytes(range(16)))
        for shown in (token, bytes(range(16)), bytes(16)):
            thief = self.daemon.wire()
            thief.send(wire.hello(thief.layout_hash, resume=(session, shown)))
            self.assertIn("not this process's", thief.expect_error(errno.ESTALE))
        self.kill()
        self.daemon.start()
        thief = self.daemon.wire()
        thief.send(wire.hello(thief.layout_hash, resume=(session, token)))
        self.assertIn("not this process's", thief.expect_error(errno.ESTALE))

    # ---- the lock ----

    def forged_owner(self, word_of, log):
        self.start("--lock-timeout", "1")
        victim = Child(self, lambda: self.daemon.session().session)
        self.forge_owner(victim, word_of(int(victim.result)), log)

    def forge_owner(self, victim, word, log):
        witness = self.daemon.session()
        self.write(LOCK_OWNER1, struct.pack("<I", int(victim.result) + 1))
        self.write(LOCK_WORD, struct.pack("<I", word))
        self.daemon.wait_log(log)
        self.assertEqual(os.waitpid(victim.pid, os.WNOHANG), (0, 0), "it was killed: " + self.daemon.log())
        self.assertNotIn("is evicted", self.daemon.log())
        self.assertEqual(self.daemon.log().count(log), 1)
        if "broken" in log:
            until(lambda: self.read(LOCK_WORD, "<I") == 0, "the lock is free")
        else:
            self.write(LOCK_WORD, bytes(4))
        self.assertEqual(witness.n_sessions(), 2)

    def test_forged_owner(self):
        """The word has the number of no thread, and owner1 names another session."""
        self.forged_owner(lambda session: (1 << 22) - 1, "which does not exist: it is broken")

    def test_forged_owner_of_a_stranger(self):
        """The word has a thread that is not the session's."""
        stranger = self.victim()
        self.forged_owner(lambda session: stranger.pid, "which does not have it: it is broken")

    def test_forged_owner_with_its_thread(self):
        """The word has the victim's own thread, which does not have the lock by its robust list."""
        self.start("--lock-timeout", "1")
        victim = Child(self, lambda: self.daemon.session().session)
        self.forge_owner(victim, victim.pid, "which does not have it: it is broken")

    def test_forged_foreign_owner(self):
        """The word says that the session is of another pid namespace."""
        self.forged_owner(lambda session: FOREIGN | session + 1, "cannot be evicted")

    # ---- arenas ----

    def test_states_of_holes(self):
        """Arenas that were never mapped, or are no more, are said to be in use: nothing is read there."""
        self.start()
        session = self.daemon.session()
        head, = session.grant(8, 1)
        session.send(wire.goodbye())
        session.expect_end()
        until(lambda: self.daemon.heap_bytes() == 0, "the arenas go back")
        witness = self.daemon.session()
        for state in (POOLS, RUN, RETURNING, BODY, 9):
            for i in range(head, head + 8):
                self.write(self.arena(i, ARENA_STATE), struct.pack("<III", state, 1, 1 << 20))
            witness.stats()
            self.serves()
        self.kill()
        self.daemon.start()
        self.serves(1)
        self.assertEqual(self.read(self.arena(head + 7, ARENA_STATE), "<I"), HOLE)

    def test_lengths(self):
        """Granted runs are said to be longer than they are, and than the heap: they go back as they were granted."""
        self.start()
        session, other = self.daemon.session(), self.daemon.session()
        head, = session.grant(2, 1)
        other_head, = other.grant(2, 1)
        self.write(self.arena(head, ARENA_N), struct.pack("<I", 1 << 24))
        self.write(self.arena(head, ARENA_SESSION1), struct.pack("<I", other.session + 1))
        session.send(wire.goodbye())
        session.expect_end()
        until(lambda: self.daemon.heap_bytes() == 2 * ARENA, "the run goes back, and no other")
        self.write(self.arena(other_head, ARENA_N), struct.pack("<I", 0xffffffff))
        self.kill()
        self.daemon.start()
        back = self.daemon.wire()
        back.say_hello(resume=(other.session, other.token))
        until(lambda: self.daemon.heap_bytes() == 0, "what was granted is taken back")
        self.serves(1)

    def test_offsets(self):
        """The control segment's size and its memory do not follow an offset that stands in it."""
        self.start()
        session = self.daemon.session()
        size = os.stat(self.daemon.files[0]).st_size
        self.write(POOLS_OFF, struct.pack("<Q", 1 << 39))
        self.write(ARENAS_OFF, struct.pack("<Q", 1 << 38))
        self.assertEqual(len(session.grant(1, 1)), 1)
        self.assertEqual(len(session.grant(3, 1)), 1)
        self.assertEqual(os.stat(self.daemon.files[0]).st_size, size)

    def test_counts(self):
        """More arenas are known, and mapped, than there are."""
        self.start()
        session = self.daemon.session()
        session.grant(1, 1)
        self.write(KNOWN, struct.pack("<II", 0xffffffff, 0xffffffff))
        session.stats()
        self.serves()
        self.kill()
        self.daemon.start()
        self.serves(1)
        self.assertLessEqual(self.read(KNOWN, "<I"), 128)

    # ---- the header ----

    def test_header(self):
        """Whatever the control segment says of itself, the next daemon adopts the heap that there was."""
        self.start()
        session = self.daemon.session()
        heap_id = session.welcome[7]
        for offset, data in ((MAGIC, bytes(8)), (MAGIC, b"\x7fELF\x02\x01\x01\x00"), (8, struct.pack("<I", 99)),
                             (16, bytes(8)), (HEAP_SIZE, struct.pack("<QI", 1 << 62, 4096)),
                             (N_SESSIONS, struct.pack("<I", 1)), (HEAP_ID, bytes(16)), (ENDED, b"\xff" * 8),
                             (0, b"\xa5" * 304)):
            self.write(offset, data)
            self.kill()
            self.daemon.start()
            back = self.daemon.wire()
            back.layout_hash = session.layout_hash
            self.assertEqual(back.say_hello(resume=(session.session, session.token)), session.session)
            self.assertEqual(back.welcome[7], heap_id)
            self.serves(1)

    def test_heap_id(self):
        """Who is welcomed learns the heap's own name, and not what somebody has written there."""
        self.start()
        heap_id = self.daemon.session().welcome[7]
        self.write(HEAP_ID, bytes(16))
        self.assertEqual(self.daemon.session().welcome[7], heap_id)


if __name__ == "__main__":
    daemon_box.main()
