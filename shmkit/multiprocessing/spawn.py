"""The standard library's ``multiprocessing.spawn``."""

from shmkit.multiprocessing._same import same

same(__name__)
