"""What a fresh installation must be able to do, with nothing but its run-time dependencies."""

from __future__ import annotations

import multiprocessing
import sys
import sysconfig

import numpy as np

import shmkit


def produce(ring: shmkit.Ring, frame: shmkit.SharedArray) -> None:
    """The child's part: an array that came by reference goes through the ring, then bytes, then the end."""
    ring.send(frame)
    ring.send(b"done")
    ring.close()


def main() -> None:
    """Sends an array and bytes from a spawned child to this process, which has a GIL only if its Python has one."""
    frame = shmkit.zeros((480, 640), "float32")
    frame[:] = np.arange(frame.size, dtype="float32").reshape(frame.shape)
    with shmkit.Ring.create(capacity="4 MiB") as ring:
        child = multiprocessing.get_context("spawn").Process(target=produce, args=(ring, frame))
        child.start()
        with ring.recv_view(timeout=60) as view:
            assert np.array_equal(view, frame)
        assert ring.recv(timeout=60) == b"done"
        child.join()
        assert child.exitcode == 0
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        assert not sys._is_gil_enabled()
    print(f"shmkit {shmkit.__version__} from {shmkit.__file__}: a frame and bytes came through")


if __name__ == "__main__":
    main()
