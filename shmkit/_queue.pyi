from typing import Any

from shmkit._queue_put import QueuePut

class QueueBase(QueuePut):
    def get(self, block: bool = True, timeout: float | None = None) -> Any: ...
    def get_nowait(self) -> Any: ...
    def get_many(
        self, max_messages_to_get: int = 1000, block: bool = True, timeout: float | None = None
    ) -> list[Any]: ...
