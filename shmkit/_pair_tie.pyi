from typing import final

@final
class Names: ...

@final
class Tie: ...
