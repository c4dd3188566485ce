# SPDX-License-Identifier: MIT
"""How pyheapd begins and ends: its command line, its socket and its name, what it finds there, what it leaves."""
import fcntl
import os
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import unittest

import daemon_box
import wire
from daemon_box import PYHEAPD, Child, Daemon, until

IS_ROOT = os.geteuid() == 0
SETPRIV = shutil.which("setpriv")
PYHEAPCTL = os.environ.get("PYHEAPCTL", "pyheapctl")
CONTROL_VERSION, CONTROL_HASH, CONTROL_SIZE = 8, 16, 24  # offsets, heap/shared/layout.h


def pyheapd(*args, env=None):
    return subprocess.run([PYHEAPD, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          env={**os.environ, **(env or {})}, timeout=wire.WATCHDOG_S,
                          preexec_fn=daemon_box.die_with_parent)


class CommandLine(unittest.TestCase):
    def test_help_and_version(self):
        run = pyheapd("--help")
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        for option in ("--socket", "--name", "--size", "--arena-size", "--max-sessions", "--user-sessions",
                       "--kept-sessions", "--spare-arenas", "--lock-timeout", "--group",
                       "--keep", "--remove", "--version", "Exit status"):
            self.assertIn(option, run.stdout)
        run = pyheapd("--version")
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        self.assertRegex(run.stdout, r"^pyheapd [0-9]+\.[0-9]+\.[0-9]+\n$")

    def test_usage(self):
        for args in (["--nonsense"], ["argument"], ["--size"], ["--size", "0"], ["--size", "x"], ["--size", "5X"],
                     ["--size", "-1"], ["--size", "1KK"], ["--size", "99999999999999999999"], ["--size", "513G"],
                     ["--size", "17179869184G"], ["--size", "100K"], ["--arena-size", "32K"], ["--arena-size", "8M"],
                     ["--arena-size", "100000"], ["--max-sessions", "0"], ["--max-sessions", "4097"],
                     ["--user-sessions", "0"], ["--kept-sessions", "-1"],
                     ["--max-sessions", "1x"], ["--spare-arenas", "-1"], ["--lock-timeout", "x"], ["--name", ""], ["--name", "a/b"],
                     ["--name", 49 * "x"], ["--name", "ä"], ["--group", "no such group"], ["--socket", ""],
                     ["--socket", 5000 * "x"]):
            run = pyheapd(*args)
            self.assertEqual(run.returncode, 2, args)
            self.assertEqual(run.stdout, "")
            self.assertRegex(run.stderr, r"pyheapd: .*see pyheapd --help\n$", args)

    @unittest.skipUnless(daemon_box.can_be_nobody(), "only root can be somebody else, where others can run programs")
    def test_no_runtime_folder(self):
        box = Daemon(self)
        program = box.folder + "/pyheapd"
        shutil.copy(PYHEAPD, program)
        run = subprocess.run([SETPRIV, "--reuid", "65534", "--clear-groups", "env", "-u", "XDG_RUNTIME_DIR", program],
                             stderr=subprocess.PIPE, text=True, timeout=wire.WATCHDOG_S)
        self.assertEqual(run.returncode, 2)
        self.assertIn("XDG_RUNTIME_DIR is not set: give --socket", run.stderr)


class Sizes(unittest.TestCase):
    def test_more_than_there_can_be(self):
        st = os.statvfs("/dev/shm")
        total = st.f_blocks * st.f_frsize
        if total >= 512 << 30:
            self.skipTest("/dev/shm holds more than the largest heap")
        daemon = Daemon(self, "--size", str(total + (256 << 10)))
        status, said = daemon.run()
        self.assertEqual(status, 1)
        self.assertIn("more than /dev/shm can hold", said)
        self.assertFalse(any(map(os.path.exists, daemon.files + [daemon.socket])))

    def test_default(self):
        st = os.statvfs("/dev/shm")
        half = min(st.f_blocks * st.f_frsize // 2, 512 << 30)
        daemon = Daemon(self).start()
        if "memory cgroup" in daemon.log():
            self.skipTest("a memory cgroup allows less")
        session = daemon.session()
        self.assertEqual(session.welcome[5][0], half - half % (256 << 10))

    def test_suffixes_and_rounding(self):
        for size, arena, expected in (("1M", "64K", 1 << 20), ("1100k", "64K", 17 << 16), ("33554432", "1m", 32 << 20)):
            session = Daemon(self, "--size", size, "--arena-size", arena).start().session()
            self.assertEqual(session.welcome[5][0], expected)


class Ending(unittest.TestCase):
    def check_gone(self, daemon):
        for path in daemon.files + [daemon.socket, daemon.socket + ".lock"]:
            self.assertFalse(os.path.exists(path), path)

    def test_signals(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            daemon = Daemon(self, "--size", "32M").start()
            self.assertEqual(os.stat(daemon.socket).st_mode & 0o777, 0o600)
            for path in daemon.files:
                self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
            session, stranger = daemon.session(), daemon.wire()
            self.assertEqual(daemon.end(number), 0)
            for c in (session, stranger):
                c.expect(wire.GOODBYE_FROM_DAEMON)
                c.expect_end()
            self.check_gone(daemon)
            self.assertIn("ending", daemon.log())

    def test_keep(self):
        daemon = Daemon(self, "--size", "32M", "--keep").start()
        session = daemon.session()
        heap_id = session.welcome[7]
        self.assertEqual(daemon.end(), 0)
        session.expect(wire.GOODBYE_FROM_DAEMON)
        self.assertTrue(all(map(os.path.exists, daemon.files)))
        self.assertFalse(os.path.exists(daemon.socket))
        daemon.start("--size", "64M")
        daemon.wait_log("adopted")
        again = daemon.session()
        self.assertEqual(again.welcome[7], heap_id)
        self.assertEqual(again.welcome[5], [32 << 20])  # it is as large as it was made
        self.assertEqual(again.n_sessions(), 2)
        back = daemon.wire()
        self.assertEqual(back.say_hello(resume=(session.session, session.token)), session.session)

    def test_remove(self):
        daemon = Daemon(self, "--size", "32M", "--keep").start()
        status, said = daemon.run("--remove")
        self.assertEqual(status, 3)
        self.assertIn("another pyheapd serves", said)
        self.assertTrue(all(map(os.path.exists, daemon.files)))
        daemon.end()
        status, said = daemon.run("--remove")
        self.assertEqual(status, 0)
        self.check_gone(daemon)
        status, said = daemon.run("--remove")
        self.assertEqual(status, 0)
        self.assertIn("no heap", said)
        with open(daemon.files[1], "w"):  # left by one that died between the two
            pass
        self.assertEqual(daemon.run("--remove")[0], 0)
        self.check_gone(daemon)


class Socket(unittest.TestCase):
    def expect_failure(self, daemon, status, *texts):
        got, said = daemon.run()
        self.assertEqual(got, status, said)
        for text in texts:
            self.assertIn(text, said)
        self.assertEqual(said.count("\n"), 1, said)
        self.assertFalse(any(map(os.path.exists, daemon.files)))

    def test_path_too_long(self):
        box = Daemon(self)
        self.expect_failure(Daemon(self, socket=box.folder + "/" + 108 * "x"), 1, "shorter --socket")

    def test_folder_missing(self):
        box = Daemon(self)
        self.expect_failure(Daemon(self, socket=box.folder + "/no/s"), 1, "is missing", box.folder)

    @unittest.skipUnless(daemon_box.can_be_nobody() or not IS_ROOT, "root may write anywhere")
    def test_folder_not_writable(self):
        daemon = Daemon(self)
        os.chmod(daemon.folder, 0o555)
        command = daemon.command()
        if IS_ROOT:
            os.makedirs("/tmp/pyheapd-bin-%d" % os.getpid())
            self.addCleanup(shutil.rmtree, "/tmp/pyheapd-bin-%d" % os.getpid())
            command[0] = shutil.copy(PYHEAPD, "/tmp/pyheapd-bin-%d/" % os.getpid())
            nobody = pwd.getpwnam("nobody")
            command = [SETPRIV, "--reuid", str(nobody.pw_uid), "--regid", str(nobody.pw_gid), "--clear-groups", *command]
        run = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=wire.WATCHDOG_S)
        self.assertEqual(run.returncode, 1, run.stderr)
        self.assertIn("is not writable", run.stderr)

    def test_no_socket_there(self):
        daemon = Daemon(self)
        with open(daemon.socket, "w") as f:
            f.write("precious")
        self.expect_failure(daemon, 1, "is no socket")
        with open(daemon.socket) as f:
            self.assertEqual(f.read(), "precious")

    def test_stale_socket_is_replaced(self):
        daemon = Daemon(self, "--size", "32M").start()
        daemon.end(signal.SIGKILL)
        self.assertTrue(os.path.exists(daemon.socket))
        other = Daemon(self, "--size", "32M", socket=daemon.socket).start()
        self.assertIn("replacing", other.log())
        other.session()

    def test_two_daemons_on_one_socket(self):
        first = Daemon(self, "--size", "32M").start()
        session = first.session()
        self.expect_failure(Daemon(self, "--size", "32M", socket=first.socket), 3, "another pyheapd serves", first.socket)
        self.assertEqual(session.n_sessions(), 1)
        first.session()

    def test_somebody_else_on_the_socket(self):
        daemon = Daemon(self)
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(daemon.socket)
            other.listen(0)
            self.expect_failure(daemon, 3, "another program listens")
            # Also when its backlog is full, where connect() would wait.
            with socket.socket(socket.AF_UNIX) as a, socket.socket(socket.AF_UNIX) as b:
                for c in (a, b):
                    c.setblocking(False)
                    c.connect_ex(daemon.socket)
                self.expect_failure(daemon, 3, "another program listens")

    def test_two_daemons_on_one_name(self):
        first = Daemon(self, "--size", "32M").start()
        session = first.session()
        status, said = Daemon(self, name=first.name).run()
        self.assertEqual(status, 3)
        self.assertIn("another pyheapd serves the heap", said)
        self.assertTrue(all(map(os.path.exists, first.files)))
        self.assertEqual(session.n_sessions(), 1)

    def test_the_name_is_free_although_clients_have_the_segments(self):
        daemon = Daemon(self, "--size", "32M").start()
        session = daemon.session()
        daemon.end(signal.SIGKILL)
        self.assertEqual(len(session.fds), 2)
        daemon.start()

    def test_many_daemons_race(self):
        boxes = [Daemon(self, "--size", "32M")]
        boxes += [Daemon(self, "--size", "32M", name=boxes[0].name, socket=boxes[0].socket) for _ in range(7)]
        for _ in range(5):
            for box in boxes:
                box.spawn()
            until(lambda: sum(box.process.poll() is None for box in boxes) == 1, "one is left")
            alive = [box for box in boxes if box.process.poll() is None]
            self.assertEqual({box.process.returncode for box in boxes if box not in alive}, {3})
            until(lambda: os.path.exists(alive[0].socket) and "serving" in alive[0].log(), "it serves")
            alive[0].session()
            alive[0].end(signal.SIGKILL)


@unittest.skipUnless(daemon_box.can_be_nobody() and daemon_box.can_unshare("-m"),
                     "only root can be somebody else, with a /proc of its own")
class Hidden(unittest.TestCase):
    """/proc does not show processes of other users to the daemon (hidepid=2)."""
    as_nobody = ["unshare", "-m", "sh", "-c", "mount -t proc -o hidepid=2 proc /proc && "
                 'setpriv --reuid 65534 --regid 65534 --clear-groups --pdeathsig KILL "$@"; exit $?', "sh"]

    def test_the_living_and_the_dead(self):
        see = subprocess.run([*self.as_nobody, "test", "-e", "/proc/%d/stat" % os.getpid()], stderr=subprocess.PIPE)
        if see.returncode != 1 or see.stderr:
            self.skipTest("processes cannot be hidden here")
        daemon = Daemon(self, "--size", "32M")
        os.chown(daemon.folder, 65534, 65534)
        daemon.unshared = self.as_nobody
        daemon.start()
        alive = daemon.session()
        dies = Child(self, daemon.session)
        stays = Child(self, daemon.session)
        Child(self, daemon.session).kill()
        until(lambda: alive.n_sessions() == 3, "the one that is dead has gone")
        daemon.end(signal.SIGKILL)
        dies.kill()
        daemon.start()
        witness = daemon.session()
        until(lambda: witness.n_sessions() == 3, "the session of the one that died meanwhile is free")
        stays.kill()
        until(lambda: witness.n_sessions() == 2, "the death of an adopted session is seen")
        back = daemon.wire()
        self.assertEqual(back.say_hello(resume=(alive.session, alive.token)), alive.session)


class Adopting(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon(self, "--size", "32M").start()

    def kill(self):
        self.daemon.end(signal.SIGKILL)

    def test_sessions_alive_and_dead(self):
        alive = self.daemon.session()
        child = Child(self, self.daemon.session)
        stays = Child(self, self.daemon.session)
        self.assertEqual(alive.n_sessions(), 3)
        self.kill()
        child.kill()
        self.daemon.start()
        witness = self.daemon.session()
        until(lambda: witness.n_sessions() == 3, "the dead one's session is free")
        self.daemon.wait_log("adopted the heap \"%s\" with 3 sessions" % self.daemon.name)
        stays.kill()
        until(lambda: witness.n_sessions() == 2, "the death of an adopted session is seen")
        back = self.daemon.wire()
        self.assertEqual(back.say_hello(resume=(alive.session, alive.token)), alive.session)
        self.assertEqual(back.n_sessions(), 2)
        back.send(wire.goodbye())
        until(lambda: witness.n_sessions() == 1, "the resumed session ends")

    def test_executed(self):
        """What a process had before execve() is ended when it comes again, by the next daemon, too."""
        other = Child(self, lambda: self.daemon.session(image=3))
        first = self.daemon.session(image=1)
        second = self.daemon.session(image=1)
        not_known = self.daemon.session()
        self.assertEqual(second.n_sessions(), 4)
        first.close()  # which does not end it
        self.kill()
        self.daemon.start()
        again = self.daemon.session(image=1)
        self.assertEqual(again.n_sessions(), 5)
        renewed = self.daemon.session(image=2)
        until(lambda: renewed.n_sessions() == 3, "its sessions of before are reclaimed")
        back = self.daemon.wire()
        self.assertEqual(back.say_hello(resume=(not_known.session, not_known.token)), not_known.session)
        other.kill()
        until(lambda: renewed.n_sessions() == 2, "another process's session ends with it")

    def test_a_pid_used_again(self):
        stranger = Child(self, self.daemon.session)
        session = self.daemon.session()
        self.kill()
        self.patch(lambda pid, start: (pid, start + 1), stranger.pid, self.daemon.truth)
        self.daemon.start()
        witness = self.daemon.session()
        until(lambda: witness.n_sessions() == 2, "a process that started at another time is another one")
        self.assertNotEqual(session.session, witness.session)

    @unittest.skipUnless(os.geteuid() == 0 and daemon_box.can_unshare("-Tf", "--boottime", "1000"),
                         "needs a time namespace")
    def test_by_another_clock(self):
        """The next daemon counts the time since boot otherwise, and so does the one after it: both find the living."""
        alive = self.daemon.session()
        stays = Child(self, self.daemon.session)
        for clock in (["--boottime", "1000", "--monotonic", "1000"], ["--boottime", "77", "--monotonic", "77"], []):
            self.kill()
            self.daemon.process.wait()
            self.daemon.unshared = ["unshare", "-Tf", "--kill-child", *clock] if clock else ()
            self.daemon.start()
            back = self.daemon.wire()
            self.assertEqual(back.say_hello(resume=(alive.session, alive.token)), alive.session)
            self.assertEqual(back.n_sessions(), 2)
        stays.kill()
        until(lambda: back.n_sessions() == 1, "the death of an adopted session is seen")

    def patch(self, change, pid, path):
        """Rewrite pid and start time of the session of process `pid`."""
        with open(path, "r+b") as f:
            data = f.read()
            at = data.index(struct.pack("<Ii", 1, pid))  # SESSION_ACTIVE, pid, then the start time
            pid, start = struct.unpack_from("<iQ", data, at + 4)
            f.seek(at + 4)
            f.write(struct.pack("<iQ", *change(pid, start)))

    def test_grants_on_their_way(self):
        session = self.daemon.session()
        child = Child(self, lambda: self.daemon.session().grant(8, 1))
        session.grant(4, 1)
        self.assertEqual(self.daemon.heap_bytes(), 12 * (256 << 10))
        self.kill()
        child.kill()
        self.daemon.start()
        until(lambda: self.daemon.heap_bytes() == 4 * (256 << 10), "what the dead one was granted is returned")
        back = self.daemon.wire()
        back.say_hello(resume=(session.session, session.token))
        until(lambda: self.daemon.heap_bytes() == 0, "what was not taken into use is returned, too")

    def test_many_times(self):
        session = self.daemon.session()
        heap_id = session.welcome[7]
        for _ in range(30):
            self.kill()
            self.daemon.start()
            back = self.daemon.wire()
            self.assertEqual(back.say_hello(resume=(session.session, session.token)), session.session)
            self.assertEqual(back.welcome[7], heap_id)
            self.assertEqual(back.n_sessions(), 1)

    # ---- what is there is not good ----

    def expect_refused(self, text, advice=None):
        status, said = self.daemon.run()
        self.assertEqual(status, 4, said)
        self.assertIn(text, said)
        self.assertIn(advice or "--name %s --remove" % self.daemon.name, said)
        self.assertEqual(said.count("\n"), 1, said)
        self.assertTrue(os.path.exists(self.daemon.files[0]))

    def write(self, offset, data, file=0):
        with open(self.daemon.files[file], "r+b") as f:
            f.seek(offset)
            f.write(data)

    def older(self):
        """As a daemon has left it that had no file of its own: what the control segment says of itself is all there is."""
        self.kill()
        os.unlink(self.daemon.truth)

    def test_another_version(self):
        self.kill()
        with open(self.daemon.truth, "r+b") as f:
            f.seek(16)  # heap/shared/truth.h: layout_hash
            f.write(bytes(8))
        self.expect_refused("another version")
        os.unlink(self.daemon.truth)
        self.write(CONTROL_VERSION, struct.pack("<I", 99))
        self.expect_refused("another version")
        self.write(CONTROL_VERSION, struct.pack("<I", 2))
        self.write(CONTROL_HASH, bytes(8))
        self.expect_refused("another version")
        self.assertEqual(self.daemon.run("--remove")[0], 0)
        self.daemon.start()

    def test_scribbled(self):
        self.older()
        with open(self.daemon.files[0], "rb") as f:
            good = f.read(128)
        for offset in range(CONTROL_SIZE, 52, 4):
            self.write(offset, b"\xa5\xa5\xa5\xa5")
            self.expect_refused("damaged")
            self.write(0, good)
        self.write(0, b"\x7fELF\x02\x01\x01\x00")
        self.expect_refused("no heap")
        self.write(0, good)
        self.daemon.start()

    def goes_on_damaged(self):
        """What a client has cut off keeps no daemon away: it says so, serves, and can be mended or emptied."""
        n = self.daemon.log().count("were cut or stretched by a client")
        self.daemon.start()
        self.assertEqual(self.daemon.log().count("were cut or stretched by a client"), n + 1)
        self.assertIn("pyheapctl reset", self.daemon.log())
        self.assertEqual([os.path.getsize(path) for path in self.daemon.files], self.sizes)
        self.assertEqual(len(self.daemon.session().grant(3, 1)), 1)
        self.daemon.end(signal.SIGKILL)
        self.daemon.start()  # and again
        self.assertEqual(self.daemon.log().count("were cut or stretched by a client"), n + 1)
        self.assertEqual(len(self.daemon.session().grant(3, 1)), 1)
        self.daemon.end(signal.SIGKILL)

    def test_cut(self):
        self.daemon.session().grant(3, 1)
        self.sizes = [os.path.getsize(path) for path in self.daemon.files]
        self.kill()
        for size in (self.sizes[0] - 1, self.sizes[0] // 2, 4096, 100, 8, 1, 1 << 40):
            os.truncate(self.daemon.files[0], size)
            self.goes_on_damaged()

    def test_cut_to_nothing(self):
        """An empty control segment is no heap: a fresh one is made."""
        heap_id = self.daemon.session().welcome[7]
        self.kill()
        os.truncate(self.daemon.files[0], 0)
        self.daemon.start()
        self.assertNotEqual(self.daemon.session().welcome[7], heap_id)

    def test_cut_heap(self):
        self.daemon.session().grant(3, 1)
        self.sizes = [os.path.getsize(path) for path in self.daemon.files]
        self.kill()
        for size in (4096, 0, self.sizes[1] - 1, 1 << 40):
            os.truncate(self.daemon.files[1], size)
            self.goes_on_damaged()

    def test_cut_of_an_older_heap(self):
        """Without the daemon's own file nothing says how long it was."""
        self.older()
        os.truncate(self.daemon.files[0], os.path.getsize(self.daemon.files[0]) - 1)
        self.expect_refused("damaged or cut")

    def test_heap_missing(self):
        self.kill()
        os.unlink(self.daemon.files[1])
        self.expect_refused("other half is missing")

    @unittest.skipUnless(IS_ROOT, "only root can give files away")
    def test_another_users(self):
        self.kill()
        os.chown(self.daemon.files[1], 65534, 65534)
        self.expect_refused("is in the way: it is a file of user 65534", "give another --name")

    @unittest.skipUnless(IS_ROOT, "only root can give files away")
    def test_squatted(self):
        """Somebody has put a file, a link or a pipe where a heap is to be made: the log says who, and leaves it alone."""
        squatted = Daemon(self, "--size", "8M")

        def make_file(path):
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o666))
        kinds = ((make_file, "a file"), (lambda path: os.symlink("/etc/passwd", path), "a link"),
                 (os.mkfifo, "something else than a file,"))
        for path in squatted.files + [squatted.truth]:
            for make, kind in kinds:
                make(path)
                os.lchown(path, 65534, 65534)
                for args in ((), ("--remove",)):
                    if path == squatted.files[1] and args:
                        continue  # there is no heap of the name: nothing is looked at
                    status, said = squatted.run(*args)
                    self.assertEqual(status, 1, said)
                    self.assertIn("%s is in the way: it is %s of user 65534" % (path, kind), said)
                left = [p for p in squatted.files + [squatted.truth] if os.path.lexists(p)]
                self.assertEqual(left, [path])
                os.unlink(path)
        squatted.start()

    @unittest.skipUnless(daemon_box.can_be_nobody(daemon_box.PYHEAPD, "--version"), "needs root, to be another user")
    def test_squatted_by_root(self):
        """As a daemon that may not open the file sees it."""
        squatted = Daemon(self, "--size", "8M")
        os.chown(squatted.folder, 65534, 65534)

        def be_nobody():
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)

        for path in squatted.files + [squatted.truth]:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            done = subprocess.run(squatted.command(), stderr=subprocess.PIPE, text=True, preexec_fn=be_nobody,
                                  timeout=wire.WATCHDOG_S)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn("%s is in the way: it is a file of user 0" % path, done.stderr)
            os.unlink(path)

    def test_unfinished(self):
        heap_id = self.daemon.session().welcome[7]
        self.older()
        self.write(0, bytes(8))
        self.daemon.start()
        self.assertNotEqual(self.daemon.session().welcome[7], heap_id)
        self.kill()
        os.truncate(self.daemon.files[0], 0)
        self.daemon.start()
        self.assertEqual(self.daemon.session().n_sessions(), 1)


class Server(unittest.TestCase):
    @unittest.skipUnless(daemon_box.can_be_nobody(daemon_box.PYHEAPD, "--version"), "needs root, to be another user")
    def test_server_in_a_public_folder(self):
        """Another user's daemon with a socket where all may make one: programs use it only if they are told so."""
        daemon = Daemon(self, "--size", "8M")
        os.chmod(daemon.folder, 0o1777)  # root's, as /tmp

        def be_nobody():
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            daemon_box.die_with_parent()

        daemon.start(preexec_fn=be_nobody)
        for trusted, status in ((None, 3), ("65533", 3), ("65534", 0), ("any", 0)):
            env = {**os.environ, **({"PYHEAP_TRUST_SERVER": trusted} if trusted else {})}
            run = subprocess.run([PYHEAPCTL, "--socket", daemon.socket, "clients"], capture_output=True, text=True,
                                 timeout=wire.WATCHDOG_S, env=env)
            self.assertEqual(run.returncode, status, run.stderr)
            if status:
                self.assertIn("is served by user 65534", run.stderr)
                self.assertIn("set PYHEAP_TRUST_SERVER=65534", run.stderr)
        os.chown(daemon.folder, 65534, 65534)
        run = subprocess.run([PYHEAPCTL, "--socket", daemon.socket, "clients"], capture_output=True, text=True,
                             timeout=wire.WATCHDOG_S)
        self.assertEqual(run.returncode, 0, run.stderr)


class Systemd(unittest.TestCase):
    def test_notify(self):
        daemon = Daemon(self, "--size", "32M")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.settimeout(wire.WATCHDOG_S)
            notify.bind(daemon.folder + "/notify")
            daemon.start(env={"NOTIFY_SOCKET": daemon.folder + "/notify", "WATCHDOG_USEC": "200000"})
            said = ""
            while not ("READY=1" in said and said.count("WATCHDOG=1") >= 3 and "STATUS=" in said):
                said += notify.recv(4096).decode() + "\n"
            self.assertLess(said.index("READY=1"), said.index("WATCHDOG=1"))
            daemon.process.send_signal(signal.SIGTERM)
            while "STOPPING=1" not in said:
                said += notify.recv(4096).decode() + "\n"
            self.assertEqual(daemon.process.wait(wire.WATCHDOG_S), 0)

    def spawn_with(self, daemon, *sockets):
        """As systemd does it: descriptors from 3 on, and the process's own pid in its environment."""
        command = 'LISTEN_FDS=%d LISTEN_PID=$$ exec "$@"' % len(sockets)

        def pass_on():
            daemon_box.die_with_parent()
            high = [fcntl.fcntl(s.fileno(), fcntl.F_DUPFD, 100) for s in sockets]  # 3 may be one of them
            for i, fd in enumerate(high):
                os.dup2(fd, 3 + i)
                os.close(fd)

        with open(daemon.log_path, "ab") as log:
            daemon.process = subprocess.Popen(["sh", "-c", command, "sh", *daemon.command()], stderr=log,
                                              stdin=subprocess.DEVNULL, preexec_fn=pass_on, close_fds=False)

    def test_passed_socket(self):
        daemon = Daemon(self, "--size", "32M")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(daemon.folder + "/passed")
            listening.listen(5)
            early = socket.socket(socket.AF_UNIX)
            early.connect(daemon.folder + "/passed")
            self.spawn_with(daemon, listening)
            daemon.wait_log("systemd's socket")
            daemon.socket = daemon.folder + "/passed"
            daemon.session()
            early.sendall(wire.hello(wire.layout_hash_of(daemon.name)))
            self.assertEqual(early.recv(4096)[4], 0x0a)  # Welcome
            early.close()
            self.assertEqual(daemon.end(), 0)
            self.assertTrue(os.path.exists(daemon.folder + "/passed"))
            self.assertFalse(os.path.exists(daemon.folder + "/s"))

    def test_passed_rubbish(self):
        for sockets in ([socket.socket(socket.AF_INET)], [socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)],
                        [socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)]):
            daemon = Daemon(self, "--size", "32M")
            self.spawn_with(daemon, *sockets)
            self.assertEqual(daemon.process.wait(wire.WATCHDOG_S), 1)
            self.assertIn("systemd passed", daemon.log())
            self.assertFalse(any(map(os.path.exists, daemon.files)))
            for s in sockets:
                s.close()

    def test_priorities(self):
        daemon = Daemon(self, "--size", "32M")
        with open(daemon.log_path, "w") as log:
            st = os.fstat(log.fileno())
        daemon.start(env={"JOURNAL_STREAM": "%d:%d" % (st.st_dev, st.st_ino)})
        daemon.session()
        daemon.wait_log("<7>session 0 ")
        self.assertTrue(daemon.log().startswith("<5>serving"))
        other = Daemon(self, "--size", "32M").start(env={"JOURNAL_STREAM": "1:1"})
        self.assertRegex(other.log(), r"^[0-9T:.-]+Z pyheapd: serving")


if __name__ == "__main__":
    daemon_box.main()
