from shmkit.segment import Segment

class End:
    segment: Segment
    def __init__(self, segment: Segment) -> None: ...
