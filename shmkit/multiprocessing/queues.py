"""The standard library's ``multiprocessing.queues``."""

from shmkit.multiprocessing._same import same

same(__name__)
