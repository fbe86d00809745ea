"""The standard library's ``multiprocessing.managers``."""

from shmkit.multiprocessing._same import same

same(__name__)
