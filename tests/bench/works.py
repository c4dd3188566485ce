# SPDX-License-Identifier: MIT
"""The table of the benchmark: which works there are, who takes part in each, and what is aimed at.

A work is measured by contenders, of which the first is pyheap. Each gives one or more figures at a time; a figure is a
row of the table. A target compares pyheap's median with a fixed limit or with another contender's median, measured in
the same minutes. No target makes the benchmark fail: the table says whether it is met.
"""
from dataclasses import dataclass, field

MILLION = 1_000_000
KIB, MIB = 1 << 10, 1 << 20

OURS = 'pyheap'
PYMALLOC, GLIBC, MIMALLOC, JEMALLOC = 'pymalloc', 'glibc', 'mimalloc', 'jemalloc'
BOOST, REDIS, MEMCACHED = 'Boost.Interprocess', 'Redis', 'memcached'
PYTHON, BARE = 'Python shared_memory', 'bare shared memory'

# The program of each peer (as meson names it), and the Debian packages that it takes.
PEERS = {
    PYMALLOC: ('pymalloc', 'libpython3-dev'),
    GLIBC: ('glibc', 'libc6-dev'),
    MIMALLOC: ('mimalloc', 'libmimalloc-dev'),
    JEMALLOC: ('jemalloc', 'libjemalloc-dev'),
    BOOST: ('boost', 'g++ libboost-dev'),
    REDIS: ('server', 'redis-server'),
    MEMCACHED: ('server', 'memcached'),
    PYTHON: ('python', 'python3'),
    BARE: ('ground', ''),
}


@dataclass(frozen=True)
class Contender:
    peer: str                  # OURS or one of PEERS
    work: str                  # what its program calls the work
    argument: int = None
    note: str = ''             # what is different with this one, also tells two of one peer apart
    heap: tuple = ()           # options of its pyheapd

    @property
    def label(self):
        return f'{self.peer}, {self.note}' if self.note else self.peer


@dataclass(frozen=True)
class Target:
    text: str
    factor: float              # of the other one's median, or the limit itself where there is none
    than: str = None           # a contender's label


def at_most(factor, than=None, unit=''):
    if than is None:
        return Target(f'at most {factor:g}{unit}', factor)
    return Target(f'at most {factor:g}x', factor, than)


def at_least(limit, unit):
    """For figures of which more is better."""
    return Target(f'at least {limit:g}{unit}', limit)


def faster(times, than):
    return Target(f'at least {times:g}x faster', 1 / times, than)


@dataclass(frozen=True)
class Figure:
    title: str
    unit: str = 'ns'
    targets: tuple = ()
    more: bool = False                  # more is better
    convert: object = lambda value: value  # from what the program says
    only_ours: bool = False             # the others' programs give this figure no meaning


@dataclass(frozen=True)
class Work:
    key: str
    contenders: tuple
    figures: tuple
    whole: bool = False        # one round is one large thing, instead of as often as the round's time allows
    about: str = ''            # a sentence for who reads the table
    slow: bool = field(default=False)  # its rounds take long: the fewest that are allowed
    longer: int = 1            # its rounds are so many times as long as those of others


def peers(names, work, argument=None, note=''):
    return tuple(Contender(name, work, argument, note) for name in names)


# Rooms for the larger works; the default spare arena would have every round begin with fresh memory.
SMALL_HEAP = ('--size', '64M')
BULK_HEAP = ('--size', '2G', '--spare-arenas', '4096')
CROWD_HEAP = ('--size', '64M', '--max-sessions', '4096')
LARGE_HEAP = ('--size', '8G', '--arena-size', '1M')

HEAPS = (PYMALLOC, GLIBC, MIMALLOC, JEMALLOC)
BULK = MILLION
NAMES = 100_000
HIS_PAIR = 'its new + free pair'


def pair(key, title, size, targets):
    return Work(key, (Contender(OURS, 'pair', size, heap=SMALL_HEAP),) + peers(HEAPS + (BOOST,), 'pair', size),
                (Figure(title, targets=targets),))


def get_of_size(key, title, size):
    small = Contender(OURS, 'name-size', KIB, 'of 1 KiB', SMALL_HEAP)
    flat = (at_most(1.2, small.label),) if size != KIB else ()
    return Work(key,
                (Contender(OURS, 'name-size', size, heap=SMALL_HEAP),) + ((small,) if flat else ()) +
                (Contender(REDIS, 'redis', size), Contender(MEMCACHED, 'memcached', size),
                 Contender(PYTHON, 'name-size', size, 'attach, detach')),
                (Figure(title, targets=(faster(100, REDIS), faster(100, MEMCACHED)) + flat),),
                about='zero-copy here; over their Unix sockets there')


def read_of_size(key, title, size):
    """As get_of_size(), and every byte is read: by the others out of the buffer that their answer was copied into."""
    return Work(key,
                (Contender(OURS, 'name-read', size, heap=SMALL_HEAP), Contender(REDIS, 'redis-read', size),
                 Contender(MEMCACHED, 'memcached-read', size),
                 Contender(PYTHON, 'name-read', size, 'attach, count zeros, detach')),
                (Figure(title, targets=(faster(2, REDIS), faster(2, MEMCACHED))),),
                about='read where it lies here; out of a copy there')


def works(n_live):
    """n_live: how many objects the machine has room for in the work among many."""
    few = Contender(OURS, 'among-objects', 1000, 'among 1000', LARGE_HEAP)
    alone = Contender(OURS, 'among-sessions', 0, 'alone', SMALL_HEAP)
    no_others = Contender(OURS, 'come-and-go', 0, 'alone', CROWD_HEAP)
    ten = Contender(OURS, 'name-get', 10, 'of 10', SMALL_HEAP)
    return (
        pair('pair-48', 'new + last decref, 48 B, own object', 48, (at_most(2, PYMALLOC), faster(8, BOOST))),

        Work('bulk-48',
             (Contender(OURS, 'bulk-48', BULK, heap=BULK_HEAP),
              Contender(OURS, 'bulk-48', BULK, 'one spare arena', ('--size', '2G'))) +
             peers(HEAPS + (BOOST,), 'bulk-48', BULK),
             (Figure('1M x 48 B, warm: new', targets=(at_most(2, PYMALLOC),)),
              Figure('1M x 48 B, warm: decref in order', targets=(at_most(2, PYMALLOC),)),
              Figure('1M x 48 B: memory an object', 'B', (at_most(70, unit=' B'),))),
             whole=True, about='shared memory with header and hold; resident memory of the others'),

        Work('bulk-mixed',
             (Contender(OURS, 'bulk-mixed', BULK, heap=BULK_HEAP),) + peers(HEAPS, 'bulk-mixed', BULK),
             (Figure('1M x 1..512 B, dropped in random order, warm: in all', targets=(at_most(1.5, MIMALLOC),)),
              Figure('1M x 1..512 B: new alone')),
             whole=True, slow=True),

        Work('hold-drop',
             (Contender(OURS, 'hold-drop', heap=SMALL_HEAP), Contender(PYMALLOC, 'pair', 48, HIS_PAIR),
              Contender(BOOST, 'hold-drop', note='shared_ptr copied')),
             (Figure("first hold + drop of another session's object",
                     targets=(at_most(4.2, f'{PYMALLOC}, {HIS_PAIR}'),)),)),

        Work('held',
             (Contender(OURS, 'held', heap=SMALL_HEAP), Contender(PYMALLOC, 'pair', 48, HIS_PAIR)),
             (Figure('incref + decref of what is held already', targets=(at_most(0.6, f'{PYMALLOC}, {HIS_PAIR}'),)),)),

        Work('data',
             (Contender(OURS, 'data', heap=SMALL_HEAP), Contender(PYMALLOC, 'pair', 48, HIS_PAIR)),
             (Figure('pyheap_data', targets=(at_most(0.4, f'{PYMALLOC}, {HIS_PAIR}'),)),)),

        pair('pair-4k', 'new + last decref, 4 KiB', 4 * KIB, (at_most(2, GLIBC),)),
        pair('pair-64k', 'new + last decref, 64 KiB', 64 * KIB, (at_most(2, GLIBC),)),

        Work('two-at-once',
             (Contender(OURS, 'two-at-once', heap=SMALL_HEAP),) +
             peers((GLIBC, MIMALLOC, JEMALLOC), 'two-at-once', note='private heaps') +
             (Contender(BOOST, 'two-at-once'),),
             (Figure('two processes at once, own objects, 48 B: times one', 'x', (at_least(1.9, 'x'),), more=True),),
             about='private heaps show what the machine itself gives',
             # Waking the second process up is part of a round, and not what is asked for.
             longer=10),

        Work('hand-over',
             (Contender(OURS, 'hand-over', heap=SMALL_HEAP), Contender(BOOST, 'hand-over', note='plain ring')) +
             peers((GLIBC, MIMALLOC, JEMALLOC), 'hand-over', note='threads'),
             (Figure('48 B made by one process, handed over, freed by the other', 'M/s', (at_least(10, ' M/s'),),
                     more=True, convert=lambda ns: 1000 / ns),)),

        Work('push-pop',
             (Contender(OURS, 'push-pop', heap=SMALL_HEAP), Contender(BOOST, 'push-pop', note='message_queue')),
             (Figure('push + pop, one process'),)),

        Work('there-and-back',
             (Contender(OURS, 'there-and-back', heap=SMALL_HEAP),
              Contender(BOOST, 'there-and-back', note='message_queue'), Contender(BARE, 'there-and-back')),
             (Figure('a ref handed over and back, two queues, polling', targets=(at_most(1000, unit=' ns'),)),)),

        Work('asleep',
             (Contender(OURS, 'asleep', heap=SMALL_HEAP), Contender(BARE, 'asleep', note='futexes')),
             (Figure('a ref handed over and back, each side asleep until then',
                     targets=(at_most(1.3, f'{BARE}, futexes'),)),)),

        Work('name-get',
             (Contender(OURS, 'name-get', NAMES, heap=SMALL_HEAP), ten,
              Contender(OURS, 'name-get-all', NAMES, 'all in turn', SMALL_HEAP),
              Contender(BOOST, 'name-get', NAMES, 'find, holds nothing')),
             (Figure('name_get + drop, 10 of 100,000 names',
                     targets=(at_most(100, unit=' ns'), at_most(1.2, ten.label))),)),

        Work('list-get-two',
             (Contender(OURS, 'list-get-two', 64, '64 slots', SMALL_HEAP),
              Contender(OURS, 'list-get-two', 1, 'one object', SMALL_HEAP)),
             (Figure('two processes at once, list_get + drop of the same: times one', 'x', (at_least(1.5, 'x'),),
                     more=True),),
             longer=10),
        Work('name-get-two',
             (Contender(OURS, 'name-get-two', 64, '64 names', SMALL_HEAP),
              Contender(OURS, 'name-get-two', 1, 'one name', SMALL_HEAP)),
             (Figure('two processes at once, name_get + drop of the same: times one', 'x', (at_least(1.5, 'x'),),
                     more=True),),
             longer=10),

        get_of_size('get-1k', 'get of 1 KiB by name, its bytes not read', KIB),
        get_of_size('get-32k', 'get of 32 KiB by name, its bytes not read', 32 * KIB),
        get_of_size('get-1m', 'get of 1 MiB by name, its bytes not read', MIB),
        read_of_size('read-1m', 'get of 1 MiB by name, every byte read', MIB),

        Work('touch',
             (Contender(OURS, 'touch', 64, heap=('--size', '512M')), Contender(BARE, 'touch', 64)),
             (Figure('fresh memory: first touch of a page', targets=(at_most(1.3, BARE),)),
              Figure('fresh memory: bringing a page and touching it')),
             whole=True),

        Work('among-objects',
             (Contender(OURS, 'among-objects', n_live, heap=LARGE_HEAP), few),
             (Figure(f'the pair among {n_live:,} live objects', targets=(at_most(1.2, few.label),)),)),

        Work('among-sessions',
             (Contender(OURS, 'among-sessions', 499, heap=SMALL_HEAP), alone),
             (Figure('the pair among 500 sessions', targets=(at_most(1.2, alone.label),)),)),

        Work('come-and-go',
             (Contender(OURS, 'come-and-go', 4000, heap=CROWD_HEAP), no_others),
             (Figure("a session opened and closed among 4000: the daemon's processor time",
                     targets=(at_most(300_000, unit=' ns'), at_most(2, no_others.label))),)),

        Work('full',
             (Contender(OURS, 'full', heap=SMALL_HEAP),),
             (Figure('a new that fails as the heap is full', targets=(at_most(2000, unit=' ns'),)),)),

        Work('killed',
             (Contender(OURS, 'killed', MILLION, heap=('--size', '2G')),),
             (Figure('a session with 1M holds is killed: all returned', 'ms', (at_most(200, unit=' ms'),)),
              Figure("... and another's pair meanwhile, 99.9th percentile: times quiet", 'x', (at_most(10, unit='x'),)),
              Figure('... the same when all is quiet'),
              Figure('... the longest pair meanwhile', 'us')),
             whole=True, slow=True),

        Work('sleeper',
             (Contender(OURS, 'sleeper', 256, heap=('--size', '1G')),),
             (Figure('256 MiB of a sleeping producer dropped: /dev/shm back', 'ms', (at_most(1000, unit=' ms'),)),
              Figure('... what it takes more than before then', 'MiB')),
             whole=True, slow=True),
    )
