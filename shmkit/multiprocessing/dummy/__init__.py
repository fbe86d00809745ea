"""The standard library's ``multiprocessing.dummy``, threads with the names of processes."""

from shmkit.multiprocessing._same import same

same(__name__)
# The package that has taken this one's place would have its submodule executed a second time.
same(f"{__name__}.connection")
