# SPDX-License-Identifier: MIT
"""Clients that are silent, slow, many, killed, without rights, or back again: what becomes of their sessions."""
import errno
import os
import pwd
import resource
import shutil
import signal
import socket
import subprocess
import unittest

import daemon_box
import wire
from daemon_box import Child, Daemon, until

IS_ROOT = os.geteuid() == 0
AS_NOBODY = unittest.skipUnless(daemon_box.can_be_nobody(), "only root can be somebody else, where others can run programs")
SETPRIV = shutil.which("setpriv")


def has_peerpidfd():
    """Does the kernel give pidfds for the other end of a socket (SO_PEERPIDFD, Linux 6.5)?"""
    if os.environ.get("PYHEAP_NO_PEERPIDFD"):  # to try it with a daemon that was told so
        return False
    a, b = socket.socketpair()
    with a, b:
        try:
            os.close(a.getsockopt(socket.SOL_SOCKET, 77))
            return True
        except OSError:
            return False


class Clients(unittest.TestCase):
    def start(self, *args):
        self.daemon = Daemon(self, "--size", "32M", *args).start()

    def session(self):
        return self.daemon.session()

    def child(self, function=None):
        """A process with a session of its own."""
        return Child(self, function or self.daemon.session)

    # ---- silent, slow ----

    def test_silent(self):
        self.start()
        silent = self.daemon.wire()
        other = self.session()
        self.assertIn("Hello", silent.expect_error(errno.ETIMEDOUT))
        silent.expect_end()
        self.assertEqual(other.n_sessions(), 1)
        self.daemon.wait_log("did not say Hello")

    def test_slow_reader(self):
        self.start()
        slow, other = self.session(), self.session()
        slow.socket.settimeout(5)
        n = 0
        try:
            while "does not read" not in self.daemon.log():
                slow.send(100 * wire.stats_request())
                other.stats()
                n += 1
                self.assertLess(n, 10000)
        except OSError:  # it is disconnected
            pass
        self.daemon.wait_log("does not read its answers")
        self.assertEqual(other.n_sessions(), 2)  # its process lives on

    # ---- many ----

    def test_more_sessions_than_slots(self):
        self.start("--max-sessions", "3")
        sessions = [self.session() for _ in range(3)]
        refused = self.daemon.wire()
        refused.send(wire.hello(refused.layout_hash))
        self.assertIn("3 sessions", refused.expect_error(errno.EUSERS))
        refused.expect_end()
        sessions[1].send(wire.goodbye())
        sessions[1].expect_end()
        self.assertEqual(self.session().session, sessions[1].session)

    def hello_error(self, layout_hash, error):
        """What the daemon says to a Hello that it refuses."""
        refused = wire.Wire(self.daemon.socket, layout_hash)
        self.daemon.wires.append(refused)
        refused.send(wire.hello(layout_hash))
        text = refused.expect_error(error)
        refused.expect_end()
        return text

    def test_sessions_are_kept(self):
        """A process that takes all that it gets does not keep another one out."""
        self.start("--max-sessions", "16")
        sessions = [self.session() for _ in range(14)]
        self.assertIn("kept", self.hello_error(sessions[0].layout_hash, errno.EUSERS))
        others = [self.child() for _ in range(2)]
        self.assertEqual(sessions[0].n_sessions(), 16)
        others[0].kill()
        until(lambda: sessions[0].n_sessions() == 15, "its session is free")
        self.assertIn("kept", self.hello_error(sessions[0].layout_hash, errno.EUSERS))

    @AS_NOBODY
    def test_sessions_of_a_user(self):
        self.start("--max-sessions", "16", "--user-sessions", "3", "--group", "65534")
        first = self.session()

        def take_all():
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            for _ in range(3):
                c = wire.Wire(self.daemon.socket, first.layout_hash)
                self.daemon.wires.append(c)
                c.say_hello()
            return self.hello_error(first.layout_hash, errno.EUSERS)

        child = self.child(take_all)
        self.assertIn("--user-sessions", child.result)
        self.assertEqual(first.n_sessions(), 4)
        child.kill()
        until(lambda: first.n_sessions() == 1, "its sessions are free")
        self.child(take_all)

    def connect(self):
        """None: the backlog is full."""
        try:
            return self.daemon.wire()
        except BlockingIOError:
            return None

    def test_silent_connections_keep_nobody_out(self):
        self.start("--max-sessions", "4")
        first = self.session()
        silent = [until(self.connect, "the backlog has room") for _ in range(3 * 68)]
        self.assertEqual(self.session().n_sessions(), 2)
        self.assertIn("makes room", silent[0].expect_error(errno.EUSERS))
        self.daemon.wait_log("makes room")
        self.assertEqual(first.n_sessions(), 2)

    def test_waits_for_a_session_that_is_being_cleared_up(self):
        self.start("--max-sessions", "1")
        for _ in range(100):
            c = self.daemon.wire()
            c.send(wire.hello(c.layout_hash))
            c.expect_welcome()
            c.send(wire.goodbye())
            c.close()

    def test_many_connections(self):
        self.start("--max-sessions", "100", "--kept-sessions", "0")
        sessions = [self.session() for _ in range(100)]
        self.assertEqual(sorted(s.session for s in sessions), list(range(100)))
        for s in sessions:
            s.send(wire.stats_request())
        for s in sessions:
            self.assertEqual(s.expect(wire.STATS)[20], [100])

    def test_members_come_before_strangers(self):
        """Silent connections take all the room that there is for new sessions; a session that is there comes back."""
        self.start("--max-sessions", "2")
        member = self.session()
        member.socket.close()
        silent = [self.daemon.wire() for _ in range(67)]
        back = self.daemon.wire()
        self.assertEqual(back.say_hello(resume=(member.session, member.token)), member.session)
        self.assertEqual(back.n_sessions(), 1)
        self.assertTrue(silent)

    def test_more_connections_than_descriptors(self):
        def few_descriptors():
            daemon_box.die_with_parent()
            resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))

        self.daemon = Daemon(self, "--size", "32M").start(preexec_fn=few_descriptors)
        self.daemon.wait_log("only 40 descriptors are allowed")
        first = self.session()
        strangers = [self.daemon.wire() for _ in range(60)]
        self.daemon.wait_log("out of file descriptors")
        self.assertEqual(first.n_sessions(), 1)
        for stranger in strangers:
            stranger.close()
        until(self.can_open, "there are descriptors again")
        self.assertEqual(len(first.grant(1, 1)), 1)

    def can_open(self):
        try:
            return self.daemon.session()
        except (AssertionError, wire.Closed, BrokenPipeError):  # it is refused yet
            return None

    # ---- evicted ----

    def test_evicted(self):
        self.start()
        first = self.session()
        child = self.child(lambda: self.daemon.session().session)
        first.send(wire.evict_request(int(child.result)))
        first.expect(wire.EVICTED)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]), -signal.SIGKILL)
        child.pid = 0
        until(lambda: first.n_sessions() == 1, "its session is free")
        for session in (int(child.result), first.session, 511, 512, 2 ** 32 - 1):
            first.send(wire.evict_request(session))
            first.expect_error(errno.ESRCH)
        self.assertEqual(first.n_sessions(), 1)

    @AS_NOBODY
    def test_evicted_by_another_user(self):
        self.start("--group", "65534")
        first = self.session()

        def evict():
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            c = wire.Wire(self.daemon.socket, first.layout_hash)
            self.daemon.wires.append(c)
            c.say_hello()
            c.send(wire.evict_request(first.session))
            return c.expect_error(errno.EACCES)

        self.child(evict)
        self.assertEqual(first.n_sessions(), 2)

    # ---- the end of a process ----

    def test_killed(self):
        self.start()
        witness = self.session()
        n_fds = self.daemon.n_fds()
        children = [self.child() for _ in range(5)]
        self.assertEqual(witness.n_sessions(), 6)
        for child in children:
            child.kill()
        until(lambda: witness.n_sessions() == 1, "the sessions of the dead are free")
        until(lambda: self.daemon.n_fds() == n_fds, "nothing of them is left in the daemon")

    def test_lost_connection_is_not_the_end(self):
        self.start()
        witness = self.session()

        def leave():
            self.daemon.session().close()
            return "closed"

        child = self.child(leave)
        for _ in range(20):
            self.assertEqual(witness.n_sessions(), 2)
        child.kill()
        until(lambda: witness.n_sessions() == 1, "its session is free")

    def test_a_zombie_is_dead(self):
        self.start()
        witness = self.session()
        child = self.child()
        os.kill(child.pid, signal.SIGKILL)  # and nobody waits for it
        until(lambda: witness.n_sessions() == 1, "its session is free")

    def test_an_inherited_connection_is_not_the_process(self):
        self.start()
        witness = self.session()
        r, w = os.pipe()
        self.addCleanup(os.close, w)

        def leave_it_to_a_child():
            session = self.daemon.session()
            if os.fork() == 0:
                os.close(w)
                os.read(r, 1)  # until the test is over
                os._exit(len(session.fds) - 2)
            return "forked"

        child = self.child(leave_it_to_a_child)
        os.close(r)
        self.assertEqual(witness.n_sessions(), 2)
        child.kill()
        until(lambda: witness.n_sessions() == 1, "the session ends with the process that opened it")

    def test_killed_with_a_grant_under_way(self):
        self.start()
        witness = self.session()
        for _ in range(10):

            def ask():
                session = self.daemon.session()
                session.send(wire.grant_request(100, 1))

            self.child(ask).kill()
            until(lambda: witness.n_sessions() == 1, "its session is free")
            until(lambda: self.daemon.heap_bytes() == 0, "its memory is returned")
        self.assertEqual(len(witness.grant(100, 1)), 1)

    @unittest.skipUnless(daemon_box.can_unshare("-Upf" if not IS_ROOT else "-pf"), "needs a pid namespace")
    def test_of_another_pid_namespace(self):
        """The daemon sees no pid for processes outside of its own namespace; their death it sees."""
        self.daemon = Daemon(self, "--size", "32M")
        self.daemon.unshared = ["unshare", "-Upf" if not IS_ROOT else "-pf", "--kill-child"]
        self.daemon.start()
        if not has_peerpidfd():
            self.daemon.wire().expect_error(errno.EOPNOTSUPP)
            return
        child = self.child()
        witness = self.session()
        self.daemon.wait_log("session 0 (pid 0, wire.py) is admitted")
        self.assertEqual(witness.n_sessions(), 2)
        child.kill()
        until(lambda: witness.n_sessions() == 1, "its session is free")

    # ---- back again ----

    def test_resume(self):
        self.start()
        a = self.session()
        a.grant(1, 1)
        self.assertEqual(self.daemon.heap_bytes(), 256 << 10)
        b = self.daemon.wire()
        self.assertEqual(b.say_hello(resume=(a.session, a.token)), a.session)
        self.assertEqual(b.token, a.token)
        a.expect_end()  # it had a connection still
        until(lambda: self.daemon.heap_bytes() == 0, "what was granted and not used is taken back")
        self.assertEqual(b.n_sessions(), 1)
        self.assertEqual(len(b.grant(1, 1)), 1)

    def test_resume_with_requests_behind_it(self):
        self.start()
        a = self.session()
        b = self.daemon.wire()
        b.send(wire.hello(b.layout_hash, resume=(a.session, a.token)) + wire.stats_request())
        b.expect_welcome()
        b.expect(wire.STATS)
        b.close()

    def test_resume_what_is_not_ones_own(self):
        self.start()
        a = self.session()
        for resume in ((a.session, bytes(16)), (a.session, a.token[:15]), (a.session, a.token + b"x"),
                       (a.session + 1, a.token), (511, a.token), (512, a.token), (2 ** 32 - 1, a.token)):
            c = self.daemon.wire()
            c.send(wire.hello(c.layout_hash, resume=resume))
            c.expect_error(errno.ESTALE)
            c.expect_end()
        a.send(wire.goodbye())
        a.expect_end()
        c = self.daemon.wire()
        c.send(wire.hello(c.layout_hash, resume=(a.session, a.token)))
        c.expect_error(errno.ESTALE)

    def test_resume_by_another_process(self):
        self.start()
        a = self.session()

        def steal():
            c = self.daemon.wire()
            c.send(wire.hello(c.layout_hash, resume=(a.session, a.token)))
            return c.expect_error(errno.ESTALE)

        self.assertIn("not this process's", self.child(steal).result)
        self.assertEqual(a.n_sessions(), 1)

    # ---- back again, in every state that a session can be in ----

    def offer(self, resume=None):
        """A session that is not taken yet, with a connection of its own."""
        c = self.daemon.wire()
        c.send(wire.hello(c.layout_hash, resume=resume))
        c.expect_offer()
        return c

    def resume_in_vain(self, session, token):
        c = self.daemon.wire()
        c.send(wire.hello(c.layout_hash, resume=(session, token)))
        self.assertIn("gone", c.expect_error(errno.ESTALE))
        c.expect_end()

    def test_resume_what_is_offered(self):
        """The session is not taken yet and still has its first connection."""
        self.start()
        a = self.offer()
        b = self.offer((a.session, a.token))
        self.assertEqual((b.session, b.token), (a.session, a.token))
        a.expect_end()
        self.assertEqual(b.state(), wire.ACTIVE)
        b.take()
        self.assertEqual(len(b.grant(1, 1)), 1)
        self.assertEqual(b.n_sessions(), 1)
        self.assertEqual(b.state(), wire.ACTIVE)

    def test_the_end_of_who_resumed_what_is_offered(self):
        self.start()
        witness = self.session()

        def resume():
            a = self.offer()
            b = self.offer((a.session, a.token))
            b.take()
            self.assertEqual(b.n_sessions(), 2)
            return b.state()

        child = self.child(resume)
        self.assertEqual(child.result, repr(wire.ACTIVE))
        child.kill()
        until(lambda: witness.n_sessions() == 1, "the end of its process is seen")

    def test_goodbye_after_what_is_offered_was_resumed(self):
        self.start("--max-sessions", "2")
        witness = self.session()
        for _ in range(20):
            a = self.offer()
            b = self.offer((a.session, a.token))
            b.send(wire.goodbye())
            b.expect_end()
            until(lambda: witness.n_sessions() == 1, "its session is free")
        self.assertEqual(self.session().session, 1)

    def test_resumed_and_never_taken(self):
        """Each connection ends without the session having been taken, the last one ends the session."""
        self.start()
        witness = self.session()
        a = self.offer()
        b = self.offer((a.session, a.token))
        self.assertEqual(witness.n_sessions(), 2)
        b.close()
        until(lambda: witness.n_sessions() == 1, "its session is free")
        self.resume_in_vain(a.session, a.token)

    def test_resumed_and_gone_at_once(self):
        self.start()
        witness = self.session()
        for _ in range(20):
            a = self.offer()
            b = self.daemon.wire()
            b.send(wire.hello(b.layout_hash, resume=(a.session, a.token)))
            b.close()
            a.expect_end()
            until(lambda: witness.n_sessions() == 1, "its session is free")

    def test_resume_again_and_again(self):
        self.start()
        first = last = self.offer()
        for _ in range(20):
            before, last = last, self.offer((first.session, first.token))
            before.expect_end()
        last.take()
        self.assertEqual(last.n_sessions(), 1)
        self.assertEqual(last.state(), wire.ACTIVE)

    def test_resume_twice_at_once(self):
        """The last one has the session. The other may have been welcomed before."""
        self.start()
        for is_taken in (False, True):
            a = self.offer()
            if is_taken:
                a.take()
            both = [self.daemon.wire() for _ in range(2)]
            for c in both:
                c.send(wire.hello(c.layout_hash, resume=(a.session, a.token)))
            welcomed = [c for c in both if self.goes_well(c.expect_offer)]
            served = [c for c in welcomed if self.goes_well(c.stats)]
            self.assertEqual(len(served), 1)
            last = served[0]
            last.take()
            self.assertEqual(last.state(), wire.ACTIVE)
            self.assertEqual(last.n_sessions(), 1)
            last.send(wire.goodbye())
            last.expect_end()

    def goes_well(self, call):
        """False: the daemon ended the connection."""
        try:
            call()
        except (wire.Closed, BrokenPipeError):
            return False
        return True

    def test_resume_what_is_closed(self):
        """The session says in the table that it is closed, and its Goodbye has not come."""
        self.start()
        witness = self.session()
        for has_connection in (True, False):
            a = self.session()
            session, token = a.session, a.token
            if not has_connection:
                a.socket.close()
                self.assertEqual(witness.n_sessions(), 2)
            a.leave()
            self.resume_in_vain(session, token)
            if has_connection:
                a.expect_end()
            until(lambda: witness.n_sessions() == 1, "its session is free")

    def test_resume_after_goodbye(self):
        self.start()
        witness = self.session()
        for is_taken in (False, True):
            a = self.offer()
            if is_taken:
                a.take()
            b = self.daemon.wire()
            a.send(wire.goodbye())
            a.expect_end()
            b.send(wire.hello(b.layout_hash, resume=(a.session, a.token)))
            b.expect_error(errno.ESTALE)
            until(lambda: witness.n_sessions() == 1, "its session is free")

    def test_goodbye_of_a_connection_that_was_replaced(self):
        """It ends that connection, and not the session that another one has now."""
        self.start()
        a = self.session()
        b = self.daemon.wire()
        b.say_hello(resume=(a.session, a.token))
        try:
            a.send(wire.goodbye())
        except OSError:  # it is closed already
            pass
        self.assertEqual(b.n_sessions(), 1)
        self.assertEqual(b.state(), wire.ACTIVE)

    def test_resume_while_the_connection_is_closing(self):
        """A connection that failed stays for a while so that its client can read why; its session may be resumed."""
        self.start()
        witness = self.session()
        a = self.session()
        a.send(wire.grant_request(0, 0))  # an error; the client does not read it, and its end stays open
        b = self.daemon.wire()
        self.assertEqual(b.say_hello(resume=(a.session, a.token)), a.session)
        a.expect_error(errno.EBADMSG)
        a.expect_end()
        self.assertEqual(b.state(), wire.ACTIVE)
        self.assertEqual(b.n_sessions(), 2)
        c = self.offer()
        c.send(wire.grant_request(0, 0))
        c.expect_error(errno.EBADMSG)
        self.resume_in_vain(c.session, c.token)  # it was never taken, so it ended with its connection
        until(lambda: witness.n_sessions() == 2, "its session is free")

    # ---- rights ----

    @AS_NOBODY
    def test_rights(self):
        nobody = pwd.getpwnam("nobody")
        group = 12345
        self.start("--group", str(group))
        self.assertEqual(os.stat(self.daemon.socket).st_mode & 0o777, 0o660)
        self.assertEqual(os.stat(self.daemon.socket).st_gid, group)
        self.assertEqual(self.as_user(nobody, "--clear-groups"), errno.EACCES)  # says the file
        self.assertEqual(self.as_user(nobody, "--groups", "%d" % group), "welcome")
        self.assertEqual(self.as_user(nobody, "--groups", "%d,%d" % (nobody.pw_gid, group)), "welcome")
        os.chmod(self.daemon.socket, 0o666)
        self.assertEqual(self.as_user(nobody, "--clear-groups"), "error 13")  # says the daemon
        self.daemon.wait_log("user %d may not use this heap" % nobody.pw_uid)

    @AS_NOBODY
    def test_no_rights_without_a_group(self):
        self.start()
        self.assertEqual(os.stat(self.daemon.socket).st_mode & 0o777, 0o600)
        os.chmod(self.daemon.socket, 0o666)
        self.assertEqual(self.as_user(pwd.getpwnam("nobody"), "--clear-groups"), "error 13")

    def as_user(self, user, *arguments):
        """What a process of that user hears. It runs what it can read wherever the tests lie: its program comes by -c."""
        program = (
            "import socket, struct, sys\n"
            "s = socket.socket(socket.AF_UNIX)\n"
            "s.settimeout(60)\n"
            "try: s.connect(sys.argv[1])\n"
            "except OSError as e: sys.exit(str(e.errno))\n"
            "s.sendall(bytes.fromhex(sys.argv[2]))\n"
            "kind = s.recv(4096)\n"
            "sys.exit('welcome' if kind[4] == 0x0a else 'error %d' % kind[7])\n")
        hello = wire.hello(wire.layout_hash_of(self.daemon.name)).hex()
        run = subprocess.run([SETPRIV, "--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), *arguments,
                              "/usr/bin/python3", "-c", program, self.daemon.socket, hello],
                             stderr=subprocess.PIPE, text=True, cwd="/", timeout=wire.WATCHDOG_S)
        said = run.stderr.strip()
        return int(said) if said.isdigit() else said


if __name__ == "__main__":
    daemon_box.main()
