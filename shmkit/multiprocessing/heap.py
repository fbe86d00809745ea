"""The standard library's ``multiprocessing.heap``."""

from shmkit.multiprocessing._same import same

same(__name__)
