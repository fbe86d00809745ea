"""The standard library's ``multiprocessing.util``."""

from shmkit.multiprocessing._same import same

same(__name__)
