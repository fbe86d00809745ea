ROLE_STATES: dict[int, str]
RING_MIN: int
RING_DATA: int
PRODUCER_BYTE: int
CONSUMER_BYTE: int
MEMBER_BYTES: int
CELLS: dict[int, str]
WORD_LOST: int
WORD_INCONSISTENT: int
WORD_CLAIMED: int
GATE_SLEEPER: int
SEMAPHORE_IS_BOUNDED: int
OWNERS_LIMIT: int
PARTIES_LIMIT: int
POLICY_SILENT: int
WHY_BROKEN: dict[int, str]
RING_SIZE: int
RING: dict[str, tuple[int, int]]
LOCK_SIZE: int
LOCK: dict[str, tuple[int, int]]
SEMAPHORE_SIZE: int
SEMAPHORE: dict[str, tuple[int, int]]
EVENT_SIZE: int
EVENT: dict[str, tuple[int, int]]
CONDITION_SIZE: int
CONDITION: dict[str, tuple[int, int]]
WAITER_SIZE: int
RWLOCK_SIZE: int
RWLOCK: dict[str, tuple[int, int]]
READER_SIZE: int
BARRIER_SIZE: int
BARRIER: dict[str, tuple[int, int]]
PLACE_SIZE: int

def member_of(word: int) -> int: ...
def pid_of(member: int) -> int: ...
