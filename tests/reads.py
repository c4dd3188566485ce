#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Lists the daemon's reads of shared memory that are not by the checked accessors.

usage: tests/reads.py --source FOLDER --build FOLDER [--self-test]

Clients can write all of shared memory at any time. A value that is checked and then read again may be another one by
then, and a compiler may repeat a plain load by itself. So code that the daemon runs reads each shared word once, by an
atomic load (read_once() in heap/shared/accessors.h) into a local, checks that, and goes on with it. Reported are

  - a plain load of shared memory, a copy of it, and its being handed to a function of another library;
  - two atomic loads of one word in one function, unless REPEATED says why.

This compiles the sources of pyheapd by clang, without optimisation, to LLVM's intermediate code, and finds out for each
pointer whether it may lead into shared memory. That is Andersen's analysis: what flows where is gathered from all
functions, however often a pointer is copied, kept in a struct of the process's own, or passed on. It begins at the
members of struct heap that lead to the segments, and goes over all functions that can be reached from main().

--self-test plants faults in a copy of the sources, and fails unless each is found and nothing else.
"""
import argparse
import collections
import concurrent.futures
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

FOLDERS = ['heap/shared', 'heap/memory', 'heap/change', 'heap/object', 'heap/repair', 'daemon', 'proto']
# Members of struct heap that lead into the two segments: where the analysis begins.
SEEDS = ['control', 'base', 'sessions', 'types', 'type_slots', 'name_buckets', 'arenas', 'freepools', 'pools']
# What may be given to other libraries: they read nothing of it.
HARMLESS = {'madvise', 'mmap', 'munmap', 'mprotect', 'munlock', 'syscall', 'memset'}
# Functions that read a word twice, and why they may.
REPEATED = {
    'cell_read': 'compares stamps: if it is the same afterwards, all that was read between belongs to it',
    'counted_before': 'compares words, as cell_read() does',
    'is_unfinished': 'compares words, as cell_read() does',
    'free_pools_change': 'counts up and down again; it is only stored',
    'dying_step': 'asks whether there is any, without the lock and then with it',
    'session_drop_step': 'asks whether there is any, before and after a step',
    'trim_remote': 'asks whether the list has changed',
}
SHARED = 'shared memory'

ASSIGNED = re.compile(r'^  (%[\w.]+) = (.*)$')
DEBUG = re.compile(r', !dbg (!\d+)')
FUNCTION = re.compile(r'^define .*?@([\w.]+)\((.*)\)[^()]*\{$')
NAME = re.compile(r'[%@][\w.]+')


def compile_all(source, build, target):
    """The intermediate code of each file, by clang."""
    flags = subprocess.run(['pkg-config', '--cflags', 'libevent_core', 'libsystemd', 'libprotobuf-c'], check=True,
                           capture_output=True, text=True).stdout.split()
    files = [f for folder in FOLDERS for f in sorted(glob.glob(os.path.join(source, folder, '*.c')))]

    def one(path):
        output = os.path.join(target, os.path.relpath(path, source).replace('/', '_') + '.ll')
        subprocess.run(['clang', '-S', '-emit-llvm', '-O0', '-gline-tables-only', '-std=gnu11', '-D_GNU_SOURCE', '-w',
                        '-DPYHEAP_VERSION="0"', '-mcx16', '-mprfchw', '-fno-strict-aliasing', '-I' + source,
                        '-I' + build, '-I' + os.path.join(build, 'proto'), '-I' + os.path.join(source, 'include'),
                        *flags, path, '-o', output], check=True)
        return output

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(one, files))


def members(source, struct, header):
    """The names of a struct's members in their order; those of an unnamed union count as one."""
    with open(os.path.join(source, header), encoding='utf-8') as file:
        text = file.read()
    body = re.search(r'^struct %s \{\n(.*?)^\};' % struct, text, re.MULTILINE | re.DOTALL).group(1)
    body = re.sub(r'/\*.*?\*/', '', body, flags=re.DOTALL)
    return [name for line in body.split(';') for name in re.findall(r'(\w+)(?:\[[^\]]*\])?(?:,|\s*$)', line)]


def split_arguments(text):
    """At commas that are in no brackets."""
    parts, depth, begin = [], 0, 0
    for i, c in enumerate(text):
        if c in '([{<':
            depth += 1
        elif c in ')]}>':
            depth -= 1
        elif c == ',' and not depth:
            parts.append(text[begin:i].strip())
            begin = i + 1
    parts.append(text[begin:].strip())
    return [part for part in parts if part]


def matching(text, begin):
    """The index of the bracket that closes the one at `begin`."""
    depth = 0
    for i in range(begin, len(text)):
        depth += (text[i] in '([{<') - (text[i] in ')]}>')
        if not depth:
            return i
    raise ValueError(text)


class Program:
    """What flows where. A node is a value of a function, or what an object has in it; an object is what a pointer
    may lead to: a local variable, a member of a struct whatever instance it is of, a function, or shared memory."""

    def __init__(self):
        self.leads_to = collections.defaultdict(set)     # node: objects
        self.flows = collections.defaultdict(set)        # node: nodes that get what it has
        self.loads = collections.defaultdict(set)        # pointer: nodes that get what its objects have
        self.stores = collections.defaultdict(set)       # pointer: nodes whose objects go into its objects
        self.members = collections.defaultdict(set)      # base: nodes that lead into shared memory if it does
        self.calls = collections.defaultdict(list)       # called value: (arguments, result)
        self.reads = []                                  # (function, pointer, what, place)
        self.atomics = []                                # (function, pointer, result, place)
        self.defined = {}                                # value: the instruction that makes it
        self.parameters, self.uses = {}, collections.defaultdict(set)
        self.places = {}

    # reading the code

    def read(self, path):
        unit = os.path.basename(path)
        internal, function, debug, files, self.pointers = set(), None, {}, {}, {}
        with open(path, encoding='utf-8') as file:
            lines = file.read().split('\n')
        for line in lines:
            if line.startswith('define ') and ' internal ' in line:
                internal.add(FUNCTION.match(line).group(1))
            elif line.startswith('%struct.'):
                self.read_struct(line)
            elif line.startswith('!'):
                self.read_debug(unit, line, debug, files)
        self.places[unit] = (debug, files)
        for line in lines:
            if line.startswith('define '):
                name, parameters = FUNCTION.match(line).group(1, 2)
                function = self.symbol(unit, internal, name)
                self.parameters[function] = [(function, p.split()[-1]) for p in split_arguments(parameters)
                                             if '%' in p.split()[-1]]
                depth = 0
            elif line.startswith('@'):
                self.read_variable(unit, internal, line)
            elif line == '}':
                function = None
            elif function and line.startswith('  '):
                self.read_line(unit, internal, function, line)

    def read_struct(self, line):
        name, body = re.match(r'%struct\.([\w.]+) = type (.*)$', line).group(1, 2)
        parts = split_arguments(body.strip('<>{} '))
        self.pointers[name] = [str(i) for i, part in enumerate(parts) if part.endswith('*') and len(parts) <= 2]

    def read_variable(self, unit, internal, line):
        """What the variables of a file have in them from the start: functions, mostly, in tables of them."""
        names = re.findall(r'@([\w.]+)', line)
        variable = self.symbol(unit, internal, names[0])
        for name in names[1:]:
            symbol = self.symbol(unit, internal, name)
            self.uses[variable].add(symbol)
            self.leads_to[('in', (unit, '@' + names[0]))].add(('function', symbol))
        for match in re.finditer(r'%struct\.(\w+) \{', line):
            body = line[match.end():matching(line, match.end() - 1)]
            for i, part in enumerate(split_arguments(body)):
                for name in re.findall(r'@([\w.]+)', part):
                    self.leads_to[('in', ('member', (match.group(1), str(i))))].add(
                        ('function', self.symbol(unit, internal, name)))

    @staticmethod
    def symbol(unit, internal, name):
        return unit + ':' + name if name in internal else name

    @staticmethod
    def read_debug(unit, line, debug, files):
        match = re.match(r'(!\d+) = (?:distinct )?!DILocation\(line: (\d+).*?scope: (!\d+)', line)
        if match:
            debug[match.group(1)] = (int(match.group(2)), match.group(3))
            return
        match = re.match(r'(!\d+) = (?:distinct )?!DI(?:Subprogram|LexicalBlock\w*)\(.*?file: (!\d+)', line)
        if match:
            files[match.group(1)] = match.group(2)
            return
        match = re.match(r'(!\d+) = !DIFile\(filename: "([^"]*)"', line)
        if match:
            files[match.group(1)] = match.group(2)

    def place(self, unit, line):
        match = DEBUG.search(line)
        debug, files = self.places[unit]
        if not match or match.group(1) not in debug:
            return ('?', 0)
        number, scope = debug[match.group(1)]
        return (files.get(files.get(scope), '?'), number)

    def value(self, unit, internal, function, text):
        """The node of an operand, without its type. A constant has none, but for what it says of an address."""
        text = text.strip()
        if text.startswith('%'):
            return (function, text)
        names = re.findall(r'@([\w.]+)', text)
        if not names or names[0].startswith('.str'):
            return None
        node = (unit, 'address of ' + names[0])
        symbol = self.symbol(unit, internal, names[0])
        self.leads_to[node].add(('function', symbol))
        self.leads_to[node].add((unit, '@' + names[0]))
        self.uses[function].add(symbol)
        return node

    def read_line(self, unit, internal, function, line):
        where = line
        line = DEBUG.sub('', line)
        match = ASSIGNED.match(line)
        result = (function, match.group(1)) if match else None
        text = match.group(2) if match else line.strip()
        if match:
            self.defined[result] = text
        word = text.split(' ', 1)[0]

        def operand(of):
            return self.value(unit, internal, function, of)

        if word == 'alloca':
            self.leads_to[result].add(result)
            # A small struct is passed and returned as numbers: what its members have the variable has, too.
            struct = re.match(r'alloca %struct\.(\w+),', text)
            for i in self.pointers.get(struct.group(1), ()) if struct else ():
                member = ('in', ('member', (struct.group(1), i)))
                self.flows[('in', result)].add(member)
                self.flows[member].add(('in', result))
        elif word == 'load':
            parts = split_arguments(text)
            pointer = operand(parts[1].rsplit(' ', 1)[-1] if '(' not in parts[1] else parts[1])
            if text.startswith('load atomic'):
                pointer = operand(re.match(r'load atomic (?:volatile )?[^,]+, [^,]*?([%@][\w.]+) ', text).group(1))
            if pointer:
                self.loads[pointer].add(result)
                if text.startswith('load atomic'):
                    self.atomics.append((function, pointer, result, self.place(unit, where)))
                elif not text.startswith('load volatile'):
                    self.reads.append((function, pointer, 'is read', self.place(unit, where)))
        elif word == 'store':
            parts = split_arguments(text)
            pointer = re.search(r'([%@][\w.]+)[^%@]*$', parts[1])
            value = operand(re.sub(r'^store (?:atomic |volatile )*', '', parts[0]).rsplit(' ', 1)[-1]
                            if '(' not in parts[0] else parts[0])
            target = operand(pointer.group(1)) if pointer else None
            if value and target:
                self.stores[target].add(value)
        elif word == 'getelementptr':
            self.read_member(unit, internal, function, result, text)
        elif word in ('bitcast', 'inttoptr', 'ptrtoint', 'zext', 'trunc', 'sext', 'freeze'):
            of = operand(NAME.search(text.split(' ', 1)[1].rsplit(' to ', 1)[0].split(' ', 1)[1]).group(0)
                         if NAME.search(text.split(' ', 1)[1].rsplit(' to ', 1)[0].split(' ', 1)[1]) else '')
            if of:
                self.flows[of].add(result)
        elif word in ('add', 'and', 'or', 'phi', 'select', 'extractvalue', 'insertvalue'):
            for name in NAME.findall(re.sub(r'%(struct|union)\.[\w.]+', '', text)):
                of = operand(name)
                if of:
                    self.flows[of].add(result)
        elif word in ('call', 'tail', 'notail', 'musttail'):
            self.read_call(unit, internal, function, result, text, where)
        elif word == 'ret':
            names = NAME.findall(re.sub(r'%(struct|union)\.[\w.]+', '', text))
            if names and operand(names[-1]):
                self.flows[operand(names[-1])].add(('result of', function))

    def read_member(self, unit, internal, function, result, text):
        parts = split_arguments(text.split(' ', 1)[1])
        kind = parts[0].replace('inbounds ', '')
        names = NAME.findall(re.sub(r'%(struct|union)\.[\w.]+', '', parts[1]))
        base = self.value(unit, internal, function, names[-1]) if names else None
        if not base:
            return
        named = re.match(r'%struct\.(\w+)$', kind)
        if len(parts) > 3 and named and named.group(1) != 'anon':
            member = (named.group(1), parts[3].split()[-1])
            self.leads_to[result].add(('member', member))
            self.members[base].add(result)
        else:
            self.flows[base].add(result)

    def read_call(self, unit, internal, function, result, text, where):
        text = re.sub(r'^(tail |notail |musttail )', '', text)
        asm = re.match(r'call .*?\basm (?:sideeffect )?(?:inteldialect )?"', text)
        if asm:
            return
        bare = re.sub(r'%(?:struct|union)\.[\w.]+', lambda match: '.' * len(match.group(0)), text)
        begin = re.search(r'([%@][\w.]+)\(', bare)
        if not begin:
            return
        called, at = begin.group(1), begin.end() - 1
        arguments = split_arguments(text[at + 1:matching(text, at)])
        values = []
        for argument in arguments:
            names = NAME.findall(re.sub(r'%(struct|union)\.[\w.]+', '', argument))
            values.append(self.value(unit, internal, function, names[0]) if names else None)
        place = self.place(unit, where)
        if called.startswith('@llvm.memcpy') or called.startswith('@llvm.memmove') or called in ('@memcpy', '@memmove'):
            if values[1]:
                self.reads.append((function, values[1], 'is copied', place))
            if values[0] and values[1]:
                self.calls['copy'].append((values[0], values[1]))
            return
        if called.startswith('@llvm.'):
            return
        if called.startswith('@'):
            node = (unit, 'address of ' + called[1:])
            symbol = self.symbol(unit, internal, called[1:])
            self.leads_to[node].add(('function', symbol))
            self.uses[function].add(symbol)
        else:
            node = (function, called)
        self.calls[node].append((function, values, result, place))

    # what follows from it

    def solve(self, seeds):
        for member in seeds:
            self.leads_to[('in', ('member', member))].add(SHARED)
        for target, source in self.calls.pop('copy', []):
            between = ('copied', target, source)
            self.loads[source].add(between)
            self.stores[target].add(between)
        work = collections.deque(self.leads_to)
        queued = set(work)

        def add(node, objects):
            new = objects - self.leads_to[node]
            if new:
                self.leads_to[node] |= new
                if node not in queued:
                    queued.add(node)
                    work.append(node)

        def edge(of, to):
            if to not in self.flows[of]:
                self.flows[of].add(to)
                add(to, self.leads_to[of])

        bound = set()
        while work:
            node = work.popleft()
            queued.discard(node)
            objects = self.leads_to[node]
            for to in list(self.flows[node]):
                add(to, objects)
            if SHARED in objects:
                for to in self.members[node]:
                    add(to, {SHARED})
            for thing in [o for o in objects if o != SHARED]:
                for to in self.loads[node]:
                    edge(('in', thing), to)
                for of in self.stores[node]:
                    edge(of, ('in', thing))
            for call in self.calls.get(node, ()):
                for thing in objects:
                    if isinstance(thing, tuple) and thing[0] == 'function' and (id(call), thing) not in bound:
                        bound.add((id(call), thing))
                        self.bind(call, thing[1], edge)

    def bind(self, call, symbol, edge):
        function, values, result, _ = call
        self.uses[function].add(symbol)
        if symbol in self.parameters:
            for value, parameter in zip(values, self.parameters[symbol]):
                if value:
                    edge(value, parameter)
            if result:
                edge(('result of', symbol), result)
            return
        # Another library's: what it is given it may give to each function that it is given.
        for value in values:
            for thing in self.leads_to.get(value, ()) if value else ():
                if isinstance(thing, tuple) and thing[0] == 'function' and thing[1] in self.parameters:
                    for other in values:
                        for parameter in self.parameters[thing[1]]:
                            if other and other != value:
                                edge(other, parameter)

    def reached(self, root):
        seen, work = {root}, [root]
        while work:
            for symbol in self.uses[work.pop()]:
                if symbol not in seen:
                    seen.add(symbol)
                    work.append(symbol)
        return seen & self.parameters.keys()

    # what is reported

    def expression(self, function, name, depth=0):
        """How the function makes that value, down to its local variables: of two loads of one word it is the same."""
        text = self.defined.get((function, name))
        if text is None or depth > 12 or text.startswith('alloca'):
            return name
        bare = re.sub(r'%(struct|union)\.[\w.]+', '', text)
        if re.match(r'(bitcast|[sz]ext|trunc|load) ', text):
            return text.split(' ', 1)[0][0] + self.expression(function, NAME.search(bare).group(0), depth + 1)
        return re.sub(r'%[\w.]+', lambda match: self.expression(function, match.group(0), depth + 1), bare)

    def repeated(self, reached):
        loads = collections.defaultdict(list)
        for function, pointer, _, place in self.atomics:
            if function in reached and SHARED in self.leads_to[pointer]:
                loads[(function, self.expression(function, pointer[1]))].append(place)
        for (function, _), places in loads.items():
            if len(places) > 1 and function.split(':')[-1] not in REPEATED:
                yield max(places), function.split(':')[-1], 'is read again'

    def handed_out(self, reached):
        for node, calls in self.calls.items():
            names = {o[1] for o in self.leads_to[node] if isinstance(o, tuple) and o[0] == 'function'}
            for function, values, _, place in calls:
                if function in reached and any(v and SHARED in self.leads_to[v] for v in values):
                    for name in names - HARMLESS - self.parameters.keys():
                        yield place, function.split(':')[-1], 'is handed to ' + name + '()'

    def faults(self, root):
        reached = self.reached(root)
        found = {(place, function.split(':')[-1], what) for function, pointer, what, place in self.reads
                 if function in reached and SHARED in self.leads_to[pointer]}
        return sorted(found | set(self.repeated(reached)) | set(self.handed_out(reached))), len(reached)


def faults_of(source, build):
    heap = members(source, 'heap', 'heap/shared/heap.h')
    program = Program()
    with tempfile.TemporaryDirectory() as target:
        for path in compile_all(source, build, target):
            program.read(path)
    program.solve([('heap', str(heap.index(name))) for name in SEEDS])
    return program.faults('main')


def report(source, found):
    for (file, line), function, what in found:
        print('%s:%d: %s(): shared memory %s' % (os.path.relpath(os.path.join(source, file), source), line, function,
                                                 what))


# A file, what is in it, a fault that takes its place, the function that it is in then, and what is said of it.
PLANTS = [
    ('heap/repair/recover.c', 'pool ? read_once(pool->identity) : 0', 'pool ? pool->identity : 0', 'abandon_pool',
     'is read'),
    ('heap/repair/recover.c', 'if (read_once(table[i].ref) == HOLD_EMPTY)', 'if (table[i].ref == HOLD_EMPTY)',
     'drop_holds', 'is read'),
    ('heap/shared/list.h', '{.both = read_once(links->both)}', '{.both = links->both}', 'list_remove', 'is read'),
    ('heap/memory/block.c', 'first1 = read_once(*head1)', 'first1 = *head1', None, None),  # clients alone run it
    ('heap/memory/arena.c', 'prev.links ? read_once(prev.links->next1)', 'prev.links ? prev.links->next1',
     'usable_link', 'is read'),
    ('heap/memory/run.c', 'header_state(header_word(&pool->header)) != STATE_FREE',
     'pool->run_n_dropped != 0', 'run_disown', 'is read'),
    ('heap/memory/rebuild_pool.c', 'if (read_once(pool->run_size) > size_max)',
     'if (read_once(pool->run_size) > size_max && read_once(pool->run_size) < UINT64_MAX)', 'settle_run',
     'is read again'),
    ('heap/object/queue.c', 'ret->n = __atomic_load_n(&ret->queue->n, __ATOMIC_RELAXED);', 'ret->n = ret->queue->n;',
     'queue_find', 'is read'),
    ('heap/shared/heap.c', 'text_read(to->program, from->program, sizeof(to->program))',
     'memcpy(to->program, from->program, sizeof(to->program))', 'older_session', 'is copied'),
    ('daemon/sigbus.c', '__atomic_load_n(&guarded->control->magic, __ATOMIC_RELAXED)', 'guarded->control->magic',
     'sigbus_is_lost', 'is read'),
    ('daemon/answer.c', '= heap->control_size;', '= strlen((const char *)heap->base);', 'answer_welcome',
     'is handed to strlen()'),
]


def self_test(source, build):
    before, _ = faults_of(source, build)
    with tempfile.TemporaryDirectory() as copy:
        for folder in FOLDERS + ['include']:
            shutil.copytree(os.path.join(source, folder), os.path.join(copy, folder), dirs_exist_ok=True)
        for path, good, bad, _, _ in PLANTS:
            path = os.path.join(copy, path)
            with open(path, encoding='utf-8') as file:
                text = file.read()
            if good not in text:
                print('cannot plant in %s: there is no %s' % (path, good))
                return 1
            with open(path, 'w', encoding='utf-8') as file:
                file.write(text.replace(good, bad, 1))
        with open(os.path.join(copy, 'daemon/answer.c'), 'r+', encoding='utf-8') as file:
            text = file.read()
            file.seek(0)
            file.write('#include <string.h>\n' + text)
        found, _ = faults_of(copy, build)
    known = {(function, what) for _, function, what in before}
    found = {(function, what) for _, function, what in found} - known
    wanted = {(function, what) for _, _, _, function, what in PLANTS if function}
    for function, what in sorted(wanted - found):
        print('not found: %s(): shared memory %s' % (function, what))
    for function, what in sorted(found - wanted):
        print('found, and not planted: %s(): shared memory %s' % (function, what))
    print('%d of %d planted faults found' % (len(wanted & found), len(wanted)))
    return found != wanted


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--source', required=True)
    parser.add_argument('--build', required=True)
    parser.add_argument('--self-test', action='store_true')
    options = parser.parse_args()
    if not shutil.which('clang'):
        print('skipped: no clang here')
        return 77
    source = os.path.abspath(options.source)
    if options.self_test:
        return self_test(source, options.build)
    found, n_reached = faults_of(source, options.build)
    report(source, found)
    print('%d functions that the daemon can reach, %d unchecked reads' % (n_reached, len(found)))
    return bool(found)


if __name__ == '__main__':
    sys.exit(main())
