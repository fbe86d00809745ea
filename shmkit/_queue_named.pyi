from shmkit._queue_end import QueueEnd

def create_named(
    made: QueueEnd,
    name: str,
    maxsize: int,
    capacity: object,
    backpressure: str,
    backing: str | None,
    mode: int,
    lifetime: str | None,
) -> None: ...
def find_named(found: QueueEnd, name: str, backing: str | None, owner: int | None) -> None: ...
