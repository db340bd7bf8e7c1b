"What more than one notebook or benchmark writes: a table of records.csv, and a section of docs/bench.md."
from pathlib import Path

REPORT = Path(__file__).parents[1]/'docs/bench.md'


def recipe_table(records):
    "A row for each step: mean and standard deviation over the seeds, and the command that makes it."
    table = records.groupby('step', sort=False).agg(
        accuracy=('with tta', 'mean'), std=('with tta', 'std'), runs=('run', 'size'), rows=('rows', 'first'),
        seconds=('training seconds', 'mean'), command=('command', 'first'))
    return table.rename_axis('recipe')


def put_section(title, section):
    "Put a section, which begins with its title, into docs/bench.md: in place of the one that is there, or at its end."
    before, _, after = REPORT.read_text(encoding='utf-8').partition(title)
    rest = after.partition('\n## ')[2]
    REPORT.write_text(before.rstrip('\n') + '\n\n' + section + (f'\n## {rest}' if rest else ''), encoding='utf-8')
