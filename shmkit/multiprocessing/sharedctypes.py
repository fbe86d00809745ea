"""The standard library's ``multiprocessing.sharedctypes``."""

from shmkit.multiprocessing._same import same

same(__name__)
