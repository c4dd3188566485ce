# SPDX-License-Identifier: MIT
"""
pyheapd's socket, spoken by hand: a client of nothing but Python's standard library.

It encodes the few forms of protocol buffers that proto/pyheap.proto uses, so it is also an example of how small a client
of the socket can be. It uses nothing of the shared memory it is given, but takes its session there, as it has to.
"""
import array
import os
import socket
import struct

# Fields of ToDaemon and FromDaemon.
HELLO, GRANT_REQUEST, STATS_REQUEST, GOODBYE, EVICT_REQUEST, USAGE_REQUEST, RESET_REQUEST = 1, 2, 3, 4, 5, 6, 7
WELCOME, GRANT, STATS, GOODBYE_FROM_DAEMON, ERROR, EVICTED, USAGE, RESET_DONE = 1, 2, 3, 4, 5, 6, 7, 8

# heap/shared/layout.h: struct control, session_entry
SESSIONS_OFF, SESSION_SIZE, SESSION_STATE, SESSION_ATTACHMENT = 160, 1920, 0, 100
FREE, ACTIVE, DEAD = 0, 1, 2
OFFERED, TAKEN, CLOSED = 0, 1, 2

WATCHDOG_S = 300  # no answer takes that long, not on a busy machine either, unless something is broken


def varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def uint(field, n):
    return varint(field << 3) + varint(n) if n else b""


def fixed64(field, n):
    return varint(field << 3 | 1) + struct.pack("<Q", n)


def octets(field, value):
    return varint(field << 3 | 2) + varint(len(value)) + value


def frame(message):
    return struct.pack("<I", len(message)) + message


def hello(layout_hash, protocol=1, program="wire.py", resume=None, image=0):
    body = uint(1, protocol) + fixed64(2, layout_hash) + octets(3, program.encode())
    if resume:
        body += uint(4, resume[0]) + octets(5, resume[1])
    if image:
        body += fixed64(7, image)
    return frame(octets(HELLO, body))


def grant_request(run_length, n_runs):
    return frame(octets(GRANT_REQUEST, uint(1, run_length) + uint(2, n_runs)))


def stats_request():
    return frame(octets(STATS_REQUEST, b""))


def evict_request(session):
    return frame(octets(EVICT_REQUEST, uint(1, session)))


def usage_request(first):
    return frame(octets(USAGE_REQUEST, uint(1, first)))


def reset_request(with_sessions):
    return frame(octets(RESET_REQUEST, uint(1, with_sessions)))


def goodbye():
    return frame(octets(GOODBYE, b""))


def varints(data):
    at = 0
    while at < len(data):
        n = shift = 0
        while True:
            n |= (data[at] & 127) << shift
            shift += 7
            at += 1
            if data[at - 1] < 128:
                break
        yield n


def fields(data):
    """{number: [value, ...]}; values are numbers or bytes."""
    out = {}
    at = 0

    def number():
        nonlocal at
        n = shift = 0
        while True:
            n |= (data[at] & 127) << shift
            shift += 7
            at += 1
            if data[at - 1] < 128:
                return n

    while at < len(data):
        key = number()
        kind = key & 7
        if kind == 0:
            value = number()
        elif kind == 1:
            value = struct.unpack_from("<Q", data, at)[0]
            at += 8
        elif kind == 2:
            n = number()
            value = data[at:at + n]
            at += n
        else:
            raise ValueError("wire type %d" % kind)
        out.setdefault(key >> 3, []).append(value)
    return out


def layout_hash_of(name):
    """Of the heap that a daemon of this machine serves: it stands at the control segment's beginning."""
    with open("/dev/shm/pyheap.%s.ctl" % name, "rb") as f:
        return struct.unpack("<QIIQ", f.read(24))[3]


class Closed(Exception):
    """The daemon ended the connection."""


class Wire:
    """A connection. What the daemon says comes as (kind, fields)."""

    def __init__(self, path, layout_hash=0):
        self.layout_hash = layout_hash
        self.buffer = b""
        self.fds = []
        self.welcome = {}
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.socket.settimeout(WATCHDOG_S)
        self.socket.connect(path)

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        while len(self.buffer) < 4 or len(self.buffer) < 4 + struct.unpack_from("<I", self.buffer)[0]:
            room = socket.CMSG_SPACE(8 * 4)
            try:
                data, ancillary, _, _ = self.socket.recvmsg(65536, room, socket.MSG_CMSG_CLOEXEC)
            except ConnectionResetError:
                raise Closed() from None
            for level, kind, value in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds = array.array("i")
                    fds.frombytes(value)
                    self.fds.extend(fds)
            if not data:
                raise Closed()
            self.buffer += data
        n = struct.unpack_from("<I", self.buffer)[0]
        message, self.buffer = self.buffer[4:4 + n], self.buffer[4 + n:]
        (kind, bodies), = fields(message).items()
        return kind, fields(bodies[0])

    def say_hello(self, **arguments):
        """A session: its number. Raises AssertionError where the daemon says anything else."""
        self.send(hello(self.layout_hash, **arguments))
        return self.expect_welcome()

    def expect_welcome(self):
        self.expect_offer()
        self.take()
        return self.session

    def expect_offer(self):
        """A Welcome to a session that is not taken yet."""
        self.welcome = self.expect(WELCOME)
        return self.session

    def entry_off(self, member):
        """Where a member of the session's entry in the session table is, in the control segment."""
        sessions, = struct.unpack("<Q", os.pread(self.fds[0], 8, SESSIONS_OFF))
        return sessions + self.session * SESSION_SIZE + member

    def take(self):
        """Say in the session table that the session is in use. (By compare-and-swap, where the daemon may end meanwhile.)"""
        os.pwrite(self.fds[0], struct.pack("<I", TAKEN), self.entry_off(SESSION_ATTACHMENT))

    def leave(self):
        """Say in the session table that the session is closed."""
        os.pwrite(self.fds[0], struct.pack("<I", CLOSED), self.entry_off(SESSION_ATTACHMENT))

    def state(self):
        """Of the session, in the session table."""
        return struct.unpack("<I", os.pread(self.fds[0], 4, self.entry_off(SESSION_STATE)))[0]

    @property
    def session(self):
        return self.welcome.get(3, [0])[0]

    @property
    def token(self):
        return self.welcome[8][0]

    def expect(self, expected):
        kind, body = self.receive()
        assert kind == expected, "expected message %d, got %d: %r" % (expected, kind, body)
        return body

    def expect_error(self, code):
        body = self.expect(ERROR)
        assert body[1] == [code], "expected errno %d, got %r" % (code, body)
        return body[2][0].decode()

    def expect_end(self):
        try:
            kind, body = self.receive()
        except Closed:
            return
        raise AssertionError("expected the end, got %d: %r" % (kind, body))

    def stats(self):
        self.send(stats_request())
        return self.expect(STATS)

    def usage(self):
        """{session: (arenas, bytes)} of all sessions."""
        found, first = {}, 0
        while True:
            self.send(usage_request(first))
            body = self.expect(USAGE)
            for message in body.get(1, []):
                session = fields(message)
                found[session.get(1, [0])[0]] = (session.get(2, [0])[0], session.get(3, [0])[0])
            first = body.get(2, [0])[0]
            if not first:
                return found

    def n_sessions(self):
        return self.stats().get(20, [0])[0]

    def grant(self, run_length, n_runs):
        self.send(grant_request(run_length, n_runs))
        return list(varints(self.expect(GRANT)[1][0]))

    def close(self):
        self.socket.close()
        for fd in self.fds:
            os.close(fd)
        self.fds = []
