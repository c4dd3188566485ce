# SPDX-License-Identifier: MIT
"""The benchmark: pyheap beside its peers.

Run it by `meson test --benchmark`, or by tests/bench.sh, which installs the peers and builds first.
$PYHEAP_BENCH has further options, $PYHEAP_BENCH_PUBLISH=1 stands for --publish.

Exit status: 0 measured, 1 something failed or was interrupted, 2 wrong use. It says nothing about times: the table
says for each target whether it is met.
"""
import argparse
import datetime
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

from chart import chart
from measure import measure, python_program
from report import machine, publish, read_json, rows_of, table, write, write_json
from servers import Failed, Servers, environment
from works import MEMCACHED, OURS, PEERS, REDIS, works

HERE = os.path.dirname(os.path.abspath(__file__))
FEWEST_ROUNDS = 5
N_LIVE, N_LIVE_BYTES = 10_000_000, 4 << 30
N_LIVE_SMALL = 1_000_000


def options_parse(arguments):
    parser = argparse.ArgumentParser(description='Measure pyheap beside its peers.')
    parser.add_argument('--pyheapd', required=True, metavar='PROGRAM')
    parser.add_argument('--pyheapctl', required=True, metavar='PROGRAM')
    parser.add_argument('--program', nargs=2, action='append', default=[], metavar=('NAME', 'PATH'),
                        help='a contender that was built')
    parser.add_argument('--build', default='', help='what build this is, for the reader')
    parser.add_argument('--output', default='.', metavar='FOLDER', help='where results.json and results.svg go')
    parser.add_argument('--publish', action='store_true', help='write them to tests/bench, and doc/benchmark.md\'s table, too')
    parser.add_argument('--from', dest='source', metavar='FILE', help='measure nothing, take that results.json')
    parser.add_argument('--rounds', type=int, default=11, help=f'measured runs of each contender, at least 1; 11, and '
                        f'{FEWEST_ROUNDS} of those that take long')
    parser.add_argument('--round-ms', type=float, default=20, help='about how long each takes, of most works; 20')
    parser.add_argument('--seconds', type=float, default=200, help='when that is running out, rounds are left out, but '
                        f'{FEWEST_ROUNDS}; 200')
    parser.add_argument('--only', action='append', metavar='WORK', help='only that work; may be given again')
    parser.add_argument('--list', action='store_true', help='name the works')
    return parser.parse_args(arguments + shlex.split(os.environ.get('PYHEAP_BENCH', '')))


# ---- who takes part ----------------------------------------------------------------------------------------------

def _first_line(command):
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    return done.stdout.strip().split('\n')[0] if done.returncode == 0 else ''


def _version(peer, program):
    if peer in (REDIS, MEMCACHED):
        name = {REDIS: 'redis-server', MEMCACHED: 'memcached'}[peer]
        words = _first_line([name, '--version']).replace('v=', '').split() if shutil.which(name) else []
        return next((word for word in words if word[0].isdigit()), '')
    return _first_line([*program, '--version']).split('-0-g')[0]  # jemalloc adds its commit


def peers_find(programs):
    """What the report says of each, and the set of those that are there."""
    said, there = [], {OURS}
    for peer, (name, packages) in PEERS.items():
        version = _version(peer, programs[name]) if name in programs else ''
        if version:
            there.add(peer)
            said.append({'name': peer, 'version': version})
        else:
            said.append({'name': peer, 'left_out': f'not installed, or not when this was built (Debian: {packages})'})
    return said, there


def live_objects():
    """As many as the machine's memory has room for."""
    with open('/proc/meminfo', encoding='utf-8') as file:
        available = {line.split(':')[0]: int(line.split()[1]) << 10 for line in file}['MemAvailable']
    shm = os.statvfs('/dev/shm')
    return N_LIVE if min(available, shm.f_bavail * shm.f_frsize) > N_LIVE_BYTES else N_LIVE_SMALL


# ---- the run -----------------------------------------------------------------------------------------------------

def run(options, chosen, programs, servers):
    """Measure all: the report."""
    peers, there = peers_find(programs)
    rows, failed, began = [], [], time.monotonic()
    for number, work in enumerate(chosen, 1):
        contenders = [one for one in work.contenders if one.peer in there]
        print(f'[{number}/{len(chosen)}] {work.figures[0].title}', flush=True)
        began_work = time.monotonic()
        fewest = min(options.rounds, FEWEST_ROUNDS)
        # What a noisy machine has taken too long for is made up by the works that are left.
        entrants = measure(work, contenders, programs, servers, (fewest, fewest if work.slow else options.rounds),
                           work.longer * options.round_ms / 1000, began + options.seconds * number / len(chosen))
        for entrant in entrants:
            if entrant.error:
                failed.append(f'{work.key}: {entrant.contender.label}: {entrant.error}')
                print(f'    FAILED: {failed[-1]}', flush=True)
        rows += rows_of(work, entrants)
        print(f'    {rows[-len(work.figures)]["contenders"][0].get("median", 0):.5g} {work.figures[0].unit}, '
              f'{len(entrants[0].rounds)} rounds in {time.monotonic() - began_work:.1f} s', flush=True)
    report = {'version': _first_line([*programs[OURS], '--version']), 'machine': machine(), 'build': options.build,
              'date': datetime.date.today().isoformat(), 'rounds': options.rounds, 'round_ms': options.round_ms,
              'peers': peers, 'rows': rows}
    return report, failed


def write_all(options, report):
    folders = [options.output]
    if options.publish or os.environ.get('PYHEAP_BENCH_PUBLISH', '0') not in ('', '0'):
        folders.append(HERE)
        publish(os.path.join(HERE, '..', '..', 'doc', 'benchmark.md'), report)
    for folder in folders:
        os.makedirs(folder, exist_ok=True)
        write_json(os.path.join(folder, 'results.json'), report)
        write(os.path.join(folder, 'results.svg'), chart(report))
        print(f'written: {os.path.join(folder, "results.json")} and results.svg')


def interrupted(number, _frame):
    # Once is enough: what was started is being ended.
    for one in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    print('interrupted', flush=True)
    sys.exit(128 + number)


def main():
    options = options_parse(sys.argv[1:])
    chosen = [work for work in works(live_objects()) if not options.only or work.key in options.only]
    if options.list or not chosen or options.rounds < 1:
        print('\n'.join(f'{work.key:<16} {work.figures[0].title}' for work in works(N_LIVE)))
        return 0 if options.list else 2
    if options.source:
        report = read_json(options.source)
        print(table(report))
        write_all(options, report)
        return 0
    programs = {name: [path] for name, path in options.program}
    programs['python'] = python_program()

    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    try:
        with Servers(options.pyheapd, options.pyheapctl) as servers:
            report, failed = run(options, chosen, programs, servers)
    except Failed as error:
        print(f'FAILED: {error}')
        return 1
    print(table(report))
    write_all(options, report)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
