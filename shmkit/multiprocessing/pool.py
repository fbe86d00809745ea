"""The standard library's ``multiprocessing.pool``."""

from shmkit.multiprocessing._same import same

same(__name__)
