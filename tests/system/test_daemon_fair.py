# SPDX-License-Identifier: MIT
"""
One session's flood of requests, and what others get meanwhile.

No time is measured. The daemon is stopped while the requests are sent, so that all of them lie in its sockets; what the
flood's answers say shows how many of them were made before the other's request was.
"""
import errno
import os
import signal
import unittest

import daemon_box
import wire
from daemon_box import Daemon

N_FLOODERS = 20
N_REQUESTS = 400  # of each
N_BEFORE = 40     # answers to each that may come before another one's
N_SESSIONS = 20   # field of Stats


class Fair(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon(self, "--size", "32M").start()
        self.flooders = [self.daemon.session() for _ in range(N_FLOODERS)]

    def flood(self, request, other):
        """Each flooder sends its requests, other() sends something, and then the daemon goes on."""
        os.kill(self.daemon.pid, signal.SIGSTOP)
        try:
            for flooder in self.flooders:
                flooder.send(N_REQUESTS * request)
            other()
        finally:
            os.kill(self.daemon.pid, signal.SIGCONT)

    def n_answers_before(self, n_sessions):
        """Of each flooder, how many answers did not see that many sessions."""
        answers = [[flooder.expect(wire.STATS)[N_SESSIONS][0] for _ in range(N_REQUESTS)] for flooder in self.flooders]
        return max(sum(n != n_sessions for n in a) for a in answers)

    def test_hello(self):
        new = self.daemon.wire()
        self.flood(wire.stats_request(), lambda: new.send(wire.hello(new.layout_hash)))
        self.assertLess(self.n_answers_before(N_FLOODERS + 1), N_BEFORE)
        new.expect_welcome()

    def test_grant(self):
        """Goodbye is understood once the grant is answered."""
        other = self.daemon.session()
        self.flood(wire.stats_request(), lambda: other.send(wire.grant_request(1, 1) + wire.goodbye()))
        other.expect(wire.GRANT)
        other.expect_end()
        self.assertLess(self.n_answers_before(N_FLOODERS), N_BEFORE)

    def test_refusals(self):
        """What is refused at once costs its sender a turn, too."""
        other = self.daemon.session()
        n = 10 * N_BEFORE
        first = self.flooders[0]
        os.kill(self.daemon.pid, signal.SIGSTOP)
        try:
            first.send(n * wire.grant_request(1000000, 1) + wire.stats_request())
            other.send(wire.goodbye())
        finally:
            os.kill(self.daemon.pid, signal.SIGCONT)
        for _ in range(n):
            first.expect_error(errno.ENOMEM)
        self.assertEqual(first.expect(wire.STATS)[N_SESSIONS], [N_FLOODERS])
        other.expect_end()

    def test_requests_are_answered_in_order(self):
        first = self.flooders[0]
        first.send(wire.stats_request() + wire.grant_request(64, 1) + wire.grant_request(1, 1) + wire.stats_request() +
                   wire.grant_request(1000000, 1) + wire.stats_request() + wire.goodbye())
        for kind in (wire.STATS, wire.GRANT, wire.GRANT, wire.STATS, wire.ERROR, wire.STATS):
            first.expect(kind)
        first.expect_end()


if __name__ == "__main__":
    daemon_box.main()
