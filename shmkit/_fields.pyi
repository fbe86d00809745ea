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
TOPIC_SIZE: int
TOPIC_SLOTS_LIMIT: int
TOPIC_STATES: dict[int, str]
TOPIC: dict[str, tuple[int, int]]
HEAP_SIZE: int
HEAP_BLOCKS_LIMIT: int
HEAP: dict[str, tuple[int, int]]
BLOCK_SIZE: int
BLOCK_IS_HELD: int
BLOCK_TAGS: int
BLOCK_OF_DATA: int
BLOCK_OF_QUEUE: int
BLOCK: dict[str, tuple[int, int]]
BLOCK_CLASSES: list[tuple[int, int]]
QUEUE_SIZE: int
QUEUE_KIND: int
QUEUE_MOST: int
QUEUE_STATES: dict[int, str]
QUEUE: dict[str, tuple[int, int]]

def member_of(word: int) -> int: ...
def pid_of(member: int) -> int: ...
