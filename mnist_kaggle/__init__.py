"A reproducible, notebook-driven pipeline for Kaggle's Digit Recognizer."
import warnings

__version__ = "0.1.0"

# fastai 2.8.12 calls torch.jit.script when it is imported, which torch 2.14 warns of: nothing that a user of ours could mend.
warnings.filterwarnings('ignore', message='`torch.jit.script` is deprecated', category=FutureWarning)
