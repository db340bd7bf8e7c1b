"A reproducible, notebook-driven pipeline for Kaggle's Digit Recognizer, and for other competitions of grey images."
import warnings
from importlib import import_module

from .training.numerics import set_numerics as _set_numerics

__version__ = "0.1.0"

# What a user needs, by the module that has it. A module is loaded when one of its names is asked for (PEP 562).
NAMES = {
    'data.files': ['DataError'],
    'data.places': ['find_data'],
    'data.digits': ['DigitData', 'read_data', 'show_digits'],
    'data.split': ['split_rows'],
    'data.loaders': ['get_dls'],
    'models.baseline': ['class_means', 'nearest_mean'],
    'models.conv': ['conv'],
    'training.muon': ['Muon'],
    'training.recipes': ['RECIPES', 'Recipe', 'get_recipe'],
    'training.callbacks': ['Augment'],
    'training.learner': ['get_learner', 'train'],
    'training.history': ['get_history', 'plot_history'],
    'results.evaluation': ['confusion_matrix', 'get_logits', 'plot_confusion', 'predict', 'show_mistakes'],
    'results.interval': ['prediction_interval'],
    'results.submission': ['check_submission', 'make_submission', 'write_submission'],
    'results.reading': ['read_submission'],
    'runs.loading': ['load_run'],
    'runs.record': ['read_record'],
    'runs.listing': ['find_runs'],
    'runs.verify': ['verify'],
}
_MODULES = {name: module for module, names in NAMES.items() for name in names}
__all__ = sorted(_MODULES)

def __getattr__(name):
    if name not in _MODULES: raise AttributeError(f'module {__name__!r} has no attribute {name!r}; it has {", ".join(__all__)}')
    return getattr(import_module(f'{__name__}.{_MODULES[name]}'), name)

def __dir__(): return __all__

# fastai 2.8.12 calls torch.jit.script when it is imported, which torch 2.14 warns of: nothing that a user of ours could mend.
warnings.filterwarnings('ignore', message='`torch.jit.script` is deprecated', category=FutureWarning)

# Before torch is loaded, which reads it once.
_set_numerics()
