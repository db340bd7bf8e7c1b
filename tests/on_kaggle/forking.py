"""Notebooks in a session on Kaggle, one after the other, each in a kernel of its own that is forked, as a sweep's kernels are, from a process that has loaded torch.

Each line on stdin asks for `__notebook__.ipynb` in this folder; the answer on stdout is a line of JSON: what papermill raised, or nothing."""
import json
import sys
from pathlib import Path

from mnist_kaggle.runs.kernel import leashed_kernel
from mnist_kaggle.runs.server import KernelServer, import_papermill

server, papermill, name = KernelServer(), import_papermill(), '__notebook__.ipynb'
for line in sys.stdin:
    error = ''
    with leashed_kernel(Path.cwd(), None, server) as kernel:
        try: papermill.execute_notebook(name, name, kernel_name='python3', km=kernel, progress_bar=False)
        except (papermill.PapermillExecutionError, RuntimeError) as raised: error = str(raised) # a RuntimeError where the kernel died
    print(json.dumps(error), flush=True)
