class RingWatch:
    fd: int
