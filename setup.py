"The package's metadata: settings.ini says it, this file hands it to setuptools, nothing else repeats it."
import re
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

here = Path(__file__).parent
config = ConfigParser(delimiters='=')
config.read(here / 'settings.ini', encoding='utf-8')
settings = config['DEFAULT']
version = re.search(r'__version__ = "(.+)"', (here / settings['lib_name'] / '__init__.py').read_text(encoding='utf-8'))[1]

setup(
    name=settings['lib_name'],
    version=version,
    description=settings['description'],
    long_description=(here / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author=settings['author'],
    license=settings['license'],
    license_files=['LICENSE'],
    keywords=settings['keywords'],
    python_requires='>=' + settings['min_python'],
    packages=find_packages(include=[settings['lib_name'], settings['lib_name'] + '.*']),
    package_data={settings['lib_name']: ['*.ipynb']},
    install_requires=settings['requirements'].split(),
    extras_require={extra: settings[f'{extra}_requirements'].split() for extra in ('run', 'test')},
    entry_points={'console_scripts': settings['console_scripts'].split()},
    zip_safe=False,
)
