"""One recipe on the first 33,600 rows, with one thread, in a process of its own: python benchmarks/recipe.py NAME DATA NUMERICS SEED [STEPS]

Prints, as JSON, the validation accuracy and the seconds from the data in memory to the trained net; with STEPS, the seconds of so many steps of
training after ten others, and nothing is validated."""
import json
import sys
import tempfile
import time

from mnist_kaggle.training.numerics import set_numerics

name, folder, numerics, seed, *steps = sys.argv[1:]
set_numerics(numerics) # before torch is loaded

import torch
from fastai.callback.core import Callback, CancelFitException

from mnist_kaggle import get_history, get_learner, get_recipe, read_data, train

WARM_UP = 10


class Clock(Callback):
    "Ends a training after some steps, and notes how long those after the first took."
    def before_batch(self):
        if self.train_iter == WARM_UP: self.start = time.perf_counter()

    def after_batch(self):
        if self.train_iter + 1 < WARM_UP + int(steps[0]): return
        print(json.dumps(time.perf_counter() - self.start))
        raise CancelFitException


torch.set_num_threads(1)
data, recipe = read_data(folder), get_recipe(name, device='cpu', numerics=numerics, seed=int(seed))
start = time.perf_counter()
learn = get_learner(recipe, data, path=tempfile.mkdtemp(), cbs=Clock() if steps else None)
with learn.no_bar(), learn.no_logging():
    if steps: learn.fit(1, recipe.lr)
    else:
        train(learn, recipe)
        print(json.dumps([get_history(learn).accuracy.iloc[-1], time.perf_counter() - start]))
