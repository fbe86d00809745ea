from typing import final

@final
class Watch: ...
