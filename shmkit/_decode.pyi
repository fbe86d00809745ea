from typing import final

@final
class Slice:
    def __buffer__(self, flags: int, /) -> memoryview: ...
