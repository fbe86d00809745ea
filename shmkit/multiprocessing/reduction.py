"""The standard library's ``multiprocessing.reduction``."""

from shmkit.multiprocessing._same import same

same(__name__)
