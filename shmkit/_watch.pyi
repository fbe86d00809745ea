from typing import final

@final
class Watch:
    def fileno(self) -> int: ...
