"Tables of records.csv that more than one notebook shows."


def recipe_table(records):
    "A row for each step: mean and standard deviation over the seeds, and the command that makes it."
    table = records.groupby('step', sort=False).agg(
        accuracy=('with tta', 'mean'), std=('with tta', 'std'), runs=('run', 'size'), rows=('rows', 'first'),
        seconds=('training seconds', 'mean'), command=('command', 'first'))
    return table.rename_axis('recipe')
