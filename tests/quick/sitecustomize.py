"""What a test's processes do otherwise. Python imports this first where its folder is on PYTHONPATH.

Nobody sleeps for long, so that tests of trying again and of waiting are quick; STUB_SHA256 says which files stand for the competition's,
and STUB_INPUT which folder for Kaggle's mounts."""
import json
import os
import time

sleep = time.sleep
time.sleep = lambda seconds: sleep(min(seconds, 0.01))

if os.environ.get('STUB_SHA256'):
    from mnist_kaggle.data.files import COMPETITION_SHA256
    COMPETITION_SHA256.update(json.loads(os.environ['STUB_SHA256']))

if os.environ.get('STUB_INPUT'):
    from pathlib import Path
    from mnist_kaggle.data import places
    places.INPUT = Path(os.environ['STUB_INPUT'])

if os.environ.get('STUB_SHA256') or os.environ.get('STUB_INPUT'): # which a kernel must read at its start: one that is forked loads our modules again
    from mnist_kaggle.runs import server
    server.warm_kernels = lambda numerics='portable', once=False: None
