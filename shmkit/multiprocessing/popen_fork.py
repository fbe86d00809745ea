"""The standard library's ``multiprocessing.popen_fork``."""

from shmkit.multiprocessing._same import same

same(__name__)
