# SPDX-License-Identifier: MIT
"""What memory each session has, as the daemon says."""
import signal
import struct
import unittest

import daemon_box
import wire
from daemon_box import Child, Daemon, until

ARENAS_OFF, ARENA_SIZE = 192, 64  # heap/shared/layout.h: struct control, struct arena_entry


class Usage(unittest.TestCase):
    def start(self, *args):
        self.daemon = Daemon(self, "--size", "32M", *args).start()

    def test_arenas(self):
        self.start()
        a, b = self.daemon.session(), self.daemon.session()
        n = len(a.grant(1, 3))
        b.grant(7, 1)
        self.assertEqual(a.usage(), {a.session: (n, 0), b.session: (7, 0)})
        b.send(wire.goodbye())
        b.expect_end()
        until(lambda: a.usage() == {a.session: (n, 0)}, "what the other had is gone")

    def test_after_a_restart(self):
        self.start()
        witness = Child(self, lambda: self.daemon.session().session)
        holder = Child(self, lambda: (lambda s: (s.session, s.grant(5, 1)))(self.daemon.session()))
        self.daemon.end(signal.SIGKILL)
        self.daemon.start()
        usage = self.daemon.session().usage()
        self.assertEqual([usage[int(witness.result)][0], sorted(n for n, _ in usage.values())], [0, [0, 0, 5]])
        holder.kill()
        until(lambda: not any(n for n, _ in self.newcomer_usage().values()), "it has ended")

    def newcomer_usage(self):
        newcomer = self.daemon.session()
        usage = newcomer.usage()
        newcomer.send(wire.goodbye())
        newcomer.expect_end()
        return usage

    def test_what_clients_write_is_not_believed(self):
        self.start()
        a, b = self.daemon.session(), self.daemon.session()
        head, = a.grant(6, 1)
        with open(self.daemon.files[0], "r+b", buffering=0) as f:
            f.seek(ARENAS_OFF)
            arenas, = struct.unpack("<Q", f.read(8))
            for i in range(head, head + 6):
                f.seek(arenas + i * ARENA_SIZE + 4)
                f.write(struct.pack("<II", b.session + 1, 100))
        self.assertEqual(a.usage(), {a.session: (6, 0), b.session: (0, 0)})

    def test_more_than_a_message_has_room_for(self):
        self.start("--max-sessions", "600", "--kept-sessions", "0")
        sessions = [self.daemon.session() for _ in range(530)]
        n = len(sessions[529].grant(1, 1))
        usage = sessions[0].usage()
        self.assertEqual(sorted(usage), list(range(530)))
        self.assertEqual(usage[sessions[529].session], (n, 0))

    def test_beyond_the_table(self):
        self.start()
        a = self.daemon.session()
        for first in (1, 511, 512, 2 ** 32 - 1):
            a.send(wire.usage_request(first))
            self.assertEqual(a.expect(wire.USAGE), {})


if __name__ == "__main__":
    daemon_box.main()
