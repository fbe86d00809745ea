"""The standard library's ``multiprocessing.process``."""

from shmkit.multiprocessing._same import same

same(__name__)
