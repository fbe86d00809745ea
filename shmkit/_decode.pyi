from typing import Any, final

@final
class Slice:
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Values:
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
