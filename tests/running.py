"What tests of runs share: a run whose kernel is forked from one server, and a record that was changed and sealed again."
import json

from mnist_kaggle.runs import run
from mnist_kaggle.runs.record import record_sha256
from mnist_kaggle.runs.server import warm_kernels


def execute(parameters, folder, *arguments):
    "A run on the CPU, as `mnist_kaggle.runs.run.execute` makes it."
    warm_kernels()
    return run.execute({'device': 'cpu', **parameters}, folder, *arguments)


def reseal(folder, **changes):
    "Change a record, and give it the right hash again."
    record = json.loads((folder/'run.json').read_text()) | changes
    (folder/'run.json').write_text(json.dumps(record | {'sha256': record_sha256(record)}))
