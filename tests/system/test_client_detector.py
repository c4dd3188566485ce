# SPDX-License-Identifier: MIT
"""A program with a race detector, and the library without: pyheap_lock() is a lock for the detector, too."""
import os
import subprocess
import unittest

import daemon_box
from daemon_box import Daemon


class Detector(unittest.TestCase):
    def test_threads(self):
        self.daemon = Daemon(self, "--size", "16M").start()
        env = dict(os.environ, PYHEAP_SOCKET=self.daemon.socket, TSAN_OPTIONS="exitcode=66")
        # The detector's shadow of memory does not go with every layout of addresses.
        done = subprocess.run(["setarch", "-R", os.environ["PYHEAP_THREADS_LOCKER"]], env=env, capture_output=True,
                              text=True, check=False)
        if "unexpected memory mapping" in done.stderr or "setarch: failed" in done.stderr:
            self.skipTest(done.stderr)
        self.assertEqual((done.returncode, done.stderr), (0, ""))


if __name__ == "__main__":
    daemon_box.main()
