"Other competitions than Digit Recognizer, made for tests: letters in Matplotlib's own fonts, and shapes."
import csv
import zipfile
from functools import cache
from io import StringIO
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mnist_kaggle.data.files import FILES

KANNADA_ZIP = Path(__file__).parents[2]/'shared/kannada/kannada-mnist.zip'
WORDS = 'alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar papa quebec romeo sierra tango uniform victor whiskey xray yankee zulu'.split()
FONTS = ('DejaVuSans', 'DejaVuSans-Bold', 'DejaVuSans-Oblique', 'DejaVuSerif', 'DejaVuSerif-Bold', 'DejaVuSansMono', 'STIXGeneral', 'STIXGeneralBol', 'cmr10', 'cmtt10')


def table(header, *columns):
    "Columns of text or numbers as a CSV."
    text = StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(header)
    writer.writerows(zip(*columns))
    return text.getvalue().encode()


def files(train, test, sample): return dict(zip(FILES, (train, test, sample)))


def draw(letter, font, side, random):
    "A letter, a little moved, on a background that is not quite even."
    image = Image.new('L', (side, side))
    path = Path(matplotlib.get_data_path())/'fonts/ttf'/f'{font}.ttf'
    ImageDraw.Draw(image).text((side/2 + random.uniform(-2, 2), side/2 + random.uniform(-2, 2)), letter, 255, ImageFont.truetype(str(path), int(side*.7)), anchor='mm')
    return np.maximum(np.asarray(image), random.integers(0, 9, (side, side))).ravel()


@cache
def letters():
    "26 classes that are words, 32×32 pixels numbered from 1 before the label, ids that are words, the sample submission in another order."
    random = np.random.default_rng(0)
    drawn = [(word, draw(word[0].upper(), font, 32, random)) for _ in range(3) for font in FONTS for word in WORDS]
    order = random.permutation(len(drawn))
    words, pixels = [drawn[i][0] for i in order], np.array([drawn[i][1] for i in order])
    names, n = [f'px{i}' for i in range(1, 1025)], 624
    ids = [f'letter-{i:x}' for i in random.permutation(9999)[:len(words) - n]]
    return files(table([*names, 'word'], *pixels[:n].T, words[:n]), table(['name', *names], ids, *pixels[n:].T), table(['name', 'word'], sorted(ids), ['alpha']*len(ids)))


@cache
def shapes():
    "Five classes, 1 to 5, of 20×20 pixels: bars of so many stripes. Ids that follow one another from 100, in another order, and none in test.csv."
    random = np.random.default_rng(0)
    labels = random.integers(1, 6, 500)
    pixels = random.integers(0, 60, (500, 20, 20))
    for image, label in zip(pixels, labels): image[random.integers(0, 3):random.integers(14, 20), 4*np.arange(label)] += 180
    names, ids = [f'pixel{i}' for i in range(1, 401)], random.permutation(np.arange(100, 200))
    pixels = pixels.reshape(500, 400)
    return files(table(['class', *names], labels[:400], *pixels[:400].T), table(names, *pixels[400:].T), table(['Id', 'class'], ids, [1]*100))


def write(contents, folder):
    "Three files in a folder."
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items(): (folder/name).write_bytes(content)
    return folder


def pack(contents, path):
    "Three files in a zip."
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items(): archive.writestr(name, content)
    return path
