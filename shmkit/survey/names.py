"""What the command line calls a shared object, and what names tell."""

from __future__ import annotations

import os

__all__ = ["maker_of", "posix_address"]

# By the beginning of its name: whose a file of /dev/shm is.
_MAKERS = {
    "psm_": "multiprocessing.shared_memory",
    "wnsm_": "multiprocessing.shared_memory",
    "pym-": "multiprocessing",
    "sem.mp-": "multiprocessing",
    "sem.loky-": "joblib",
    "loky-": "joblib",
    "torch_": "PyTorch",
    "nccl-": "NCCL",
    "iox2_": "iceoryx2",
    "iox1_": "iceoryx",
    "fastrtps_": "Fast DDS",
    "fastdds_": "Fast DDS",
    "pulse-shm-": "PulseAudio",
    "PostgreSQL.": "PostgreSQL",
    ".org.chromium.": "Chromium",
    ".com.google.Chrome.": "Chrome",
    "aeron-": "Aeron",
    "vader_segment": "Open MPI",
    "sm_segment": "Open MPI",
    "plasma": "Ray",
}


def posix_address(name: str) -> str:
    """The address of a file of /dev/shm: its name, unless that would be taken for something else."""
    return f"posix:{name}" if ":" in name else name


def maker_of(name: str | None) -> str:
    """Whose a file of that name is, as far as names tell; empty if they do not."""
    if name is None:
        return ""
    bare = os.path.basename(name)
    return next((maker for start, maker in _MAKERS.items() if bare.startswith(start)), "")
