from typing import final

@final
class RingWatch:
    @property
    def fd(self) -> int: ...
