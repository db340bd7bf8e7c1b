"The competition's own files, where they are beside the checkout."
from hashlib import sha256

import numpy as np
import pandas as pd
import zipfile

from mnist_kaggle.data.digits import read_data
from mnist_kaggle.data.files import FILES
from mnist_kaggle.data.split import split_rows
from mnist_kaggle.models.baseline import class_means, nearest_mean


def test_the_zip_and_its_folder_are_the_same_data(competition, tmp_path):
    zipped = read_data(competition)
    zipfile.ZipFile(competition).extractall(tmp_path)
    unpacked = read_data(tmp_path)
    assert zipped.sha256 == unpacked.sha256 == {name: sha256((tmp_path/name).read_bytes()).hexdigest() for name in FILES}
    assert (zipped.images == unpacked.images).all() and (zipped.ids == unpacked.ids).all()


def test_the_arrays_are_what_pandas_reads(competition, tmp_path):
    data = read_data(competition)
    with zipfile.ZipFile(competition) as archive:
        train, test, sample = [pd.read_csv(archive.open(name)) for name in FILES]
    assert (data.labels == train.label).all() and (data.images == train.drop(columns='label')).all(axis=None)
    assert (data.test_images == test).all(axis=None) and (data.ids == sample.ImageId).all()
    assert data.images.shape == (42_000, 784) and data.test_images.shape == (28_000, 784) and data.images.dtype == np.uint8


def test_the_original_split_and_the_baseline(competition):
    data = read_data(competition)
    train, valid = split_rows(data.labels)
    assert train.tolist() == list(range(33_600)) and valid.tolist() == list(range(33_600, 42_000))
    predicted = nearest_mean(data.images[valid], class_means(data.images[train], data.labels[train]))
    assert 0.80 < (predicted == data.labels[valid]).mean() < 0.82
