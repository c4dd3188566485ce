# SPDX-License-Identifier: MIT
"""What was measured, for people (a table; one for doc/benchmark.md as well) and for programs (JSON).

All of them say on what it was measured, and who was left out, since figures without that mislead. results.json:

  {"version", "machine": {"cpu", "cpus", "kernel"}, "build", "date", "rounds", "round_ms",
   "peers": [{"name", "version"} or {"name", "left_out": why}],
   "rows": [{"work", "title", "unit", "more", "about",
             "contenders": [{"label", "peer", "median", "min", "max", "rounds"} or {"label", "peer", "error"}],
             "targets": [{"text", "than", "limit", "met"}]}]}

The first contender of a row is pyheap. `limit` is the target in the row's unit, by the medians of this run; null and
`met` null where what it needs was not measured. `more`: more is better. `rounds`: in the order of measuring.
"""
import json
import os
import platform

from measure import summarize

DOC_BEGIN, DOC_END = '<!-- benchmark: written by tests/bench.sh --publish -->', '<!-- benchmark end -->'


# ---- rows --------------------------------------------------------------------------------------------------------

def _contender(entrant, index, convert):
    found = {'label': entrant.contender.label, 'peer': entrant.contender.peer}
    if entrant.error:
        return {**found, 'error': entrant.error}
    return {**found, **summarize([convert(figures[index]) for figures in entrant.rounds])}


def _target(target, contenders, more):
    medians = {one['label']: one.get('median') for one in contenders}
    ours = contenders[0].get('median')
    other = 1 if target.than is None else medians.get(target.than)
    limit = None if other is None else target.factor * other
    met = None
    if limit is not None and ours is not None:
        met = ours >= limit if more else ours <= limit
    return {'text': target.text, 'than': target.than, 'limit': limit, 'met': met}


def rows_of(work, entrants):
    """One row for each figure."""
    rows = []
    for index, figure in enumerate(work.figures):
        contenders = [_contender(entrant, index, figure.convert) for entrant in entrants]
        rows.append({'work': work.key, 'title': figure.title, 'unit': figure.unit, 'more': figure.more,
                     'about': work.about, 'contenders': contenders,
                     'targets': [_target(target, contenders, figure.more) for target in figure.targets]})
    return rows


# ---- words -------------------------------------------------------------------------------------------------------

def quantity(value, unit):
    if unit == 'ns':
        for limit, factor, larger in ((1e4, 1, 'ns'), (1e7, 1e3, 'us'), (1e10, 1e6, 'ms')):
            if value < limit:
                value, unit = value / factor, larger
                break
    digits = 0 if value >= 1000 else 1 if value >= 10 else 2
    return f'{value:,.{digits}f} {unit}'


def ratio_of(ours, other):
    """How many times the other one's; of what is far less, how many times less."""
    if not other or not ours:
        return '-'
    ratio = ours / other
    return f'{ratio:.2f}x' if ratio >= 0.1 else f'1/{1 / ratio:,.0f}'


def met_word(target):
    return {True: 'met', False: 'NOT MET', None: 'not measured'}[target['met']]


def circumstances(report):
    machine = report['machine']
    return (f'pyheap {report["version"]} on {machine["cpus"]} x {machine["cpu"]}, Linux {machine["kernel"]}; '
            f'{report["build"] or "some build"}; {report["date"]}')


def counts(report):
    verdicts = [target['met'] for row in report['rows'] for target in row['targets']]
    return verdicts.count(True), verdicts.count(False), verdicts.count(None)


# ---- the table ---------------------------------------------------------------------------------------------------

def _table_line(row, one, target):
    label = ('  ' if one is not row['contenders'][0] else '* ') + one['label']
    if 'error' in one:
        return f'{label:<40} FAILED: {one["error"]}'
    ours = row['contenders'][0].get('median')
    spread = f'{quantity(one["min"], row["unit"])} .. {quantity(one["max"], row["unit"])}'
    ratio = '' if one is row['contenders'][0] else ratio_of(ours, one['median'])
    words = f'{target["text"]}: {met_word(target)}' if target else ''
    return f'{label:<40} {quantity(one["median"], row["unit"]):>12}   {spread:<28} {ratio:>9}   {words}'.rstrip()


def table(report):
    lines = ['', circumstances(report),
             f'Medians of {report["rounds"]} rounds, contenders in turn; the ratio is pyheap to the other.',
             '', f'  {"":<38} {"median":>12}   {"range":<28} {"ratio":>9}   target']
    for row in report['rows']:
        lines += ['', row['title'] + (f' ({row["about"]})' if row['about'] else '')]
        for one in row['contenders']:
            than = None if one is row['contenders'][0] else one['label']
            fitting = [target for target in row['targets'] if target['than'] == than]
            lines.append(_table_line(row, one, fitting[0] if fitting else None))
        known = {one['label'] for one in row['contenders']}
        lines += [f'  {target["than"]:<38} left out; {target["text"]}: {met_word(target)}'
                  for target in row['targets'] if target['than'] and target['than'] not in known]
    lines.append('')
    for peer in report['peers']:
        lines.append(f'{peer["name"]}: ' + (f'LEFT OUT: {peer["left_out"]}' if 'left_out' in peer else peer['version']))
    met, missed, unknown = counts(report)
    lines += ['', f'{met} targets met, {missed} not met, {unknown} not measured']
    return '\n'.join(lines)


# ---- doc/benchmark.md ----------------------------------------------------------------------------------------------

def _target_markdown(target):
    words = {True: 'met', False: '**not met**', None: 'not measured'}[target['met']]
    than = f'{" than" if "faster" in target["text"] else ""} {target["than"]}' if target['than'] else ''
    return f'{target["text"]}{than}: {words}'


def markdown(report):
    """Of the rows that aim at something."""
    lines = ['| what | pyheap | others | aimed at |', '| --- | --- | --- | --- |']
    for row in (row for row in report['rows'] if row['targets']):
        said = [f'{one["label"]} {quantity(one["median"], row["unit"])}' for one in row['contenders'][1:]
                if 'median' in one]
        ours = row['contenders'][0]
        lines.append('| ' + ' | '.join([
            row['title'], quantity(ours['median'], row['unit']) if 'median' in ours else 'failed', '; '.join(said),
            '; '.join(_target_markdown(target) for target in row['targets'])]) + ' |')
    return '\n'.join(lines + ['', circumstances(report) + '.'])


def publish(path, report):
    """Put the table between the document's two marks."""
    with open(path, encoding='utf-8') as file:
        text = file.read()
    head, begin, rest = text.partition(DOC_BEGIN)
    _, finish, tail = rest.partition(DOC_END)
    if not begin or not finish:
        raise ValueError(f'{path} has no place for the table')
    write(path, f'{head}{begin}\n\n{markdown(report)}\n\n{finish}{tail}')


# ---- JSON --------------------------------------------------------------------------------------------------------

def machine():
    cpu = 'unknown CPU'
    with open('/proc/cpuinfo', encoding='utf-8') as file:
        for line in file:
            if line.startswith('model name'):
                cpu = line.split(':', 1)[1].strip()
                break
    return {'cpu': cpu, 'cpus': len(os.sched_getaffinity(0)), 'kernel': platform.release()}


def _rounded(value):
    if isinstance(value, float):
        return float(f'{value:.5g}')
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value


def _json(value, depth=0):
    """Indented down to a contender or target, which is a line of its own."""
    if depth < 4 and value and isinstance(value, (dict, list)):
        pad, end = '  ' * (depth + 1), '  ' * depth
        if isinstance(value, dict):
            inner = [f'{pad}{json.dumps(key)}: {_json(one, depth + 1)}' for key, one in value.items()]
            return '{\n' + ',\n'.join(inner) + f'\n{end}}}'
        return '[\n' + ',\n'.join(pad + _json(one, depth + 1) for one in value) + f'\n{end}]'
    return json.dumps(value)


def read_json(path):
    with open(path, encoding='utf-8') as file:
        return json.load(file)


def write_json(path, report):
    write(path, _json(_rounded(report)) + '\n')


def write(path, text):
    """As a whole, or not at all."""
    fresh = f'{path}.{os.getpid()}'
    try:
        with open(fresh, 'w', encoding='utf-8') as file:
            file.write(text)
        os.replace(fresh, path)
    except BaseException:
        if os.path.exists(fresh):
            os.unlink(fresh)
        raise
