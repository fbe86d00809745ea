"""The standard library's ``multiprocessing.popen_spawn_posix``."""

from shmkit.multiprocessing._same import same

same(__name__)
