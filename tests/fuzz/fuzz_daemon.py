# SPDX-License-Identifier: MIT
"""
Rubbish for a real daemon: processes that connect, say anything in any pieces, send descriptors, and vanish.

What has to hold: a session that was there before all of them is served all the time, and afterwards the daemon has no
descriptor, no session and no byte of memory more than before. PYHEAP_SEED repeats a run, PYHEAP_ROUNDS (processes) makes
it longer.
"""
import array
import os
import random
import signal
import socket
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))

import daemon_box
import wire
from daemon_box import Daemon, until

SEED = int(os.environ.get("PYHEAP_SEED", "20240229"))
ROUNDS = int(os.environ.get("PYHEAP_ROUNDS", "200"))
CONNECTIONS = 25  # of each process
AT_ONCE = 4       # processes


def good_frame(rng, layout_hash):
    """Frames as they should be, but for their order and their arguments."""
    kind = rng.randrange(8)
    if kind < 3:
        resume = (rng.randrange(70), rng.randbytes(rng.choice((0, 15, 16, 17)))) if rng.randrange(4) == 0 else None
        return wire.hello(rng.choice((layout_hash, layout_hash, layout_hash, 0)), rng.choice((1, 1, 1, 2)),
                          rng.choice(("", "x", 300 * "y", "\n\0\x7f")), resume)
    if kind < 5:
        return wire.grant_request(rng.choice((0, 1, 1, 2, 30, 129, 2 ** 32 - 1)), rng.choice((0, 1, 16, 2 ** 32 - 1)))
    if kind < 7:
        return wire.stats_request() * rng.choice((1, 1, 1, 40))
    return wire.goodbye()


def damaged(rng, data):
    data = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data) + 1)
        how = rng.randrange(4)
        if how == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            del data[at:at + rng.randrange(1, 4)]
        elif how == 2:
            data[at:at] = rng.randbytes(rng.randrange(1, 4))
        elif data:
            data[rng.randrange(min(4, len(data)))] = rng.randrange(256)
    return bytes(data)


def something(rng, layout_hash):
    out = b""
    for _ in range(rng.randrange(1, 6)):
        how = rng.randrange(10)
        data = good_frame(rng, layout_hash)
        if how == 0:
            data = wire.frame(rng.randbytes(rng.randrange(0, 200)))
        elif how == 1:
            data = rng.randbytes(rng.randrange(0, 200))
        elif how < 5:
            data = damaged(rng, data)
        out += data
    return out


def talk(rng, path, layout_hash):
    """One connection, from beginning to whatever end."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(wire.WATCHDOG_S)
        s.connect(path)
        if rng.randrange(4):
            s.sendall(wire.hello(layout_hash))  # most get in
        data = something(rng, layout_hash)
        while data:
            n = rng.choice((1, 2, 3, 4, 5, 17, len(data)))
            if rng.randrange(8) == 0:
                fds = array.array("i", [s.fileno()] * rng.randrange(1, 5))
                s.sendmsg([data[:n]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
            else:
                s.sendall(data[:n])
            data = data[n:]
        how = rng.randrange(4)
        if how == 0:
            s.shutdown(socket.SHUT_WR)
        if how < 2:
            s.settimeout(0.01)
            try:
                while s.recv(4096):
                    pass
            except TimeoutError:
                pass


def be_a_client(seed, path, layout_hash):
    """In a child: many connections, and at last its death."""
    rng = random.Random(seed)
    for _ in range(CONNECTIONS):
        try:
            talk(rng, path, layout_hash)
        except OSError:
            pass  # it was disconnected, as it should be
    os.kill(os.getpid(), rng.choice((signal.SIGKILL, signal.SIGTERM)))


class Rubbish(unittest.TestCase):
    def test_rubbish(self):
        print("rubbish: PYHEAP_SEED=%d PYHEAP_ROUNDS=%d" % (SEED, ROUNDS), file=sys.stderr, flush=True)
        daemon = Daemon(self, "--size", "32M", "--max-sessions", "64").start()
        witness = daemon.session()
        self.assertEqual(witness.n_sessions(), 1)
        n_fds = daemon.n_fds()
        running = {}
        for i in range(ROUNDS):
            pid = os.fork()
            if pid == 0:
                daemon_box.die_with_parent()
                os.close(witness.socket.fileno())
                try:
                    be_a_client(SEED + i, daemon.socket, witness.layout_hash)
                finally:
                    os._exit(1)
            running[pid] = i
            while len(running) >= (AT_ONCE if i + 1 < ROUNDS else 1):
                witness.stats()
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid:
                    self.assertTrue(os.WIFSIGNALED(status), "process %d" % running.pop(pid))
                self.assertIsNone(daemon.process.poll(), daemon.log())
        until(lambda: witness.n_sessions() == 1, "no session is left")
        until(lambda: daemon.n_fds() == n_fds, "no descriptor is left")
        until(lambda: daemon.heap_bytes() == 0, "no memory is left")
        self.assertEqual(len(witness.grant(128, 1)), 1)
        self.assertEqual(daemon.end(), 0)
        self.assertIn("malformed", daemon.log())


if __name__ == "__main__":
    daemon_box.main()
