"The benchmarks fit the library: what takes half an hour must not fail at its end."
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_kaggle.runs.naming import PIPELINE

BENCHMARKS = Path(__file__).parents[1]/'benchmarks'


@pytest.mark.parametrize('name', [path.stem for path in sorted(BENCHMARKS.glob('*.py')) if path.stem != 'recipe']) # which is a program alone
def test_each_loads(name):
    result = subprocess.run([sys.executable, '-W', 'ignore', '-c', f'import sys; sys.argv = ["{name}.py"]; import {name}'], cwd=BENCHMARKS, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_each_cell_of_the_pipeline_belongs_to_a_stage(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from scale import stages
    notebook = json.loads(PIPELINE.read_text())
    notebook['cells'].insert(4, {'cell_type': 'code', 'source': '# Parameters\nepochs = 1\n', 'metadata': {}}) # as papermill does
    for cell in notebook['cells']: cell['metadata']['papermill'] = {'duration': 1}
    assert min(stages(json.dumps(notebook), 1000).values()) >= 1
