"""Measure the notebooks' form, and fail where one is past its bounds: python tests/measure_notebooks.py [FOLDER]

A reader meets one thing at a time, with its use beside it. So an exported cell has at most two definitions, nine in ten of them at most 25 lines,
and nine in ten exported names are used in one of the next three code cells; and no line of code has more than 140 characters."""
import ast
import json
import re
import statistics
import sys
from pathlib import Path

EXPORT = re.compile(r'^#\s*\|\s*export\b', re.M)
WIDTH, DEFINITIONS, LINES, SHOWN = 140, 2, 25, 0.9


def code_cells(path): return [''.join(cell['source']) for cell in json.loads(path.read_text(encoding='utf-8'))['cells'] if cell['cell_type'] == 'code']


def definitions(source):
    "The names of the functions and classes that a cell defines."
    return [node.name for node in ast.parse(re.sub(r'^\s*[%!].*$', '', source, flags=re.M)).body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))]


def lines_of(source): return [line for line in source.splitlines() if line.strip() and not line.lstrip().startswith('#|')]


def measure(path):
    "A notebook's exported cells by their lines, its exported names that are shown and that are not, and what is past a bound."
    cells, lengths, shown, hidden, faults = code_cells(path), [], [], [], []
    for i, source in enumerate(cells):
        faults += [f'{path.name}: a line of {len(line)} characters: {line.strip()[:60]}…' for line in source.splitlines() if len(line) > WIDTH]
        if not EXPORT.match(source): continue
        names = definitions(source)
        if len(names) > DEFINITIONS: faults.append(f"{path.name}: a cell defines {', '.join(names)}: give each a cell of its own.")
        lengths.append(len(lines_of(source)))
        following = '\n'.join(cells[i + 1:i + 4])
        for name in names: (shown if re.search(rf'\b{name}\b', following) else hidden).append(name)
    return lengths, shown, hidden, faults


def p90(values): return sorted(values)[int(0.9 * len(values))] if values else 0


def main(folder):
    everything = [(path, *measure(path)) for path in sorted(folder.glob('*.ipynb'))]
    print(f"{'notebook':32} {'cells':>5} {'median':>6} {'p90':>4}  not shown in use")
    for path, lengths, shown, hidden, _ in everything:
        if lengths: print(f"{path.stem:32} {len(lengths):5} {statistics.median(lengths):6.0f} {p90(lengths):4}  {', '.join(hidden)}")
    lengths, shown, hidden, faults = (sum((row[i] for row in everything), []) for i in range(1, 5))
    share = len(shown) / (len(shown) + len(hidden))
    print(f"{'all':32} {len(lengths):5} {statistics.median(lengths):6.0f} {p90(lengths):4}  {share:.0%} of {len(shown) + len(hidden)} exports are shown in use")
    if p90(lengths) > LINES: faults.append(f'the 90th percentile of exported cells is {p90(lengths)} lines, and {LINES} are the most.')
    if share < SHOWN: faults.append(f'{share:.0%} of the exports are shown in use, and {SHOWN:.0%} are the least.')
    sys.exit('\n'.join(faults) or 0)


if __name__ == '__main__': main(Path(sys.argv[1] if len(sys.argv) > 1 else 'nbs'))
