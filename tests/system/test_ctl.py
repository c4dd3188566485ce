#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""pyheapctl with a real daemon: files in and out by every way, figures as text and as JSON, every line of error."""

import ctypes
import itertools
import json
import os
import re
import resource
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from daemon_box import can_be_nobody

PYHEAPD = os.environ["PYHEAPD"]
PYHEAPCTL = os.environ["PYHEAPCTL"]
WATCHDOG = 300
SIZES = (0, 1, 512, 513, 256 << 10, 5 << 20)

libc = ctypes.CDLL(None, use_errno=True)
numbers = itertools.count()


def die_with_parent():
    libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def content(size):
    """Bytes of every value, NULs and newlines included, that differ from place to place."""
    return (os.urandom(4099) * (size // 4099 + 1))[:size]


class Daemon:
    """A pyheapd of a name of its own in a folder of its own."""

    def __init__(self, *args):
        self.name = f"ctl{os.getpid()}-{next(numbers)}"
        self.folder = tempfile.TemporaryDirectory(prefix="pyheap-ctl-")
        self.socket = self.path("sock")
        self.process = subprocess.Popen(
            [PYHEAPD, "--name", self.name, "--socket", self.socket, *args],
            stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
        for _ in range(WATCHDOG * 100):
            if self.run("clients").returncode == 0:
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        self.close()
        raise RuntimeError("pyheapd does not serve")

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def run(self, *args, **keywords):
        keywords.setdefault("input", b"")
        if "stdin" in keywords:
            del keywords["input"]
        return subprocess.run([PYHEAPCTL, "--socket", self.socket, *args], capture_output=True, timeout=WATCHDOG,
                              **keywords)

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(WATCHDOG)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for kind in ("ctl", "heap", "daemon"):
            try:
                os.unlink(f"/dev/shm/pyheap.{self.name}.{kind}")
            except FileNotFoundError:
                pass
        self.folder.cleanup()


class CtlTest(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon("--size", "64M")
        self.addCleanup(self.daemon.close)

    def ok(self, *args, **keywords):
        """The output of a command that works and has nothing to complain of."""
        result = self.daemon.run(*args, **keywords)
        self.assertEqual((result.returncode, result.stderr), (0, b""), args)
        return result.stdout

    def fails(self, code, pattern, *args, **keywords):
        """A command that fails says why in one line on stderr, and nothing on stdout."""
        result = self.daemon.run(*args, **keywords)
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertRegex(result.stderr, rb"\Apyheapctl: [^\n]+: [^\n]+; [^\n]+\n\Z")
        self.assertRegex(result.stderr.decode(errors="replace"), pattern)
        self.assertEqual(result.stdout, b"")

    def tearDown(self):
        if self.daemon.process.poll() is None:
            self.assertRegex(self.ok("check"), rb"\Ano faults \([\d,]+ objects, [\d,]+ names, ")


class PutAndGet(CtlTest):
    def test_files(self):
        for size in SIZES:
            data = content(size)
            with open(self.daemon.path("in"), "wb") as file:
                file.write(data)
            self.assertEqual(self.ok("put", f"file {size}", self.daemon.path("in")), b"")
            self.assertEqual(self.ok("get", f"file {size}"), data)
            self.assertEqual(self.ok("get", f"file {size}", self.daemon.path("out")), b"")
            with open(self.daemon.path("out"), "rb") as file:
                self.assertEqual(file.read(), data)
            with open(self.daemon.path("in"), "rb") as file:  # stdin that is a regular file
                self.ok("put", "redirected", stdin=file)
            self.assertEqual(self.ok("get", "redirected", "-"), data)

    def test_get_replaces_whole_files(self):
        """The file is what it was or what it shall be, also when there is no room; links and rights stay."""
        def limited():
            resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))

        out, link = self.daemon.path("out"), self.daemon.path("link")
        self.ok("put", "large", input=content(300000))
        self.ok("put", "small", input=b"small")
        with open(out, "wb") as file:
            file.write(b"before")
        os.chmod(out, 0o640)
        os.symlink("out", link)
        folder = sorted(os.listdir(self.daemon.folder.name))
        self.fails(1, "cannot write, on '.*out': File too large; raise the limit .*ulimit -f", "get", "large", out,
                   preexec_fn=limited)
        with open(out, "rb") as file:
            self.assertEqual(file.read(), b"before")
        self.fails(1, "cannot write", "get", "large", self.daemon.path("new"), preexec_fn=limited)
        self.assertEqual(sorted(os.listdir(self.daemon.folder.name)), folder)
        with open(out, "rb") as reader:
            self.ok("get", "small", link)
            self.assertEqual(reader.read(), b"before")
        with open(link, "rb") as file:
            self.assertEqual(file.read(), b"small")
        self.assertTrue(os.path.islink(link))
        self.assertEqual(os.stat(out).st_mode & 0o777, 0o640)
        self.ok("get", "small", "/dev/null")
        self.assertTrue(os.path.exists("/dev/null") and not os.path.isfile("/dev/null"))
        with open(self.daemon.path("stdout"), "wb") as file:  # standard output is limited as well
            result = subprocess.run([PYHEAPCTL, "--socket", self.daemon.socket, "get", "large"], stdout=file,
                                    stderr=subprocess.PIPE, timeout=WATCHDOG, preexec_fn=limited)
        self.assertEqual(result.returncode, 1)
        self.assertIn(b"File too large", result.stderr)

    def test_pipes(self):
        for size in SIZES + (65535, 65536, 65537, 20 << 20):
            data = content(size)
            self.ok("put", "piped", "-", input=data)
            self.assertEqual(self.ok("get", "piped"), data)
            self.ok("put", "piped", input=data)
            self.assertEqual(self.ok("get", "piped"), data)

    def test_pipe_that_drips(self):
        data = content(300000)
        put = subprocess.Popen([PYHEAPCTL, "--socket", self.daemon.socket, "put", "drip"], stdin=subprocess.PIPE)
        for at in range(0, len(data), 1009):
            put.stdin.write(data[at:at + 1009])
            put.stdin.flush()
        put.stdin.close()
        self.assertEqual(put.wait(WATCHDOG), 0)
        self.assertEqual(self.ok("get", "drip"), data)

    def test_rest_of_a_file(self):
        with open(self.daemon.path("in"), "wb+") as file:
            file.write(b"0123456789")
            file.flush()
            file.seek(4)
            self.ok("put", "rest", stdin=file)
        self.assertEqual(self.ok("get", "rest"), b"456789")

    def test_file_without_a_size(self):
        self.ok("put", "status", "/proc/version")
        with open("/proc/version", "rb") as file:
            self.assertEqual(self.ok("get", "status"), file.read())

    def test_put_over(self):
        self.ok("put", "x", input=b"old" * 100000)
        self.ok("put", "x", input=b"new")
        self.assertEqual(self.ok("get", "x"), b"new")
        self.assertEqual(json.loads(self.ok("stats", "--json"))["n_objects"], 1)

    def test_get_over_a_longer_file(self):
        with open(self.daemon.path("out"), "wb") as file:
            file.write(b"x" * 10000)
        self.ok("put", "x", input=b"short")
        self.ok("get", "x", self.daemon.path("out"))
        self.assertEqual(os.stat(self.daemon.path("out")).st_size, 5)

    def test_reader_that_goes(self):
        self.ok("put", "large", input=content(5 << 20))
        get = subprocess.Popen([PYHEAPCTL, "--socket", self.daemon.socket, "get", "large"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
        get.stdout.read(10)
        get.stdout.close()
        self.assertEqual(get.stderr.read(), b"")
        get.stderr.close()
        self.assertEqual(get.wait(WATCHDOG), -signal.SIGPIPE)

    def test_slow_reader(self):
        data = content(5 << 20)
        self.ok("put", "large", input=data)
        get = subprocess.Popen([PYHEAPCTL, "--socket", self.daemon.socket, "get", "large"], stdout=subprocess.PIPE)
        got = bytearray()
        while chunk := get.stdout.read(70001):
            got += chunk
        get.stdout.close()
        self.assertEqual(get.wait(WATCHDOG), 0)
        self.assertEqual(bytes(got), data)

    def test_streams_that_do_not_block(self):
        """Their writes are really short, and their reads really find nothing."""
        data = content(5 << 20)
        in_read, in_write = os.pipe()
        out_read, out_write = os.pipe()
        os.set_blocking(in_read, False)
        os.set_blocking(out_write, False)
        command = [PYHEAPCTL, "--socket", self.daemon.socket]
        put = subprocess.Popen([*command, "put", "x"], stdin=in_read)
        os.close(in_read)
        with open(in_write, "wb") as file:
            file.write(data)
        self.assertEqual(put.wait(WATCHDOG), 0)
        get = subprocess.Popen([*command, "get", "x"], stdout=out_write)
        os.close(out_write)
        with open(out_read, "rb") as file:
            self.assertEqual(file.read(), data)
        self.assertEqual(get.wait(WATCHDOG), 0)

    def test_many_at_once(self):
        def work(name):
            for i in range(5):
                data = content(1000 * i + 1)
                self.ok("put", name, input=data)
                self.assertEqual(self.ok("get", name), data)
            done.append(name)

        done = []
        threads = [threading.Thread(target=work, args=(f"n{i}",)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(done), 6)

    def test_names_like_options(self):
        self.ok("put", "--", "--json", input=b"x")
        self.assertEqual(self.ok("get", "--", "--json"), b"x")
        self.ok("rm", "--", "--json")

    def test_everything_is_given_back(self):
        for i in range(20):
            self.ok("put", f"{i}", input=content(1 << i))
        self.ok("rm", *(f"{i}" for i in range(20)))
        stats = json.loads(self.ok("stats", "--json"))
        self.assertEqual((stats["n_objects"], stats["n_names"]), (0, 0))


class Errors(CtlTest):
    def test_names(self):
        self.fails(1, "cannot get, on 'nothing': no object has that name; .*pyheapctl ls", "get", "nothing")
        self.fails(1, "cannot remove the name, on 'nothing': no object has that name", "rm", "nothing")
        for name, why in (("", "empty or not UTF-8"), ("n" * 256, "too long"), (b"\xff", "empty or not UTF-8")):
            self.fails(1, why, "put", name)
            self.fails(1, why, "get", name)
            self.fails(1, why, "rm", name)
        self.ok("put", "n" * 255)
        self.assertEqual(self.ok("get", "n" * 255), b"")

    def test_rm_goes_on(self):
        self.ok("put", "a")
        self.ok("put", "b")
        self.fails(1, "on 'nothing'", "rm", "a", "nothing", "b")
        self.assertEqual(json.loads(self.ok("ls", "--json")), [])

    def test_control_characters(self):
        self.fails(1, r"on 'a\\x0ab\\x1b\[2J'", "get", "a\nb\033[2J")

    def test_files(self):
        folder, file = self.daemon.folder.name, self.daemon.path("file")
        self.fails(1, "cannot open, on '.*/none': No such file or directory; ", "put", "x", self.daemon.path("none"))
        self.fails(1, "cannot read, on '.*': Is a directory; ", "put", "x", folder)
        self.ok("put", "x", input=b"x")
        self.fails(1, "cannot open for writing, on '.*': Is a directory; ", "get", "x", folder)
        self.fails(1, "cannot open for writing, on '.*/no/file': No such file", "get", "x", folder + "/no/file")
        self.fails(1, "no object has that name", "get", "nothing", file)
        self.assertFalse(os.path.exists(file))

    def test_full_device(self):
        self.ok("put", "x", input=b"x" * 10000)
        self.fails(1, "cannot write, on '/dev/full': No space left on device; ", "get", "x", "/dev/full")
        with open("/dev/full", "wb") as full:
            for args in (("get", "x"), ("ls",), ("stats",), ("--help",)):
                result = subprocess.run([PYHEAPCTL, "--socket", self.daemon.socket, *args], stdout=full,
                                        stderr=subprocess.PIPE, timeout=WATCHDOG)
                self.assertEqual(result.returncode, 1)
                self.assertRegex(result.stderr, rb"\Apyheapctl: cannot write, on 'stdout': No space left on device; ")

    def test_no_room(self):
        with open(self.daemon.path("sparse"), "wb") as file:
            file.truncate(1 << 40)
        self.fails(1, "cannot put into the heap, on '.*': there is no room.*--size", "put", "x",
                   self.daemon.path("sparse"))
        with open("/dev/zero", "rb") as endless:
            self.fails(1, "on 'stdin': there is no room", "put", "x", stdin=endless)
        self.fails(1, "no object has that name", "get", "x")
        self.ok("put", "x", input=b"something smaller")

    def test_usage(self):
        rows = (
            ((), "a command is needed"),
            (("foo",), "unknown command, on 'foo'"),
            (("get",), "too few arguments, on 'get'"),
            (("put",), "too few arguments"),
            (("rm",), "too few arguments"),
            (("get", "a", "b", "c"), "too many arguments"),
            (("stats", "x"), "too many arguments"),
            (("ls", "x"), "too many arguments"),
            (("check", "x"), "too many arguments"),
            (("--frobnicate",), "wrong option, on '--frobnicate'"),
            (("get", "-x", "a"), "wrong option"),
            (("stats", "--json=3"), "wrong option"),
            (("get", "--json", "x"), "wrong option, on '--json'"),
            (("--socket",), "wrong option, on '--socket': it needs a value"),
        )
        for args, pattern in rows:
            self.fails(2, pattern + ".*pyheapctl --help", *args)

    def test_help(self):
        text = self.ok("--help").decode()
        self.assertEqual(self.ok("help").decode(), text)
        for word in ("stats", "ls", "put", "get", "rm", "clients", "check", "--socket", "--json", "exit codes"):
            self.assertIn(word, text)
        for command in re.findall(r"^  ([a-z]+) +\S*(?: \S+)? +\S", text.split("options:")[0], re.MULTILINE):
            own = self.ok("help", command).decode()
            self.assertRegex(own, rf"\Ausage: pyheapctl \[--socket PATH\] {command} ")
            self.assertEqual("--json" in own, "--json" in own.splitlines()[0])
            self.assertEqual("--repair" in own, "--repair" in own.splitlines()[0])
            self.assertEqual(self.ok(command, "--help").decode(), text if command == "help" else own)
        self.fails(2, "unknown command, on 'foo'.*pyheapctl --help", "help", "foo")
        self.assertRegex(self.ok("--version").decode(), r"\Apyheapctl \d+\.\d+\.\d+\n\Z")


class NoDaemon(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="pyheap-ctl-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def fails(self, pattern, *args, command=(PYHEAPCTL,), **env):
        result = subprocess.run([*command, *args], capture_output=True, timeout=WATCHDOG, env={**os.environ, **env})
        self.assertEqual((result.returncode, result.stdout), (3, b""), result.stderr)
        self.assertRegex(result.stderr, rb"\Apyheapctl: cannot open a session, [^\n]+: [^\n]+; [^\n]+\n\Z")
        self.assertRegex(result.stderr.decode(errors="replace"), pattern)

    def fails_in(self, limit, pattern, *args):
        self.fails(pattern, *args, command=["sh", "-c", limit + ' && exec "$@"', "sh", PYHEAPCTL])

    def test_closed_stdio(self):
        """Where stdin, stdout or stderr is closed, neither the heap nor the socket comes in its place."""
        daemon = Daemon()
        self.addCleanup(daemon.close)
        daemon.run("put", "a", input=b"hello")
        for command in ("get nosuch >&- 2>&-", "get a >&-", "put z <&-", "ls <&- >&- 2>&-"):
            result = subprocess.run(["sh", "-c", f"exec {PYHEAPCTL} --socket {daemon.socket} {command}"],
                                    capture_output=True, timeout=WATCHDOG)
            self.assertEqual(result.returncode, 1, (command, result.stderr))
        self.assertEqual(daemon.run("get", "a").stdout, b"hello")
        self.assertEqual(daemon.run("check").returncode, 0)

    def test_no_daemon(self):
        path = os.path.join(self.folder, "sock")
        self.fails("on '.*/sock': there is no such socket; start pyheapd", "--socket", path, "ls")
        self.fails("on '.*/sock': there is no such socket", "ls", PYHEAP_SOCKET=path)
        self.fails("the path is longer than a socket's can be; use a path", "--socket", "x" * 200, "ls")
        with open(path, "w"):
            pass
        self.fails("no daemon listens on the socket; start pyheapd", "--socket", path, "ls")
        self.fails("Not a directory", "--socket", path + "/sock", "ls")

    def test_not_a_daemon(self):
        """What listens there answers by something else than pyheapd's messages."""
        path = os.path.join(self.folder, "sock")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()

            def answer():
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(b"\x04\0\0\0\xff\xff\xff\xff")
                    connection.recv(1000)

            thread = threading.Thread(target=answer)
            thread.start()
            self.fails("use the pyheapctl that came with the running pyheapd", "--socket", path, "ls")
            thread.join()

    def test_no_descriptors(self):
        daemon = Daemon("--size", "16M")
        self.addCleanup(daemon.close)
        self.fails_in("ulimit -n 4", "close files, or raise the limit of open files", "--socket", daemon.socket, "ls")

    def test_no_address_space(self):
        result = subprocess.run(["sh", "-c", 'ulimit -v 500000 && exec "$0" --version', PYHEAPCTL], capture_output=True)
        if result.returncode != 0:
            self.skipTest("a sanitizer's own memory is beyond any such limit")
        daemon = Daemon("--size", "1G")
        self.addCleanup(daemon.close)
        self.fails_in("ulimit -v 500000", "limited to 488 MiB.*; raise that limit", "--socket", daemon.socket, "ls")

    def test_not_admitted(self):
        if not can_be_nobody(PYHEAPCTL, "--version"):
            self.skipTest("only root can be another user, where others can run programs")
        daemon = Daemon("--size", "16M")
        self.addCleanup(daemon.close)
        os.chmod(daemon.folder.name, 0o755)
        os.chmod(daemon.socket, 0o666)
        result = subprocess.run([PYHEAPCTL, "--socket", daemon.socket, "ls"], capture_output=True, timeout=WATCHDOG,
                                user=65534, group=65534, extra_groups=[])
        self.assertEqual((result.returncode, result.stdout), (3, b""))
        self.assertRegex(result.stderr, rb"the daemon does not admit this user.*; ask the administrator of pyheapd to admit this user\n\Z")

    def test_all_sessions_taken(self):
        daemon = Daemon("--size", "16M", "--max-sessions", "1")
        self.addCleanup(daemon.close)
        put = [PYHEAPCTL, "--socket", daemon.socket, "put", "x"]
        waiting = None
        for _ in range(WATCHDOG * 100):
            if waiting is None or waiting.poll() is not None:  # it may come too late for the only session
                waiting = subprocess.Popen(put, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
                self.addCleanup(waiting.stdin.close)
            result = daemon.run("ls")
            if b"all 1 sessions are taken" in result.stderr:
                break
            time.sleep(0.01)
        self.assertEqual(result.returncode, 3)
        self.assertRegex(result.stderr, rb"all 1 sessions are taken \(--max-sessions\).*; close a client")
        waiting.stdin.close()
        self.assertEqual(waiting.wait(WATCHDOG), 0)


class Figures(CtlTest):
    def labels(self, text):
        """The figures of `stats` by their labels; arenas * bytes/arena has its factors in its label."""
        rows = re.findall(r"^(.+?) += +([\d,]+)$", text, re.MULTILINE)
        return {label: int(value.replace(",", "")) for label, value in rows}

    def fill(self):
        for i, size in enumerate((0, 1, 8, 9, 100, 512, 513, 50000, 256 << 10, 3 << 20, 3 << 20)):
            self.ok("put", f"n{i}", input=content(size))
        self.ok("rm", "n10")

    def both(self):
        """Text and JSON of the same figures: the daemon may give arenas back between two looks, then look again."""
        def steady(text):
            return re.sub("# (lock acquisitions|lock waits|lock holds|ns ).*", "", text)

        text = self.ok("stats").decode()
        for _ in range(WATCHDOG * 100):
            figures, before = json.loads(self.ok("stats", "--json")), text
            text = self.ok("stats").decode()
            if steady(before) == steady(text):
                return before, figures
        raise AssertionError("the figures never come to rest")

    def test_text_and_json_agree(self):
        self.fill()
        text, figures = self.both()
        labels = self.labels(text)
        unused = figures["bytes_unused_pools"] // figures["pool_size"]
        pairs = {
            "# arenas allocated total": "n_arenas_allocated",
            "# arenas reclaimed": "n_arenas_reclaimed",
            "# arenas highwater mark": "n_arenas_highwater",
            "# arenas allocated current": "n_arenas_current",
            f"{figures['n_arenas_current']} arenas * {figures['arena_size']} bytes/arena": "bytes_total",
            "# bytes in allocated blocks": "bytes_allocated_blocks",
            "# bytes in available blocks": "bytes_available_blocks",
            f"{unused} unused pools * 4096 bytes": "bytes_unused_pools",
            "# bytes lost to pool headers": "bytes_pool_headers",
            "# bytes lost to quantization": "bytes_quantization",
            "# bytes in medium objects": "bytes_medium_objects",
            "# bytes in large objects": "bytes_large_objects",
            "# bytes in records": "bytes_records",
            "Total": "bytes_total",
            "# objects": "n_objects",
            "# medium objects": "n_medium_objects",
            "# large objects": "n_large_objects",
            "# names": "n_names",
            "# registered types": "n_types",
            "# sessions": "n_sessions",
            "# sessions at most": "max_sessions",
            "# bytes that the heap may grow to": "heap_size",
            "# lock recoveries": "n_lock_recoveries",
            "# pools claimed by sessions": "n_pools_claimed",
            "# blocks freed by other sessions": "n_blocks_returned",
        }
        for label, key in pairs.items():
            self.assertEqual(labels.pop(label), figures.pop(key) if key != "bytes_total" else figures[key], label)
        self.assertLess(labels.pop("# lock acquisitions"), figures.pop("n_lock_acquisitions"))
        for label, key in (("# lock waits", "n_lock_waits"), ("# ns waited for the lock", "lock_wait_ns"),
                           ("# ns of the longest wait", "lock_wait_max_ns"),
                           ("# lock holds timed, one in 64", "n_locks_timed"),
                           ("# ns the lock was held in those", "lock_held_ns"),
                           ("# ns of the longest of those", "lock_held_max_ns")):
            self.assertLessEqual(labels.pop(label), figures.pop(key), label)
        self.assertEqual(labels, {})
        rows = re.findall(r"^ *(\d+) +(\d+) +([\d,]+) +([\d,]+) +([\d,]+)$", text, re.MULTILINE)
        rows = [tuple(int(cell.replace(",", "")) for cell in row) for row in rows]
        self.assertEqual(rows, [(c["class"], c["size"], c["n_pools"], c["n_used"], c["n_available"])
                                for c in figures.pop("classes")])
        self.assertEqual(sorted(figures), ["arena_size", "bytes_total", "pool_size"])

    def test_figures_add_up(self):
        self.fill()
        figures = json.loads(self.ok("stats", "--json"))
        parts = [value for key, value in figures.items() if key.startswith("bytes_") and key != "bytes_total"]
        self.assertEqual(len(parts), 8)
        self.assertEqual(sum(parts), figures["bytes_total"])
        self.assertEqual(figures["bytes_total"], figures["n_arenas_current"] * figures["arena_size"])
        self.assertEqual(figures["n_objects"], 10)
        self.assertEqual(figures["n_names"], 10)
        self.assertEqual((figures["n_medium_objects"], figures["n_large_objects"]), (1, 2))
        self.assertEqual(figures["heap_size"], 64 << 20)
        self.assertEqual([(c["class"], c["size"], c["n_used"]) for c in figures["classes"]],
                         [(0, 8, 3), (1, 16, 1), (12, 104, 1), (63, 512, 1), (64, 576, 1)])
        for c in figures["classes"]:
            self.assertEqual(c["n_pools"] * c["pool_blocks"], c["n_used"] + c["n_available"])

    def test_ls(self):
        self.assertEqual(json.loads(self.ok("ls", "--json")), [])
        self.ok("put", "b\tname", input=b"12345")
        self.ok("put", "a", input=b"")
        self.ok("put", "z\u00fc\"\\", input=content(1234567))
        entries = json.loads(self.ok("ls", "--json"))
        self.assertEqual([(e["name"], e["type"], e["size"], e["refcount"]) for e in entries],
                         [("a", "bytes", 0, 1), ("b\tname", "bytes", 5, 1), ("z\u00fc\"\\", "bytes", 1234567, 1)])
        lines = self.ok("ls").decode().splitlines()
        self.assertEqual(lines[0].split(), ["NAME", "TYPE", "SIZE", "REFCOUNT", "REF"])
        self.assertEqual([line.split() for line in lines[1:]],
                         [["a", "bytes", "0", "1", entries[0]["ref"]],
                          ["b\\x09name", "bytes", "5", "1", entries[1]["ref"]],
                          ["z\u00fc\"\\\\", "bytes", "1,234,567", "1", entries[2]["ref"]]])
        self.assertEqual({len(line) for line in lines[1:]}, {len(lines[1])})

    @staticmethod
    def is_asleep_in_read(pid):
        with open(f"/proc/{pid}/syscall", encoding="utf-8") as file:
            return file.read().startswith("0 0x0 ")  # read(0, ...

    def test_clients(self):
        put = subprocess.Popen([PYHEAPCTL, "--socket", self.daemon.socket, "put", "x"], stdin=subprocess.PIPE)
        # It has the lock for a moment while it opens its session; then it sleeps until something is written to it.
        for _ in range(WATCHDOG * 100):
            clients = json.loads(self.ok("clients", "--json"))
            waiting = [c for c in clients if c["pid"] == put.pid]
            if waiting and not waiting[0]["has_lock"] and self.is_asleep_in_read(put.pid):
                break
            time.sleep(0.01)
        self.assertEqual(len(waiting), 1)
        self.assertEqual((waiting[0]["uid"], waiting[0]["program"], waiting[0]["self"], waiting[0]["has_lock"]),
                         (os.geteuid(), "pyheapctl", False, False))
        self.assertEqual([c["program"] for c in clients if c["self"]], ["pyheapctl"])
        rows = [line.split() for line in self.ok("clients").decode().splitlines()]
        self.assertEqual(rows[0], ["SESSION", "PID", "UID", "HOLDS", "ARENAS", "BYTES", "FLAGS", "PROGRAM"])
        self.assertIn([str(waiting[0]["session"]), str(put.pid), str(os.geteuid()), "0", "0", "0", "-", "-", "-", "pyheapctl"],
                      rows)
        self.ok("evict", str(waiting[0]["session"]))
        self.assertEqual(put.wait(WATCHDOG), -signal.SIGKILL)
        put.stdin.close()

    def test_evict_nobody(self):
        for session in ("77", "4294967295"):
            run = self.daemon.run("evict", session)
            self.assertEqual((run.returncode, run.stdout), (1, b""))
            self.assertIn(b"no other session", run.stderr)
        for session in ("", "x", "-1", "4294967296", "1x"):
            self.assertEqual(self.daemon.run("evict", "--", session).returncode, 2)

    def test_program_name_on_a_terminal(self):
        link = self.daemon.path("a\033[31m")
        os.symlink(PYHEAPCTL, link)
        result = subprocess.run([link, "--socket", self.daemon.socket, "clients"], capture_output=True,
                                timeout=WATCHDOG)
        self.assertEqual(result.returncode, 0)
        self.assertNotIn(b"\033", result.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
