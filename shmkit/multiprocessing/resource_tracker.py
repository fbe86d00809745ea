"""The standard library's ``multiprocessing.resource_tracker``."""

from shmkit.multiprocessing._same import same

same(__name__)
