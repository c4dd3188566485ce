# SPDX-License-Identifier: MIT
"""
Real daemons for the tests in Python, and nothing of them left behind.

Each has a name and a folder of its own. It dies with the test program (PR_SET_PDEATHSIG); its files are removed when the
test is over, also by a signal (meson sends SIGTERM when a test takes too long). The daemon under test is $PYHEAPD.
"""
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from wire import WATCHDOG_S, Wire, layout_hash_of

PYHEAPD = os.environ.get("PYHEAPD", "pyheapd")
PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None)
DEADLY = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
daemons = []  # of this program, to be cleared when it is ended by a signal
n_names = 0


def until(condition, what):
    """Look until it is true. The watch-dog is no measure of anything."""
    end = time.monotonic() + WATCHDOG_S
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("never came true: " + what)
        time.sleep(0.005)


def die_with_parent():
    for number in DEADLY:
        signal.signal(number, signal.SIG_DFL)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def can_unshare(*flags):
    """Is this user allowed to make such a namespace?"""
    run = subprocess.run(["unshare", *flags, "true"], stderr=subprocess.DEVNULL) if shutil.which("unshare") else None
    return run is not None and run.returncode == 0


def can_be_nobody(*program):
    """Can another user's process be made, and run anything here? Where / or what leads to it is root's alone, it cannot."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        return False
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    return subprocess.run(nobody + list(program or ["true"]), capture_output=True).returncode == 0


class Daemon:
    unshared = ()  # a command that runs the daemon in other namespaces

    def __init__(self, test, *args, name=None, socket=None):
        global n_names
        n_names += 1
        self.folder = tempfile.mkdtemp(prefix="pyheap-")
        os.chmod(self.folder, 0o755)
        self.name = name or "t%d-%d" % (os.getpid(), n_names)
        self.socket = socket or self.folder + "/s"
        self.log_path = self.folder + "/log"
        self.args = list(args)
        self.process = None
        self.wires = []
        daemons.append(self)
        test.addCleanup(self.clear)

    def command(self, *args):
        return [PYHEAPD, "--name", self.name, "--socket", self.socket, "--log-level", "debug", *self.args, *args]

    def spawn(self, *args, env=None, preexec_fn=die_with_parent):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([*self.unshared, *self.command(*args)], stdin=subprocess.DEVNULL, stderr=log,
                                            env={**os.environ, **(env or {})}, preexec_fn=preexec_fn)

    def start(self, *args, **more):
        n = self.log().count("serving the heap")
        self.spawn(*args, **more)
        until(lambda: self.log().count("serving the heap") > n or self.process.poll() is not None, "the daemon serves")
        assert self.process.poll() is None, "the daemon ended: " + self.log()
        return self

    def run(self, *args, **more):
        """Run it to its end: (status, what it wrote to stderr)."""
        done = subprocess.run(self.command(*args), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                              timeout=WATCHDOG_S, preexec_fn=die_with_parent, **more)
        return done.returncode, done.stderr

    def end(self, signal_number=signal.SIGTERM):
        os.kill(self.pid, signal_number)
        return self.process.wait(WATCHDOG_S)

    @property
    def pid(self):
        if not self.unshared:
            return self.process.pid
        with open("/proc/%d/task/%d/children" % (self.process.pid, self.process.pid)) as f:
            return int(f.read().split()[0])

    def log(self):
        try:
            with open(self.log_path, encoding="utf-8") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def wait_log(self, text):
        until(lambda: text in self.log(), "the log says %r; it says %s" % (text, self.log()))

    def wire(self):
        wire = Wire(self.socket, layout_hash_of(self.name))
        self.wires.append(wire)
        return wire

    def session(self, **arguments):
        wire = self.wire()
        wire.say_hello(**arguments)
        return wire

    @property
    def files(self):
        return ["/dev/shm/pyheap.%s.ctl" % self.name, "/dev/shm/pyheap.%s.heap" % self.name]

    @property
    def truth(self):
        """What the daemon alone has."""
        return "/dev/shm/pyheap.%s.daemon" % self.name

    def n_fds(self):
        return len(os.listdir("/proc/%d/fd" % self.pid))

    def heap_bytes(self):
        return os.stat(self.files[1]).st_blocks * 512

    def clear(self):
        for wire in self.wires:
            wire.close()
        status = 0
        try:
            if self.process and self.process.poll() is None:
                status = self.end()  # a sanitizer's last word is in it
            said = self.log()
        finally:
            self.clear_at_once()
        assert status == 0, "the daemon ended with status %d: %s" % (status, said)

    def clear_at_once(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        for path in [*self.files, self.truth]:
            if os.path.exists(path):
                os.unlink(path)
        shutil.rmtree(self.folder, ignore_errors=True)
        daemons.remove(self)


class Child:
    """Run a function in a forked child, which stays after it until it is ended. It reports by what it returns."""

    def __init__(self, test, function):
        r, w = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            die_with_parent()
            try:
                result = repr(function())
            except BaseException as e:  # whatever it is, the parent has to hear of it
                result = "!" + repr(e)
            os.write(w, result.encode() + b"\n")
            os.close(w)
            while True:
                signal.pause()
        os.close(w)
        with os.fdopen(r, "rb") as f:
            self.result = f.readline().decode().rstrip("\n")  # not to the end: a child of its own may have the pipe
        test.addCleanup(self.kill)
        assert not self.result.startswith("!"), self.result

    def kill(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0


def on_deadly_signal(number, _frame):
    for daemon in list(daemons):
        daemon.clear_at_once()
    os._exit(128 + number)


def main():
    """As unittest.main(), for programs that meson runs; nothing but skipped tests is a skipped program."""
    for number in DEADLY:
        signal.signal(number, on_deadly_signal)
    program = unittest.main(module="__main__", exit=False, verbosity=2)
    result = program.result
    if not result.wasSuccessful():
        sys.exit(1)
    sys.exit(77 if result.testsRun == len(result.skipped) else 0)
