#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares what the source files include with the storeys of the project (heap/README.md).

usage: tests/includes.py [FOLDER]
       tests/includes.py --self-test    looks at a tree with planted faults, each of which must be found

Fails where a file includes what is not below it, where a public header is used by what must not know it, and where
two files include each other, directly or round about. A .c file and its header of the same name count as one.
"""
import os
import re
import sys
import tempfile

# Each folder, and the folders that its files may include beside itself.
HEAP = ['heap/shared', 'heap/memory', 'heap/change', 'heap/object', 'heap/repair']
ALLOWED = {storey: HEAP[:i] for i, storey in enumerate(HEAP)}
ALLOWED |= {
    'include': [],
    'proto': [],
    'client': HEAP + ['proto', 'include'],
    'client/ctl': ['include'],
    'daemon': HEAP + ['proto'],
}
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]', re.MULTILINE)
GENERATED = ('proto/pyheap.pb-c.h', 'client/version.h')


def sources(root):
    for folder in ALLOWED:
        for name in sorted(os.listdir(os.path.join(root, folder))):
            if name.endswith(('.c', '.h')):
                yield os.path.join(folder, name)


def included(root, path, files):
    """The project's files that `path` includes: by a path from the root, from its own folder, or as the public header."""
    with open(os.path.join(root, path), encoding='utf-8') as file:
        names = INCLUDE.findall(file.read())
    for name in names:
        beside = os.path.normpath(os.path.join(os.path.dirname(path), name))
        for candidate in (name, beside, os.path.join('include', name)):
            if candidate in files:
                yield candidate
                break
        else:
            if name.split('/')[0] in ('heap', 'client', 'daemon', 'proto', 'include') and name not in GENERATED:
                yield name


def unit(path):
    return os.path.splitext(path)[0]


def circles(graph):
    """Tarjan's strongly connected components of more than one node."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = []
            while not component or component[-1] != node:
                component.append(stack.pop())
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def faults_of(root):
    files = set(sources(root))
    faults, graph = [], {unit(path): set() for path in files}
    for path in sorted(files):
        for other in included(root, path, files):
            if other not in files:
                faults.append(f'{path} includes {other}, which is not there')
                continue
            here, there = os.path.dirname(path), os.path.dirname(other)
            if there != here and there not in ALLOWED[here]:
                faults.append(f'{path} includes {other}, which is not below it')
            if unit(other) != unit(path):
                graph[unit(path)].add(unit(other))
    faults += ['a circle: ' + ' '.join(circle) for circle in circles(graph)]
    return faults, len(files), sum(map(len, graph.values()))


def self_test():
    planted = {
        'heap/shared/a.h': '#include "heap/memory/b.h"\n',
        'heap/memory/b.h': '#include "heap/memory/c.h"\n',
        'heap/memory/c.c': '#include "heap/memory/b.h"\n#include "gone.h"\n#include "heap/gone.h"\n',
        'heap/memory/c.h': '',
        'client/ctl/d.c': '#include <pyheap.h>\n#include "heap/memory/b.h"\n',
        'include/pyheap.h': '#include <stdint.h>\n',
    }
    expected = ['a circle: heap/memory/b heap/memory/c',
                'client/ctl/d.c includes heap/memory/b.h, which is not below it',
                'heap/memory/c.c includes heap/gone.h, which is not there',
                'heap/shared/a.h includes heap/memory/b.h, which is not below it']
    with tempfile.TemporaryDirectory() as root:
        for folder in ALLOWED:
            os.makedirs(os.path.join(root, folder), exist_ok=True)
        for path, text in planted.items():
            with open(os.path.join(root, path), 'w', encoding='utf-8') as file:
                file.write(text)
        found = sorted(faults_of(root)[0])
    print('\n'.join(found))
    return 0 if found == expected else 1


def main():
    if sys.argv[1:] == ['--self-test']:
        return self_test()
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), '..')
    faults, n_files, n_arrows = faults_of(root)
    for fault in faults:
        print(fault)
    print(f'{n_files} files, {n_arrows} arrows between them, {len(faults)} faults')
    return 1 if faults or n_files < 50 else 0


if __name__ == '__main__':
    sys.exit(main())
