"""The standard library's ``multiprocessing.connection``."""

from shmkit.multiprocessing._same import same

same(__name__)
