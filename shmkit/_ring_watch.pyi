from typing import final

@final
class Descriptors:
    def fileno(self) -> int: ...

@final
class RingWatch:
    @property
    def fd(self) -> int: ...
