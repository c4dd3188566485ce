# SPDX-License-Identifier: MIT
"""pyheapctl run: a command with a heap of its own, which is gone with it, whichever process is killed."""
import os
import re
import signal
import subprocess
import tempfile
import unittest

import daemon_box
from daemon_box import until

PYHEAPCTL = os.environ["PYHEAPCTL"]
WATCHDOG_S = 300


def children_of(pid, name):
    """The pids of its children that run that program."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as f:
                stat = re.fullmatch(r"(\d+) \((.*)\) (\S) (\d+) .*\n?", f.read(), re.DOTALL)
            if stat and stat[2] == name and int(stat[4]) == pid and stat[3] != "Z":
                found.append(int(stat[1]))
        except OSError:
            pass
    return found


class Run(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="pyheap-run-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.env = {**os.environ, "XDG_RUNTIME_DIR": self.folder}
        self.env.pop("PYHEAP_SOCKET", None)

    def command(self, *args, size="16M"):
        return [PYHEAPCTL, "run", "--size", size, "--", *args]

    def run_(self, *args, **more):
        return subprocess.run(self.command(*args, **more), capture_output=True, text=True, timeout=WATCHDOG_S,
                              env=self.env, preexec_fn=daemon_box.die_with_parent)

    def start(self, *args):
        process = subprocess.Popen(self.command(*args), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                   env=self.env, preexec_fn=daemon_box.die_with_parent)
        self.addCleanup(self.clear, process)
        return process

    def clear(self, process):
        for stream in (process.stdin, process.stdout):
            stream.close()
        if process.poll() is None:
            process.kill()
        process.wait()

    def left(self):
        """What there is of heaps of runs of this test: files in its folder, and segments of the name of a socket."""
        names = {name.removeprefix("pyheap-").removesuffix(".lock") for name in os.listdir(self.folder)}
        return sorted(names) + [name for name in os.listdir("/dev/shm") if any(n in name for n in self.names | names)]

    names = frozenset()

    def note(self, path):
        """The heap of a run, by the path of its socket."""
        self.assertTrue(path.startswith(self.folder + "/pyheap-run-"), path)
        self.names = self.names | {os.path.basename(path).removeprefix("pyheap-")}

    def shell(self, text, *lines):
        """A shell that prints its socket, and then does as it is told by lines."""
        process = self.start("sh", "-c", 'echo "$PYHEAP_SOCKET"; ' + text, *lines)
        self.note(process.stdout.readline().strip())
        return process

    def test_its_own_heap(self):
        run = self.run_("sh", "-c", f'echo hello | {PYHEAPCTL} put x && {PYHEAPCTL} get x && echo "$PYHEAP_SOCKET"')
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        hello, path = run.stdout.splitlines()
        self.note(path)
        self.assertEqual(hello, "hello")
        self.assertEqual(self.left(), [])

    def test_two_at_once(self):
        a, b = (self.shell(f"echo {i} | {PYHEAPCTL} put x; read _; {PYHEAPCTL} get x") for i in (1, 2))
        for i, process in ((1, a), (2, b)):
            self.assertEqual(process.communicate("\n", timeout=WATCHDOG_S)[0].strip(), str(i))
        self.assertEqual(self.left(), [])

    def test_status(self):
        self.assertEqual(self.run_("sh", "-c", "exit 42").returncode, 42)
        self.assertEqual(self.run_("sh", "-c", "kill -9 $$").returncode, 128 + 9)
        self.assertEqual(self.run_("true").returncode, 0)
        for command, status in (("/nowhere/at/all", 127), ("no-such-program-anywhere", 127), (self.folder, 126)):
            run = self.run_(command)
            self.assertEqual(run.returncode, status)
            self.assertRegex(run.stderr, r"\Apyheapctl: cannot run, on '.*': .*; name a program")
        self.assertEqual(self.left(), [])

    def test_usage(self):
        for args in (["run"], ["run", "--size", "1M"], ["ls", "--size", "1M"]):
            self.assertEqual(subprocess.run([PYHEAPCTL, *args], capture_output=True, env=self.env).returncode, 2, args)

    def test_no_daemon(self):
        run = self.run_("touch", self.folder + "/begun", size="1x")
        self.assertEqual(run.returncode, 3)
        self.assertIn("--size 1x", run.stderr)
        self.env["PYHEAPD"] = "/nowhere/pyheapd"
        run = self.run_("touch", self.folder + "/begun")
        self.assertEqual(run.returncode, 3)
        self.assertIn("cannot start pyheapd", run.stderr)
        self.assertEqual(os.listdir(self.folder), [])

    def test_signals(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            process = self.shell("trap 'exit 7' TERM INT HUP USR1; echo ready; while :; do sleep 0.01; done")
            self.assertEqual(process.stdout.readline(), "ready\n")
            process.send_signal(number)
            self.assertEqual(process.wait(WATCHDOG_S), 7, number)
        self.assertEqual(self.left(), [])

    def test_the_command_is_killed(self):
        process = self.shell("echo $$; exec sleep 1000")
        os.kill(int(process.stdout.readline()), signal.SIGKILL)
        self.assertEqual(process.wait(WATCHDOG_S), 128 + 9)
        self.assertEqual(self.left(), [])

    def test_the_daemon_is_killed(self):
        process = self.shell(f"echo content | {PYHEAPCTL} put x; echo put; read _; {PYHEAPCTL} get x")
        self.assertEqual(process.stdout.readline(), "put\n")
        for _ in range(3):
            until(lambda: len(children_of(process.pid, "pyheapd")) == 1, "a daemon runs")
            daemon, = children_of(process.pid, "pyheapd")
            os.kill(daemon, signal.SIGKILL)
            until(lambda d=daemon: children_of(process.pid, "pyheapd") not in ([], [d]), "another daemon runs")
            self.wait_served()
        self.assertEqual(process.communicate("\n", timeout=WATCHDOG_S)[0], "content\n")
        self.assertEqual(process.returncode, 0)
        self.assertEqual(self.left(), [])

    def wait_served(self):
        socket = f"{self.folder}/pyheap-{next(iter(self.names))}"
        until(lambda: subprocess.run([PYHEAPCTL, "--socket", socket, "ls"], capture_output=True,
                                     timeout=WATCHDOG_S).returncode == 0, "the daemon serves")

    def test_it_is_killed(self):
        """The command and its daemon go on; the heap goes with the command."""
        process = self.shell(f"echo content | {PYHEAPCTL} put x; echo put; read _; {PYHEAPCTL} get x; echo $?; "
                             f"while [ ! -e {self.folder}/end ]; do sleep 0.01; done; rm {self.folder}/end")
        self.assertEqual(process.stdout.readline(), "put\n")
        process.kill()
        process.wait()
        process.stdin.write("\n")
        process.stdin.flush()
        self.assertEqual((process.stdout.readline(), process.stdout.readline()), ("content\n", "0\n"))
        with open(self.folder + "/end", "w", encoding="utf-8"):
            pass
        until(lambda: self.left() == [], "the heap is gone")

    def test_ended_before_the_daemon_serves(self):
        """--until of a process that is there no more: the daemon ends, and leaves nothing."""
        gone = subprocess.Popen(["true"])
        gone.wait()
        name = f"until-{os.getpid()}"
        run = subprocess.run([os.environ["PYHEAPD"], "--name", name, "--socket", self.folder + "/s", "--size", "16M",
                              "--until", str(gone.pid)], capture_output=True, text=True, timeout=WATCHDOG_S)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn(f"process {gone.pid} has ended", run.stderr)
        self.assertEqual([n for n in os.listdir("/dev/shm") if name in n], [])


if __name__ == "__main__":
    daemon_box.main()
