# SPDX-License-Identifier: MIT
"""One user takes all that it gets: how much that is, what it is told, and that others get in."""
import ast
import errno
import os
import resource
import struct
import unittest

import daemon_box
import wire
from daemon_box import Child, Daemon, until

NOBODY = 65534
MAX_TYPES = 168  # heap/shared/layout.h: struct session_entry
ARENAS_OFF, ARENA_SIZE, ARENA_STATE, POOLS = 192, 64, 0, 3  # struct control, struct arena_entry
OPTIONS = ("--size", "32M", "--group", str(NOBODY), "--log-level", "info")


@unittest.skipUnless(os.geteuid() == 0, "needs root, to be another user")
class Limits(unittest.TestCase):
    def start(self, *args, **more):
        self.daemon = Daemon(self, *OPTIONS, *args).start(**more)
        self.hash = wire.layout_hash_of(self.daemon.name)

    def wire(self):
        """A connection; what needs the heap's files in /dev/shm is done already, as nobody may not read them."""
        connection = wire.Wire(self.daemon.socket, self.hash)
        self.daemon.wires.append(connection)
        return connection

    def session(self):
        connection = self.wire()
        connection.say_hello()
        return connection

    def nobody(self, function):
        """A process of another user, which has what the function has made until it is killed."""
        def be_nobody():
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            return function()
        child = Child(self, be_nobody)
        child.value = ast.literal_eval(child.result)
        return child

    def expect_refused(self, connection, code):
        text = connection.expect_error(code)
        connection.expect_end()
        return text

    # ---- sessions ----

    def test_sessions(self):
        self.start("--max-sessions", "16", "--user-sessions", "3")

        def take_all():
            for _ in range(3):
                self.session()
            texts = []
            for _ in range(20):
                refused = self.wire()
                refused.send(wire.hello(self.hash))
                texts.append(self.expect_refused(refused, errno.EUSERS))
            return texts

        for _ in range(2):
            child = self.nobody(take_all)
            for text in child.value:
                self.assertIn("user 65534 has 3 sessions, and may have no more (--user-sessions)", text)
            witness = self.session()
            self.assertEqual(witness.n_sessions(), 4)
            child.kill()
            until(lambda w=witness: w.n_sessions() == 1, "its sessions are free")
            witness.send(wire.goodbye())
            witness.expect_end()
        self.assertEqual(self.warnings("--user-sessions"), 1)

    def warnings(self, text):
        return self.daemon.log().count(text)

    # ---- connections ----

    def test_connections(self):
        """Of a user that has too many, one without a session makes room, and no other user's does."""
        self.start("--user-connections", "5")
        silent = self.wire()  # root's own: it stays
        self.session()

        def connect():
            held = [self.session() for _ in range(2)]
            connections = [self.wire() for _ in range(6)]
            texts = [self.expect_refused(connections[i], errno.EUSERS) for i in range(3)]
            held[0].stats()
            return texts

        child = self.nobody(connect)
        for text in child.value:
            self.assertIn("user 65534 may have 5 connections (--user-connections)", text)
        self.assertEqual(self.warnings("--user-connections"), 1)
        silent.say_hello()
        self.assertEqual(silent.n_sessions(), 4)

    def test_all_with_sessions(self):
        """All that the user may have are sessions: the newest connection is the one that goes."""
        self.start("--user-connections", "2")

        def connect():
            for _ in range(2):
                self.session()
            return self.expect_refused(self.wire(), errno.EUSERS)

        self.assertIn("--user-connections", self.nobody(connect).value)

    def test_silent_connections_of_others_go_first(self):
        """Without a limit of its own a user fills all connections; what root has connected stays."""
        self.start("--max-sessions", "2", "--user-connections", "1000")
        mine = [self.wire() for _ in range(20)]  # more than any of the others has

        def connect():
            kept = []
            for _ in range(100):
                connection = until(self.try_wire, "the backlog has room")
                kept.append(connection)
            return len(kept)

        others = [self.nobody(connect) for _ in range(2)]
        for connection in mine[:2]:
            connection.say_hello()
        self.assertEqual(mine[0].n_sessions(), 2)
        for connection in mine[2:]:  # each is answered, and was not closed before
            connection.send(wire.hello(self.hash))
            self.assertIn("2 sessions", connection.expect_error(errno.EUSERS))
        self.assertEqual([other.value for other in others], [100, 100])

    def try_wire(self):
        try:
            return self.wire()
        except BlockingIOError:
            return None

    # ---- descriptors ----

    def test_descriptors_are_kept(self):
        def few_descriptors():
            daemon_box.die_with_parent()
            resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))

        self.start("--user-connections", "1000", preexec_fn=few_descriptors)

        def connect():
            last = ""
            while "descriptors" not in last:
                connection = self.wire()
                connection.send(wire.hello(self.hash))
                kind, body = connection.receive()
                last = body[2][0].decode() if kind == wire.ERROR else ""
            return last

        self.assertIn("out of file descriptors", self.nobody(connect).value)
        for _ in range(2):
            self.assertEqual(len(self.session().grant(1, 1)), 1)

    # ---- arenas in advance ----

    def ask(self, session, run_length, n_runs):
        """How many arenas were granted, or the text of the refusal."""
        session.send(wire.grant_request(run_length, n_runs))
        kind, body = session.receive()
        if kind == wire.GRANT:
            return run_length * len(list(wire.varints(body[1][0])))
        self.assertEqual((kind, body[1]), (wire.ERROR, [errno.EDQUOT]))
        return body[2][0].decode()

    def take(self, sessions, run_length, n_runs):
        """Ask until each of them was refused: the sum, and what was said."""
        total, texts = 0, []
        for session in sessions:
            while True:
                answer = self.ask(session, run_length, n_runs)
                if isinstance(answer, str):
                    texts.append(answer)
                    break
                total += answer
        return total, texts

    def test_arenas(self):
        self.start("--user-arenas", "24")

        def take_all():
            return self.take([self.session() for _ in range(3)], 1, 16)

        for is_restarted in (False, True, False):
            if is_restarted:
                self.daemon.end(9)
                self.daemon.start()
            child, root = self.nobody(take_all), Child(self, self.take_root)
            total, texts = child.value
            self.assertEqual(total, 24)
            self.assertIn("--user-arenas", texts[2])
            self.assertEqual(root.result, "100")
            child.kill()
            root.kill()
            until(lambda: self.daemon.heap_bytes() <= 1 << 18, "what they had is free")
        self.assertEqual(self.warnings("(--user-arenas 24)"), 2)  # one of each daemon

    def take_root(self):
        """A session of root's has no limit."""
        session, n = self.session(), 0
        while n < 100:
            n += len(session.grant(1, 100 - n))
        return n

    def test_arenas_in_long_runs(self):
        self.start("--user-arenas", "24")

        def take_all():
            sessions = [self.session() for _ in range(4)]
            too_long = self.ask(sessions[0], 25, 1)
            for session in sessions:  # all at once: what is being granted counts
                session.send(wire.grant_request(13, 1))
            kinds = [session.receive()[0] for session in sessions]
            return too_long, kinds.count(wire.GRANT), self.ask(sessions[0], 11, 1)

        too_long, n_granted, rest = self.nobody(take_all).value
        self.assertIn("--user-arenas", too_long)
        self.assertEqual((n_granted, rest), (1, 11))

    def test_arenas_in_use_do_not_count(self):
        """What a session takes into use is forgotten; here it only says so in the arena table."""
        self.start("--user-arenas", "4")

        def take_and_use():
            session = self.session()
            arenas, = struct.unpack("<Q", os.pread(session.fds[0], 8, ARENAS_OFF))
            total = 0
            while total < 40:
                for head in session.grant(1, 4):
                    os.pwrite(session.fds[0], struct.pack("<I", POOLS), arenas + head * ARENA_SIZE + ARENA_STATE)
                    total += 1
            return total

        self.assertGreaterEqual(self.nobody(take_and_use).value, 40)

    def test_default_of_arenas(self):
        self.start()  # 128 arenas

        def take_all():
            return self.take([self.session() for _ in range(8)], 1, 16)[0]

        self.assertEqual(self.nobody(take_all).value, 64)

    # ---- types ----

    def max_types(self, session):
        return struct.unpack("<I", os.pread(session.fds[0], 4, session.entry_off(MAX_TYPES)))[0]

    def test_types(self):
        """The library refuses what is beyond the number that the daemon wrote: tests/unit/heap/object/test_type.c."""
        self.start("--user-types", "7")
        self.assertEqual(self.nobody(lambda: self.max_types(self.session())).value, 7)
        self.assertEqual(self.max_types(self.session()), 0)

    def test_default_of_types(self):
        self.start()
        self.assertEqual(self.nobody(lambda: self.max_types(self.session())).value, 512)


if __name__ == "__main__":
    daemon_box.main()
