# SPDX-License-Identifier: MIT
"""Measuring contenders beside each other.

The absolute figures of one machine move by 15% and more from minute to minute (clock, neighbours, page placement), so
only figures of the same moments are comparable. Hence all contenders of a work get ready first; then, round by round,
each has its turn, another one going first each time; the median of its rounds stands for it, with the range beside it.
How often makes a round is found per contender before, by doubling, which also warms it up.

A contender that fails stays in the table with its error and takes no further turn; the others go on.
"""
import os
import select
import statistics
import subprocess
import sys
import time

from servers import WATCH_DOG_S, Failed, end, environment, start
from works import MEMCACHED, OURS, PEERS, REDIS


class Entrant:
    """A contender while its work is measured: its program, and what it said."""

    def __init__(self, contender, programs, servers):
        self.contender = contender
        self.rounds = []       # a list of figures each
        self.n = 1
        self.error = None
        self.process = None
        self.end_heap = None
        self.heap_log = None   # what its pyheapd said last
        self._programs, self._servers = programs, servers

    def _command(self):
        program = self._programs[PEERS[self.contender.peer][0] if self.contender.peer != OURS else OURS]
        command = [*program, self.contender.work]
        return command if self.contender.argument is None else [*command, str(self.contender.argument)]

    def _environment(self):
        if self.contender.peer == OURS:
            extra, self.end_heap, self.heap_log = self._servers.heap(self.contender.heap)
            return extra
        if self.contender.peer == REDIS:
            return self._servers.redis()
        return self._servers.memcached() if self.contender.peer == MEMCACHED else {}

    def begin(self):
        self.process = start(self._command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             env=environment(self._environment()))
        self._servers.callback(end, self.process)
        self._hear()

    def _hear(self):
        ready, _, _ = select.select([self.process.stdout], [], [], WATCH_DOG_S)
        line = self.process.stdout.readline() if ready else b''
        if not line:
            raise Failed('it does not answer' if not ready else self._last_words())
        return line

    def _last_words(self):
        code = end(self.process)
        words = self.process.stderr.read().decode(errors='replace').strip()[-300:] or f'it ended with {code}'
        return f'{words} ({self.heap_log()})' if self.heap_log else words

    def turn(self, n=None):
        """One round. Returns what it took in all, seconds."""
        begin = time.monotonic()
        try:
            self.process.stdin.write(b'%d\n' % (n or self.n))
            self.process.stdin.flush()
        except OSError as error:
            raise Failed(self._last_words()) from error
        figures = [float(word) for word in self._hear().split()]
        if n is None:
            self.rounds.append(figures)
        return time.monotonic() - begin

    def calibrate(self, round_s):
        n, took = 1, 0
        while took < round_s / 4:
            n *= 2
            took = self.turn(n)
        self.n = max(1, int(n * round_s / took))

    def finish(self):
        if not self.process:
            return
        try:
            _, said = self.process.communicate(timeout=WATCH_DOG_S)
        except subprocess.TimeoutExpired as error:
            end(self.process)
            raise Failed('it does not end') from error
        if self.process.returncode != 0 and not self.error:
            raise Failed(said.decode(errors='replace').strip()[-300:] or f'it ended with {self.process.returncode}')
        if self.end_heap:
            end_heap, self.end_heap = self.end_heap, None
            end_heap()


def _guarded(entrant, step, *arguments):
    if entrant.error and step != entrant.finish:
        return
    try:
        step(*arguments)
    except (Failed, OSError, ValueError) as error:
        entrant.error = entrant.error or str(error)


def measure(work, contenders, programs, servers, n_rounds, round_s, deadline):
    """All contenders of one work, interleaved: their entrants, done. n_rounds: (fewest, most); where the deadline is
    over the fewest have to do."""
    entrants = [Entrant(contender, programs, servers) for contender in contenders]
    for entrant in entrants:
        _guarded(entrant, entrant.begin)
        if not work.whole:
            _guarded(entrant, entrant.calibrate, round_s)
    for number in range(n_rounds[1]):
        if number >= n_rounds[0] and time.monotonic() > deadline:
            break
        for i in range(len(entrants)):
            entrant = entrants[(number + i) % len(entrants)]
            _guarded(entrant, entrant.turn)
    for entrant in entrants:
        _guarded(entrant, entrant.finish)
    return entrants


def summarize(values):
    return {'median': statistics.median(values), 'min': min(values), 'max': max(values), 'rounds': values}


def python_program():
    return [sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'peer_python.py')]
