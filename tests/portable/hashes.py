"""What this process makes of fixed numbers, and of some steps of each recipe, as hashes in a line of JSON.

    python hashes.py [--recipes NAME,…] [--without augmentation,OPERATOR,…] [--square-root] [--called]"""
import argparse
import json
import sys
from contextlib import nullcontext
from dataclasses import replace
from hashlib import sha256
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec

import torch # first, so that the variables stay as the process was given them

# fastai imports these, which takes half a minute under valgrind, and nothing here calls them
for name in ('sklearn', 'sklearn.metrics', 'sklearn.model_selection'): sys.modules[name] = module_from_spec(ModuleSpec(name, None))
sys.modules['sklearn.model_selection'].train_test_split = None

from fastai.callback.core import Callback, CancelFitException
from fastai.optimizer import adam_step
from torch.utils._python_dispatch import TorchDispatchMode

from mnist_kaggle import class_means, find_data, get_learner, get_logits, get_recipe, nearest_mean, read_data
from mnist_kaggle.results.evaluation import mean_logits
from mnist_kaggle.training import muon
from mnist_kaggle.training.net import pack_weights
from mnist_kaggle.training.numerics import torch_reports
from mnist_kaggle.training.operators import OPERATORS, digest

STEPS, BATCH, ROWS, IMAGES = 4, 16, 500, 16 # under valgrind an image takes conv_best a fifth of a second


class Called(TorchDispatchMode):
    "Notes which operators are called. For this torch imports its compiler, which takes a minute under valgrind."
    names = ()

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


class Stop(Callback):
    "Ends a training after some steps."
    def after_batch(self):
        if self.training and self.train_iter + 1 == STEPS: raise CancelFitException


def few_rows(data): # rows to train on, and few to validate on
    return replace(data, images=data.images[:ROWS], labels=data.labels[:ROWS])


def train_some(name, data, augment):
    "Hashes of the weights and of the logits after some steps."
    recipe = get_recipe(name, device='cpu', epochs=1, batch_size=BATCH, **({} if augment else {'augment': 'none', 'tta': 0}))
    learn = get_learner(recipe, data, cbs=Stop())
    with learn.no_bar(), learn.no_logging(): learn.fit(1, recipe.lr)
    logits = get_logits(learn.model, data.test_images[:IMAGES], recipe.tta, recipe.seed)
    ensemble = mean_logits(torch.stack([logits, logits.roll(1, 0), 2 * logits]))
    return {'weights': sha256(pack_weights(learn.model)).hexdigest()[:12], 'logits': digest([logits]), 'ensemble': digest([ensemble])}


def baseline(data):
    "Hashes of the class means and of what they take the test rows for."
    means = class_means(data.images, data.labels)
    return {'means': digest([torch.from_numpy(means)]), 'predicted': digest([torch.from_numpy(nearest_mean(data.test_images, means))])}


def step_with_a_square_root(p, lr, **state): adam_step(p, lr=lr/5, **state)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--recipes', default='linear,two_layer,conv,conv_quick,conv_best')
    parser.add_argument('--without', default='')
    parser.add_argument('--square-root', action='store_true')  # at the end, conv_quick with the step of fastai's Adam, which takes one
    parser.add_argument('--called', action='store_true')  # list the operators, too
    options = parser.parse_args()
    torch.set_num_threads(1)
    without, found = options.without.split(','), {'reports': torch_reports(), 'operators': {}, 'recipes': {}, 'called': {}}
    def note(name, function, *arguments):
        "What a function returns; the operators that it calls are listed, where that is asked for."
        with Called() if options.called else nullcontext(Called) as called: result = function(*arguments)
        found['called'][name] = sorted(called.names)
        return result
    found['operators'] = note('operators', lambda: {name: digest(function()) for name, function in OPERATORS.items() if name not in without})
    data, augment = few_rows(read_data(find_data('sample'))), 'augmentation' not in without
    found['recipes']['nearest class mean'] = baseline(data)
    for name in options.recipes.split(','): found['recipes'][name] = note(name, train_some, name, data, augment)
    if options.square_root:
        muon.scaled_adam_step = step_with_a_square_root
        found['recipes']['with a square root'] = note('with a square root', train_some, 'conv_quick', data, augment)
    print(json.dumps(found))


if __name__ == '__main__': sys.exit(main())
