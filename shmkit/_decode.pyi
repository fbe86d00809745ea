from typing import final

@final
class Slice: ...
