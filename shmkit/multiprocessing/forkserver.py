"""The standard library's ``multiprocessing.forkserver``."""

from shmkit.multiprocessing._same import same

same(__name__)
