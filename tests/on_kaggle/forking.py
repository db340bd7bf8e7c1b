"""Notebooks in a session on Kaggle, one after the other, each in a kernel of its own that is forked, as a sweep's kernels are, from a process that has loaded torch.

Each line on stdin asks for `__notebook__.ipynb` in this folder; the answer on stdout is a line of JSON: what papermill raised, or nothing."""
import json
import shutil
import sys
import tempfile
from pathlib import Path

import papermill

from mnist_kaggle.runs.kernel import leashed_kernel
from mnist_kaggle.runs.server import KernelServer

server, name = KernelServer(), '__notebook__.ipynb'
for line in sys.stdin:
    folder, error = Path(tempfile.mkdtemp()), ''
    with leashed_kernel(folder, None, server) as kernel:
        kernel.folder = Path.cwd()
        try: papermill.execute_notebook(name, name, kernel_name='python3', km=kernel, progress_bar=False)
        except (papermill.PapermillExecutionError, RuntimeError) as raised: error = str(raised) # a RuntimeError where the kernel died
    shutil.rmtree(folder)
    print(json.dumps(error), flush=True)
