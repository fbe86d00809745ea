# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""What a loop over an end goes through, without a step of Python for each message."""

from shmkit.errors import EndOfStream


cdef class Arriving:
    """The messages that `recv` returns, until the other end has closed."""

    cdef object recv

    def __init__(self, recv):
        self.recv = recv

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return self.recv()
        except EndOfStream:
            raise StopIteration from None
