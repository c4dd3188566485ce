# SPDX-License-Identifier: MIT
"""The chart: how the others stand beside pyheap.

A line for each row that compares something. pyheap is the line down the middle, whatever the figure; a dot is another
contender, to the right of it where pyheap is better, on a logarithmic scale. The tick is the target: met where it is
not to the left of the middle, missed (red) where it is.
"""
import math
from html import escape

from report import circumstances, quantity
from works import BARE, BOOST, GLIBC, JEMALLOC, MEMCACHED, MIMALLOC, OURS, PYMALLOC, PYTHON, REDIS

COLOURS = {PYMALLOC: '#3572a5', GLIBC: '#8a8a8a', MIMALLOC: '#e08214', JEMALLOC: '#1b9e77', BOOST: '#7b3294',
           REDIS: '#c51b1b', MEMCACHED: '#4d9221', PYTHON: '#d6b100', BARE: '#000000', OURS: '#2b6cff'}
WIDTH, LEFT, RIGHT, LINE = 1000, 500, 30, 22
MIN, MAX = 0.1, 100_000


def _x(ratio):
    share = math.log(min(max(ratio, MIN), MAX) / MIN) / math.log(MAX / MIN)
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _text(x, y, words, anchor='start', colour='#222', size=12, weight='normal'):
    return (f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}" '
            f'font-weight="{weight}">{escape(words)}</text>')


def _times_worse(row, value):
    """How many times worse than pyheap that value is."""
    ours = row['contenders'][0]['median']
    return ours / value if row['more'] else value / ours


def _row(row, y):
    parts = [_text(8, y + 4, row['title']),
             _text(LEFT - 10, y + 4, quantity(row['contenders'][0]['median'], row['unit']), 'end', weight='bold'),
             f'<line x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}" stroke="#e4e4e4"/>']
    for target in row['targets']:
        if not target['limit']:
            continue
        x, colour = _x(_times_worse(row, target['limit'])), '#1a7f37' if target['met'] else '#d1242f'
        parts.append(f'<line x1="{x:.1f}" y1="{y - 7}" x2="{x:.1f}" y2="{y + 7}" stroke="{colour}" stroke-width="3">'
                     f'<title>{escape(target["text"])} {escape(target["than"] or "")}</title></line>')
    for one in row['contenders'][1:]:
        if not one.get('median'):
            continue
        words = f'{one["label"]}: {quantity(one["median"], row["unit"])}'
        parts.append(_dot(_x(_times_worse(row, one['median'])), y, one['peer'], words))
    return parts


def _axis(top, bottom):
    parts = []
    for power in range(int(math.log10(MIN)), int(math.log10(MAX)) + 1):
        x, ours = _x(10.0 ** power), power == 0
        stroke = f'stroke="{"#2b6cff" if ours else "#e4e4e4"}" stroke-width="{2 if ours else 1}"'
        parts.append(f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}" {stroke}/>')
        words = 'pyheap' if ours else f'{10 ** power:,}x' if power > 0 else f'1/{10 ** -power}'
        parts.append(_text(x, top - 6, words, 'middle', '#2b6cff' if ours else '#666', 11))
    return parts


def _dot(x, y, peer, words=''):
    """Those of pyheap itself are hollow."""
    fill = '#ffffff' if peer == OURS else COLOURS[peer]
    return (f'<circle cx="{x:.1f}" cy="{y}" r="5" fill="{fill}" stroke="{COLOURS[peer]}" stroke-width="1.5" '
            f'fill-opacity="0.85"><title>{escape(words)}</title></circle>')


def _legend(peers, y):
    """On as many lines as it takes. Returns where it ends, too."""
    parts, x = [], 8
    for peer in peers:
        words = peer if peer != OURS else 'pyheap in other ways'
        if x + 40 + 7 * len(words) > WIDTH:
            x, y = 8, y + 20
        parts += [_dot(x + 5, y - 4, peer), _text(x + 15, y, words, size=11)]
        x += 32 + 7 * len(words)
    return parts, y


def chart(report):
    rows = [row for row in report['rows']
            if row['contenders'][0].get('median') and (len(row['contenders']) > 1 or row['targets'])]
    peers = [peer for peer in COLOURS if any(one['peer'] == peer and one.get('median') for row in rows
                                             for one in row['contenders'][1:])]
    legend, top = _legend(peers, 66)
    top += 34
    bottom = top + LINE * len(rows)
    height = bottom + 46
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
             f'width="{WIDTH}" height="{height}" font-family="sans-serif">',
             f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
             _text(8, 24, 'How the others stand beside pyheap', size=16, weight='bold'),
             _text(8, 42, 'Dots to the right of the middle are worse than pyheap, those to the left are better. '
                   'A tick is a target: green where met.', size=12, colour='#555')]
    parts += legend + _axis(top, bottom)
    for i, row in enumerate(rows):
        parts += _row(row, top + LINE // 2 + LINE * i)
    machine, _, build = circumstances(report).partition('; ')
    parts += [_text(8, bottom + 20, machine, size=11, colour='#666'),
              _text(8, bottom + 36, f'{build}; medians of {report["rounds"]} rounds', size=11, colour='#666')]
    return '\n'.join(parts + ['</svg>']) + '\n'
