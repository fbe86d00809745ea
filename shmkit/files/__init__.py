"""Files that processes share: locks, replacing at once, being told of changes, and arrays that are files.

::

    with FileLock("/var/lib/mine/state.lock"):  # one at a time, whoever it is
        ...
    with replacing("/var/lib/mine/state.json", "w") as file:  # readers see the old text, or all of the new one
        json.dump(state, file)
    with Watcher("/var/lib/mine") as watcher:  # the kernel tells of each change
        for change in watcher:
            ...
    frames = memmap("frames.raw", "uint8", "w+", shape=(1000, 480, 640))  # an array whose memory is a file
"""

from __future__ import annotations

from shmkit.files.locking import FileLock
from shmkit.files.memory import memmap
from shmkit.files.replace import replacing
from shmkit.files.watching import Change, Watcher, wait_for_file

__all__ = ["Change", "FileLock", "Watcher", "memmap", "replacing", "wait_for_file"]
