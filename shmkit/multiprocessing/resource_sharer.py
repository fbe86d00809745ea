"""The standard library's ``multiprocessing.resource_sharer``."""

from shmkit.multiprocessing._same import same

same(__name__)
