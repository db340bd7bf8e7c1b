"The competition's data, which the figures of the benchmarks and the records are measured on."
import sys
from pathlib import Path

from mnist_kaggle.data.files import COMPETITION_SHA256, data_sha256
from mnist_kaggle.data.places import find_data


def find_competition() -> Path:
    "Where the competition's files are, found as the library finds data; ends the program if what it finds is other data, as the sample."
    source = find_data()
    if data_sha256(source) != COMPETITION_SHA256: sys.exit('This measures on the competition\'s data: name it in MNIST_KAGGLE_DATA.')
    return source
