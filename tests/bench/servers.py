# SPDX-License-Identifier: MIT
"""Processes of the benchmark's own: pyheapd, Redis, memcached and the contenders.

Everything that is started ends with the benchmark, however that ends: on the ordinary way and on a signal its Cleanup
does it; where the benchmark itself is killed, the kernel sends each of them SIGTERM (a pyheapd takes its heap down
then), and an empty folder is all that stays.
"""
import contextlib
import ctypes
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

WATCH_DOG_S = 120
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    pass


def _end_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def environment(extra=None):
    """Without what would change how a contender works, or where it finds a daemon."""
    unwanted = ('PYHEAP', 'PYTHON', 'LD_PRELOAD', 'MALLOC_', 'MIMALLOC_', 'GLIBC_TUNABLES')
    kept = {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}
    return {**kept, **(extra or {})}


def start(command, **options):
    options.setdefault('env', environment())
    return subprocess.Popen(command, preexec_fn=_end_with_parent, **options)


def end(process):
    if process.poll() is None:
        process.terminate()
    try:
        return process.wait(WATCH_DOG_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


class Servers(contextlib.ExitStack):
    """Starts servers, each in a folder that all of them share; exit ends them and removes it."""

    def __init__(self, pyheapd, pyheapctl):
        super().__init__()
        self.pyheapd, self.pyheapctl = pyheapd, pyheapctl
        self.folder = tempfile.mkdtemp(prefix='pyheap-bench.', dir='/tmp')  # a socket's path must be short
        self.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.n_started = 0
        self.shared = {}

    def _start(self, command, path, name):
        log = open(os.path.join(self.folder, f'{name}.log'), 'w', encoding='utf-8')
        self.callback(log.close)
        process = start(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.callback(end, process)

        def last_words():
            with open(log.name, encoding='utf-8', errors='replace') as file:
                return file.read().strip().replace('\n', '; ')[-300:]
        deadline = time.monotonic() + WATCH_DOG_S
        while not _answers(path):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f'{command[0]} does not start: {last_words()}')
            time.sleep(0.005)
        return process, last_words

    def heap(self, options):
        """A pyheapd with a heap of its own. Returns the environment for its clients, what ends it, and what it said."""
        self.n_started += 1
        name = f'bench-{os.getpid()}-{self.n_started}'
        path = os.path.join(self.folder, f'{self.n_started}.sock')
        self.callback(_remove_heap, name)
        process, last_words = self._start([self.pyheapd, '--socket', path, '--name', name, *options], path, name)
        return {'PYHEAP_SOCKET': path, 'PYHEAP_BENCH_HEAP': name}, lambda: self._end_heap(process, path), \
            last_words

    def _ctl(self, path, *arguments):
        done = subprocess.run([self.pyheapctl, '--socket', path, *arguments], capture_output=True, text=True,
                              env=environment(), timeout=WATCH_DOG_S, check=False)
        if done.returncode != 0:
            raise Failed(f'pyheapctl {" ".join(arguments)}: {(done.stderr + done.stdout).strip()[:300]}')
        return done.stdout

    def _end_heap(self, process, path):
        """All was given back (what a session had is given back after its end), and nothing is wrong in the heap."""
        deadline = time.monotonic() + WATCH_DOG_S
        try:
            while json.loads(self._ctl(path, 'stats', '--json'))['n_objects'] != 0:
                if time.monotonic() > deadline:
                    raise Failed('objects were left in the heap')
                time.sleep(0.02)
            self._ctl(path, 'check')
        finally:
            code = end(process)
        if code != 0:
            raise Failed(f'pyheapd ended with {code}')

    def redis(self):
        return self._shared('redis', lambda path: [
            'redis-server', '--port', '0', '--unixsocket', path, '--save', '', '--appendonly', 'no',
            '--daemonize', 'no', '--dir', self.folder])

    def memcached(self):
        return self._shared('memcached', lambda path: [
            'memcached', '-s', path, '-t', '1', '-m', '256', '-I', '8m', '-u', getpass.getuser()])

    def _shared(self, name, command):
        """One for all works. Returns the environment for its clients."""
        if name not in self.shared:
            path = os.path.join(self.folder, f'{name}.sock')
            self._start(command(path), path, name)
            self.shared[name] = path
        return {'BENCH_SOCKET': self.shared[name]}


def _answers(path):
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
        except OSError:
            return False
    return True


def _remove_heap(name):
    """What a daemon that crashed has left."""
    for part in ('ctl', 'heap', 'daemon'):
        with contextlib.suppress(OSError):
            os.unlink(f'/dev/shm/pyheap.{name}.{part}')
