# SPDX-License-Identifier: MIT
"""Peer: Python's multiprocessing.shared_memory.

name-size: attach to a segment by its name, look at its first and last byte, detach. name-read: the same, and every byte
is read. It speaks as contender.c does.
"""
import os
import sys
import time
from multiprocessing import resource_tracker, shared_memory

N_NAMES_SIZED = 16


def attach(name):
    """Without the resource tracker, which takes away what others still use, and would be measured as well."""
    register, resource_tracker.register = resource_tracker.register, lambda *_: None
    try:
        return shared_memory.SharedMemory(name)
    finally:
        resource_tracker.register = register


def loop(names, size, n, read):
    for i in range(n):
        at = i % N_NAMES_SIZED
        segment = attach(names[at])
        assert segment.buf[0] == at and segment.buf[size - 1] == at
        if read:
            assert segment.buf[:size].tobytes().count(0) >= size - 2
        segment.close()


def main():
    if sys.argv[1] == '--version':
        print(sys.version.split()[0])
        return
    size = int(sys.argv[2])
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    segments = [shared_memory.SharedMemory(f'pyheap-bench.{os.getpid()}.{i}', create=True, size=size)
                for i in range(N_NAMES_SIZED)]
    try:
        for i, segment in enumerate(segments):
            segment.buf[0] = segment.buf[size - 1] = i
        names = [segment.name for segment in segments]
        print('ready', flush=True)
        for line in sys.stdin:
            n = int(line)
            begin = time.perf_counter_ns()
            loop(names, size, n, sys.argv[1] == 'name-read')
            print((time.perf_counter_ns() - begin) / n, flush=True)
    finally:
        for segment in segments:
            segment.close()
            segment.unlink()


main()
