"""The standard library's ``multiprocessing.popen_forkserver``."""

from shmkit.multiprocessing._same import same

same(__name__)
