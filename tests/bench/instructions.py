# SPDX-License-Identifier: MIT
"""How many instructions the hottest calls take, compared with what instructions.txt says.

Times say little on a busy machine; instructions are the same every time. Each work is run under valgrind's callgrind
with two lengths of its loop, and the difference is divided by that of the lengths: start and end do not count, the
loop's own few instructions do. Only one build is compared, the one that the file names: others have other counts.

--write writes the file anew (`ninja -C build instructions-write`). Exit status: 0 as many as said or fewer, 1 more than
SLACK above that or something failed, 77 skipped: another build, or no valgrind.
"""
import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile

from servers import Failed, Servers, environment

FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'instructions.txt')
SLACK = 0.15
SHORT, LONG = 2_000, 6_000
SKIPPED = 77
TIMEOUT_S = 120

# What the file calls it, and what the contender's program does.
CALLS = {
    'new + last decref, 48 B, own object': ['pair', '48'],
    'incref + decref of what is held already': ['held'],
    'pyheap_data': ['data'],
    'queue push + pop': ['push-pop'],
    'list_get + decref': ['list-get', '64'],
    'name_get + decref': ['name-get', '64'],
}


def skip(why):
    print(f'skipped: {why}')
    return SKIPPED


def collected(program, work, n, servers):
    """All instructions of the whole run."""
    heap, end_heap, _ = servers.heap(('--size', '64M'))
    command = ['valgrind', '--tool=callgrind', '--callgrind-out-file=/dev/null', program, '--loop', str(n), *work]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(heap), timeout=TIMEOUT_S,
                          check=False)
    end_heap()
    found = re.search(r'Collected\s*:\s*(\d+)', done.stderr)
    if done.returncode != 0 or not found:
        raise Failed(f'{" ".join(command)}: {done.stderr.strip()[-600:]}')
    return int(found[1])


def count_all(options):
    counts = {}
    with Servers(options.pyheapd, options.pyheapctl) as servers:
        for call, work in CALLS.items():
            short, long = (collected(options.program, work, n, servers) for n in (SHORT, LONG))
            counts[call] = (long - short) / (LONG - SHORT)
    return counts


def file_read():
    """The build, and what was counted."""
    with open(FILE, encoding='utf-8') as file:
        lines = [line.strip() for line in file if line.strip() and not line.startswith('#')]
    counts = dict(line.rsplit(None, 1) for line in lines[1:])
    return lines[0].split(':', 1)[1].strip(), {call: float(n) for call, n in counts.items()}


def file_write(build, counts):
    lines = ['# SPDX-License-Identifier: MIT',
             '# Instructions of one call, or one pair of calls; written by `ninja -C BUILD instructions-write`.',
             '# The test "instructions" compares.', f'build: {build}']
    lines += [f'{call:<44} {n:>8.0f}' for call, n in counts.items()]
    with open(FILE, 'w', encoding='utf-8') as file:
        file.write('\n'.join(lines) + '\n')
    print('\n'.join(lines))


def compare(said, counts):
    more = 0
    for call, n in counts.items():
        wanted = said.get(call)
        verdict = 'ok'
        if wanted is None:
            verdict, more = 'NOT IN THE FILE', more + 1
        elif n > wanted * (1 + SLACK):
            verdict, more = f'MORE than {wanted:.0f} and {SLACK:.0%}', more + 1
        elif n < wanted * (1 - SLACK):
            verdict = f'fewer than {wanted:.0f}: have the file written anew'
        print(f'{call:<44} {n:>8.0f}  {verdict}')
    return 1 if more else 0


def main():
    parser = argparse.ArgumentParser(description='Count the instructions of the hottest calls.')
    parser.add_argument('--program', required=True)
    parser.add_argument('--pyheapd', required=True)
    parser.add_argument('--pyheapctl', required=True)
    parser.add_argument('--build', required=True, help='compiler and optimisation')
    parser.add_argument('--sanitize', default='none')
    parser.add_argument('--write', action='store_true')
    options = parser.parse_args()

    build = f'{options.build} {platform.machine()}'
    if not shutil.which('valgrind'):
        return skip('no valgrind here')
    if options.sanitize != 'none':
        return skip('a build with sanitizers')
    if options.build.endswith(('-O0', '-Og', '-Oplain')):
        return skip('a build without optimisation')
    if not options.write and file_read()[0] != build:
        return skip(f'this build is {build}, the file is of {file_read()[0]}')
    try:
        counts = count_all(options)
    except (Failed, OSError, subprocess.TimeoutExpired) as error:
        print(f'FAILED: {error}')
        return 1
    if options.write:
        file_write(build, counts)
        return 0
    return compare(file_read()[1], counts)


if __name__ == '__main__':
    sys.exit(main())
