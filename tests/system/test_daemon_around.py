# SPDX-License-Identifier: MIT
"""
The daemon and what is around it: who reads its log, cleaners of /tmp and /dev/shm, terminals, limits, cgroups, mounts.
"""
import contextlib
import ctypes
import errno
import fcntl
import os
import resource
import signal
import struct
import subprocess
import tempfile
import unittest

import daemon_box
import wire
from daemon_box import PYHEAPD, Daemon, until

LOCKER = os.environ.get("PYHEAP_LOCKER")
IS_ROOT = os.geteuid() == 0
F_SETPIPE_SZ = 1031


class Log(unittest.TestCase):
    def refused(self, daemon, n):
        """As many warnings as that: connections that speak another protocol."""
        for _ in range(n):
            c = daemon.wire()
            c.send(wire.hello(c.layout_hash, protocol=99))
            c.expect_error(errno.EPROTO)
            c.close()

    def start_with_pipe(self, *args):
        r, w = os.pipe()
        fcntl.fcntl(w, F_SETPIPE_SZ, 4096)
        self.addCleanup(os.close, r)
        self.addCleanup(os.close, w)
        daemon = Daemon(self, "--size", "32M", *args)
        daemon.process = subprocess.Popen(daemon.command(), stdin=subprocess.DEVNULL, stderr=w,
                                          preexec_fn=daemon_box.die_with_parent)
        until(lambda: os.path.exists(daemon.socket), "the daemon serves")
        return daemon, r, w

    def test_nobody_reads_it(self):
        daemon, r, w = self.start_with_pipe()
        keeps = daemon.session()
        for _ in range(100):
            daemon.session().close()
        self.refused(daemon, 100)
        self.assertGreaterEqual(keeps.n_sessions(), 1)
        self.assertFalse(fcntl.fcntl(w, fcntl.F_GETFL) & os.O_NONBLOCK)  # it is not the daemon's alone
        # Read what is there: the line that comes next says what is missing.
        os.set_blocking(r, False)
        said = os.read(r, 65536).decode()
        self.assertIn("serving the heap", said)
        self.refused(daemon, 1)
        until(lambda: "lines were left out here: stderr was not read" in self.more(r), "it says that lines are missing")
        while self.more(r):
            pass
        for _ in range(100):
            daemon.session().close()
        self.assertEqual(daemon.end(), 0)

    @staticmethod
    def more(r):
        try:
            return os.read(r, 65536).decode()
        except BlockingIOError:
            return ""

    def test_no_flood(self):
        daemon = Daemon(self, "--size", "32M", "--log-level", "info").start()
        daemon.session()
        self.refused(daemon, 400)
        n = daemon.log().count("speaks protocol 99")
        self.assertLess(n, 400)
        self.assertGreater(n, 50)
        daemon.wait_log("lines of level warning were left out here: there were too many")

    def test_levels(self):
        seen = {}
        for level in ("error", "warning", "notice", "info", "debug"):
            daemon = Daemon(self, "--size", "32M", "--log-level", level)
            daemon.spawn()
            until(lambda d=daemon: os.path.exists(d.socket), "it serves")
            daemon.session()
            self.refused(daemon, 1)
            self.assertEqual(daemon.end(), 0)
            seen[level] = [text in daemon.log() for text in ("speaks protocol 99", "serving the heap", "is admitted")]
        self.assertEqual(seen, {"error": [False, False, False], "warning": [True, False, False],
                                "notice": [True, True, False], "info": [True, True, False],
                                "debug": [True, True, True]})
        status, said = Daemon(self, "--log-level", "loud").run()
        self.assertEqual(status, 2)
        self.assertIn("give error, warning, notice, info or debug", said)

    def test_times_and_sizes(self):
        daemon = Daemon(self, "--size", "32M").start()
        self.assertRegex(daemon.log(), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z pyheapd: serving the heap .* 32 MiB on ")
        daemon = Daemon(self, "--size", "33M", "--arena-size", "128K").start()
        self.assertIn("of up to 33 MiB", daemon.log())
        other = Daemon(self, "--size", "1664K", "--arena-size", "128K").start()
        self.assertIn("of up to 1.6 MiB", other.log())

    def test_a_full_heap_is_said_once(self):
        daemon = Daemon(self, "--size", "1M", "--log-level", "info").start()
        session = daemon.session()
        session.grant(4, 1)
        for _ in range(20):
            session.send(wire.grant_request(1, 1))
            session.expect_error(errno.ENOMEM)
        self.assertEqual(daemon.log().count("is refused 256 KiB more"), 1)
        self.assertIn("the heap is full, or has no room of that length (--size)", daemon.log())


class ByHand(unittest.TestCase):
    def test_says_how_to_connect(self):
        daemon = Daemon(self, "--size", "32M").start()
        self.assertIn("with PYHEAP_SOCKET=%s in" % daemon.socket, daemon.log())

    def test_name_that_is_an_option(self):
        for name in ("-1", "--keep", "-"):
            run = subprocess.run([PYHEAPD, "--name", name, "--socket", "/nowhere/s"], capture_output=True, text=True,
                                 timeout=wire.WATCHDOG_S, preexec_fn=daemon_box.die_with_parent)
            self.assertEqual(run.returncode, 2, name)
            self.assertIn("no - in front", run.stderr)

    def test_terminal_closes(self):
        daemon = Daemon(self, "--size", "32M").start()
        session = daemon.session()
        self.assertEqual(daemon.end(signal.SIGHUP), 0)
        session.expect(wire.GOODBYE_FROM_DAEMON)
        self.assertIn("ending, by SIGHUP", daemon.log())
        for path in daemon.files + [daemon.socket, daemon.socket + ".lock"]:
            self.assertFalse(os.path.exists(path), path)


class Descriptors(unittest.TestCase):
    def start(self, soft, hard):
        def limited():
            daemon_box.die_with_parent()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

        return Daemon(self, "--size", "32M").start(preexec_fn=limited)

    def test_as_many_as_allowed(self):
        daemon = self.start(64, 2048)
        self.assertEqual(resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE), (2048, 2048))
        self.assertNotIn("descriptors are allowed", daemon.log())

    def test_none_left(self):
        daemon = self.start(40, 40)
        sessions, refused = [], 0
        while refused < 20:
            c = daemon.wire()
            with contextlib.suppress(BrokenPipeError):  # it may be refused before it has said anything
                c.send(wire.hello(c.layout_hash))
            kind, body = c.receive()
            if kind == wire.ERROR:
                self.assertEqual(body[1], [errno.ENFILE])
                self.assertIn("out of file descriptors", body[2][0].decode())
                c.expect_end()
                refused += 1
            else:
                self.assertEqual(kind, wire.WELCOME)
                c.welcome = body
                c.take()
                sessions.append(c)
        self.assertGreater(len(sessions), 3)
        self.assertEqual(daemon.log().count("out of file descriptors"), 1)
        self.assertEqual(sessions[0].n_sessions(), len(sessions))
        for c in sessions[1:4]:
            c.send(wire.goodbye())
            c.expect_end()
        until(lambda: sessions[0].n_sessions() == len(sessions) - 3, "they are gone")
        daemon.session()


class Group:
    """A memory cgroup with a limit, version 1 or 2, where this user may make one."""

    def __init__(self, test, limit):
        self.path = None
        try:
            for base, name in self.places():
                if self.make(base, name, limit):
                    test.addCleanup(self.remove)
                    return
        except OSError:
            pass
        test.skipTest("no memory cgroup can be made here")

    @staticmethod
    def places():
        with open("/proc/self/cgroup", encoding="utf-8") as f:
            lines = [line.rstrip("\n").split(":", 2) for line in f]
        for _, controllers, path in lines:
            if "memory" in controllers.split(","):
                yield "/sys/fs/cgroup/memory" + path, "memory.limit_in_bytes"
                yield "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
        yield "/sys/fs/cgroup", "memory.max"

    def make(self, base, name, limit):
        path = "%s/pyheap-test-%d" % (base, os.getpid())
        if not os.path.isdir(base):
            return False
        os.mkdir(path)
        self.path = path
        if not os.path.exists(path + "/" + name):
            self.remove()
            return False
        self.write(name, str(limit))
        return True

    def write(self, name, text):
        with open(self.path + "/" + name, "w", encoding="ascii") as f:
            f.write(text)

    def enter(self):
        daemon_box.die_with_parent()
        self.write("cgroup.procs", str(os.getpid()))

    def remove(self):
        if self.path:
            until(lambda: self.remove_folder(self.path), "the cgroup is empty")
            self.path = None

    @staticmethod
    def remove_folder(path):
        try:
            os.rmdir(path)
        except OSError:
            return False
        return True


class Cgroup(unittest.TestCase):
    def test_grants_end_before_its_limit(self):
        group = Group(self, 64 << 20)
        daemon = Daemon(self, "--size", "128M").start(preexec_fn=group.enter)
        self.assertIn("--size 128 MiB is more than the memory cgroup of pyheapd allows, 64 MiB", daemon.log())
        session = daemon.session()
        n = 0
        while True:
            session.send(wire.grant_request(1, 16))
            kind, body = session.receive()
            if kind == wire.ERROR:
                self.assertEqual(body[1], [errno.ENOMEM])
                break
            n += len(list(wire.varints(body[1][0])))
        self.assertGreater(n, 100)  # 25 MiB
        self.assertLess(n, 256)
        daemon.wait_log("the memory cgroup of pyheapd, is full")
        # Another daemon, in the same cgroup, goes on.
        daemon.end(signal.SIGKILL)
        daemon.start(preexec_fn=group.enter)
        witness = daemon.session()
        witness.send(wire.grant_request(128, 1))
        witness.expect_error(errno.ENOMEM)
        self.assertEqual(witness.n_sessions(), 2)

    def test_default_size(self):
        group = Group(self, 64 << 20)
        daemon = Daemon(self).start(preexec_fn=group.enter)
        self.assertIn("the heap may grow to 32 MiB, half of what the memory cgroup of pyheapd allows", daemon.log())
        self.assertEqual(daemon.session().welcome[5], [32 << 20])


@unittest.skipUnless(IS_ROOT and daemon_box.can_unshare("-m"), "needs a mount namespace")
class Mounts(unittest.TestCase):
    """/dev/shm is not what it should be."""

    def run_with(self, mounts, *args):
        box = Daemon(self)
        os.mkdir(box.folder + "/d")
        script = "mount --make-rprivate / 2>/dev/null || mount --make-private /dev/shm; %s; exec \"$@\"" % mounts
        command = ["unshare", "-m", "--propagation", "unchanged", "sh", "-c", script, "sh", *box.command(*args)]
        run = subprocess.Popen(command, cwd=box.folder, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                               preexec_fn=daemon_box.die_with_parent)
        self.addCleanup(lambda: (run.kill(), run.wait(), run.stderr.close()))
        return box, run

    def test_none(self):
        _, run = self.run_with("mount -t tmpfs t /dev && mknod /dev/null c 1 3")
        said = run.communicate(timeout=wire.WATCHDOG_S)[1]
        self.assertEqual(run.returncode, 1)
        self.assertIn("/dev/shm: No such file or directory; shared memory needs a tmpfs there: mount one", said)

    def test_no_folder(self):
        _, run = self.run_with("mount -t tmpfs t /dev && mknod /dev/null c 1 3 && echo x >/dev/shm")
        said = run.communicate(timeout=wire.WATCHDOG_S)[1]
        self.assertEqual(run.returncode, 1)
        self.assertIn("/dev/shm is no folder", said)

    def on_disk(self):
        with tempfile.TemporaryDirectory(dir=".") as folder:
            kind = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True).stdout.strip()
        if kind == "tmpfs":
            self.skipTest("there is no disk here")
        return "mount --bind d /dev/shm"

    def test_disk(self):
        box, run = self.run_with(self.on_disk())
        said = run.communicate(timeout=wire.WATCHDOG_S)[1]
        self.assertEqual(run.returncode, 1)
        self.assertIn("/dev/shm is no tmpfs, but on a disk", said)
        self.assertEqual(os.listdir(box.folder + "/d"), [])

    def test_disk_by_size(self):
        box, run = self.run_with(self.on_disk(), "--size", "8M")
        until(lambda: os.path.exists(box.socket) or run.poll() is not None, "it serves")
        self.assertIsNone(run.poll())
        run.terminate()
        said = run.communicate(timeout=wire.WATCHDOG_S)[1]
        self.assertEqual(run.returncode, 0, said)
        self.assertIn("the heap will be slow", said)


class FileSize(unittest.TestCase):
    def limited(self, soft, hard):
        def limit():
            daemon_box.die_with_parent()
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        return limit

    def test_too_small(self):
        daemon = Daemon(self, "--size", "64M")
        daemon.spawn(preexec_fn=self.limited(8 << 20, 8 << 20))
        self.assertEqual(daemon.process.wait(wire.WATCHDOG_S), 1)
        self.assertIn("files of that size are not allowed (ulimit -f, LimitFSIZE=)", daemon.log())
        self.assertFalse(any(map(os.path.exists, daemon.files + [daemon.socket])))

    def test_soft_limit(self):
        daemon = Daemon(self, "--size", "64M").start(preexec_fn=self.limited(8 << 20, 1 << 30))
        self.assertEqual(daemon.session().welcome[5], [64 << 20])


def forbid(number):
    """Have the kernel refuse a system call to this process, as a container's seccomp profile does."""
    load, equal, give = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
    program = b"".join(struct.pack("<HBBI", *line) for line in (
        (load, 0, 0, 0), (equal, 0, 1, number), (give, 0, 0, 0x00050000 | errno.EPERM), (give, 0, 0, 0x7fff0000)))
    text = ctypes.create_string_buffer(program, len(program))
    libc = ctypes.CDLL(None, use_errno=True)
    header = ctypes.create_string_buffer(struct.pack("@HP", 4, ctypes.addressof(text)))
    daemon_box.die_with_parent()
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, header, 0, 0):  # PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP
        raise OSError(ctypes.get_errno(), "seccomp")


@unittest.skipUnless(os.uname().machine in ("x86_64", "aarch64"), "the numbers of system calls are not known here")
class Forbidden(unittest.TestCase):
    PIDFD_SEND_SIGNAL, PIDFD_OPEN = 424, 434
    MEMBARRIER = 324 if os.uname().machine == "x86_64" else 283
    MADVISE = 28 if os.uname().machine == "x86_64" else 233

    def test_needed(self):
        for number, name in ((self.PIDFD_OPEN, "pidfd_open(2)"), (self.PIDFD_SEND_SIGNAL, "pidfd_send_signal(2)"),
                             (self.MADVISE, "madvise(2) with MADV_WIPEONFORK")):
            daemon = Daemon(self, "--size", "32M")
            daemon.spawn(preexec_fn=lambda n=number: forbid(n))
            until(lambda d=daemon: d.process.poll() is not None, "it refuses to serve")
            self.assertEqual(daemon.process.returncode, 1)
            self.assertIn("does not let pyheapd call %s: Operation not permitted" % name, daemon.log())
            self.assertFalse(any(map(os.path.exists, daemon.files + [daemon.socket])))

    def test_membarrier(self):
        daemon = Daemon(self, "--size", "32M").start(preexec_fn=lambda: forbid(self.MEMBARRIER))
        self.assertIn("goes on without", daemon.log())
        self.assertEqual(len(daemon.session().grant(4, 1)), 1)


class Frozen(unittest.TestCase):
    """The lock's owner is in a frozen cgroup, where a signal does not reach it (docker pause)."""

    def freezer(self):
        path = "/sys/fs/cgroup/freezer/pyheap-test-%d" % os.getpid()
        try:
            os.mkdir(path)
        except OSError:
            self.skipTest("no freezer cgroup can be made here")
        self.addCleanup(lambda: until(lambda: Group.remove_folder(path), "the cgroup is empty"))
        return path

    @staticmethod
    def write(path, text):
        with open(path, "w", encoding="ascii") as f:
            f.write(text)

    @unittest.skipUnless(LOCKER, "without PYHEAP_LOCKER, which takes the lock and stops")
    def test_owner(self):
        path = self.freezer()
        daemon = Daemon(self, "--size", "32M", "--lock-timeout", "1").start()
        locker = subprocess.Popen([LOCKER, daemon.socket], stderr=subprocess.DEVNULL,
                                  preexec_fn=daemon_box.die_with_parent)
        self.addCleanup(lambda: (self.write(path + "/freezer.state", "THAWED"), locker.kill(), locker.wait()))
        self.write(path + "/cgroup.procs", str(locker.pid))
        until(lambda: "has held the global lock" in daemon.log(), "it has the lock")
        self.write(path + "/freezer.state", "FROZEN")
        daemon.wait_log("it is killed for having kept the global lock")
        daemon.wait_log("was killed 2 times and has not ended: its state is D")
        self.assertIsNone(locker.poll())
        self.write(path + "/freezer.state", "THAWED")
        locker.wait(wire.WATCHDOG_S)
        daemon.wait_log("the global lock is free again")


class Cleaners(unittest.TestCase):
    """A cleaner takes away files of a daemon, another daemon begins in their place, and the first one ends."""

    def start_second(self, removed):
        first = Daemon(self, "--size", "32M").start()
        first.session()
        for path in removed(first):
            os.unlink(path)
        second = Daemon(self, "--size", "32M", name=first.name, socket=first.socket).start()
        return first, second

    def test_all_of_it(self):
        first, second = self.start_second(lambda d: [*d.files, d.truth, d.socket, d.socket + ".lock"])
        witness = second.session()
        heap_id = witness.welcome[7]
        self.assertEqual(first.end(), 0)
        for path in second.files + [second.socket, second.socket + ".lock"]:
            self.assertTrue(os.path.exists(path), path)
        self.assertEqual(second.session().welcome[7], heap_id)
        self.assertEqual(witness.n_sessions(), 2)
        third = Daemon(self, "--size", "32M", name=first.name, socket=first.socket)
        self.assertEqual(third.run()[0], 3)
        self.assertEqual(second.end(), 0)
        for path in second.files + [second.socket, second.socket + ".lock"]:
            self.assertFalse(os.path.exists(path), path)

    def test_all_but_the_heap(self):
        first, second = self.start_second(lambda d: [d.files[0], d.truth, d.socket, d.socket + ".lock"])
        self.assertEqual(first.end(), 0)
        for path in second.files + [second.socket, second.socket + ".lock"]:
            self.assertTrue(os.path.exists(path), path)
        second.session().grant(4, 1)

    def test_nobody_came(self):
        daemon = Daemon(self, "--size", "32M").start()
        os.unlink(daemon.files[0])
        os.unlink(daemon.socket)
        self.assertEqual(daemon.end(), 0)
        for path in daemon.files + [daemon.socket + ".lock"]:
            self.assertFalse(os.path.exists(path), path)


if __name__ == "__main__":
    daemon_box.main()
