/* queue_step OPERATION: SIGKILL, or a long stop, at every instant of one operation on a heap or a queue.
 *
 * A child is stepped through the operation (step_driver.h).  At each point, once for each of some scripts, the survivor does
 * what the script says; in between the child is killed, or goes on to its end.  Letters:
 *
 *    l another one puts, and dies when it has linked a ring, if it has to
 *    p put one    f put so many that rings are linked    g get one    d get all    o drop the oldest    s sweep    t trim
 *    K the child is killed here    C it goes on here
 *
 * After that all must be well: each item whose put returned comes once, but for the one that a killed getter had in its hand; of
 * the child's own item all comes, or nothing; what was dropped does not come; whoever gets an item declares its task done, and then all
 * are, but for that of the one in the killed getter's hand; no block is left but the queue's own; and it works.  */
#define SHMKIT_PASSING
#define HEAP_LIMIT (8u << 20)
#define HEAP_ENTRIES 1024u
#include "heap_driver.h"

#include "step_driver.h"

#include <setjmp.h>

#define NUMBERS 4096u
#define ALL_UNTIL 20u
#define MANY 150u /* more than the first two rings have cells */

static user_t survivor, late;
static user_t victim; /* in the child */

static uint64_t next_number;
static uint8_t came[NUMBERS], must[NUMBERS];
static uint64_t made_by_child; /* the number of its item; NUMBERS: it puts none */
static int child_gets;         /* it may have an item in its hand */
static int child_drops;        /* … or have dropped one */
static int child_looks;        /* … or look whether all is done */
static uint64_t dropped;       /* by survivors */
static int was_done;           /* all tasks were, once */

/* --- dying before the child does (`late`) -------------------------------------------------------------------------- */

static sigjmp_buf grave;
static const char *fatal;

static void passing(const char *name) {
    if (fatal != NULL && strcmp(name, fatal) == 0)
        siglongjmp(grave, 1);
}

static void late_dies(void (*at)(void), const char *where) {
    arrive(&late);
    fatal = where;
    if (sigsetjmp(grave, 0) == 0)
        at();
    EXPECT(fatal != NULL, "?");
    fatal = NULL;
    perish(&late);
}

/* --- items --------------------------------------------------------------------------------------------------------- */

static uint64_t new_number(void) {
    EXPECT(next_number < NUMBERS, "too many items");
    return next_number++;
}

static void put_one(user_t *user) {
    const uint64_t number = new_number();
    const status_t status = put_number(user, number);
    EXPECT(status == OK, "item %" PRIu64 " cannot be put: %d", number, status);
    must[number] = 1;
}

static int64_t unfinished(void) {
    const queue_header_t *header = survivor.queue.header;
    return (int64_t)((header->tail >> 8) - survivor.queue.first_ticket - header->skipped -
                     (header->done >> DONE_SHIFT));
}

static void put_some(user_t *user, uint64_t count) {
    while (count-- != 0)
        put_one(user);
}

static int get_one(user_t *user) {
    uint64_t number;
    if (get_number(user, &number) != OK)
        return 0;
    EXPECT(number < NUMBERS && (must[number] || number == made_by_child), "item %" PRIu64 " was never put", number);
    EXPECT(came[number]++ == 0, "item %" PRIu64 " comes twice", number);
    EXPECT(queue_task_done(&user->queue) == OK, "the task of item %" PRIu64 " was done already", number);
    was_done |= unfinished() == 0;
    return 1;
}

static void get_all(user_t *user) {
    while (get_one(user))
        ;
}

static int drop_one(user_t *user) {
    const status_t status = queue_drop(&user->queue, 1);
    EXPECT(status == OK || status == EMPTY, "drop says %d", status);
    dropped += status == OK;
    return status == OK;
}

/* --- states ---------------------------------------------------------------------------------------------------------- */

static void with_nothing(void) {}
static void with_one(void) { put_some(&survivor, 1); }
static void with_some(void) { put_some(&survivor, 5); }
static void with_a_body_first(void) {
    new_number();
    put_some(&survivor, 5);
}

/* The next put has to link another ring. */
static int is_last_cell(void) {
    const uint64_t tail = survivor.queue.header->tail;
    const cell_t *next = queue_cell(&survivor.queue, tail & 255, (tail >> 8) + 1);
    return next->word != cell_word((tail >> 8) + 1, 0, CELL_FREE);
}
static void with_a_last_cell(void) {
    do
        put_one(&survivor);
    while (!is_last_cell());
}
/* … and one that was left can be made anew. */
static void with_a_last_cell_and_a_ring(void) {
    with_a_last_cell();
    put_one(&survivor);
    get_all(&survivor);
    with_a_last_cell();
}
/* The next get has to follow a link. */
static void with_a_link(void) {
    with_a_last_cell();
    const uint64_t count = next_number;
    put_some(&survivor, 2);
    for (uint64_t i = 0; i < count; i++)
        get_one(&survivor);
}

static void late_puts(void) { put_one(&late); }
static void late_gets(void) { get_one(&late); }
static void late_drops(void) { drop_one(&late); }
static void late_puts_a_body(void) {
    while (body_size_of(next_number) == 0)
        put_one(&survivor);
    late_puts();
}

#define DEAD_PRODUCER(point)                                                                                           \
    static void with_dead_producer_##point(void) {                                                                     \
        put_some(&survivor, 1);                                                                                        \
        late_dies(late_puts_a_body, "queue." #point);                                                                  \
    }
DEAD_PRODUCER(claimed)
DEAD_PRODUCER(tail)
DEAD_PRODUCER(item)
DEAD_PRODUCER(queued)

#define DEAD_CONSUMER(point)                                                                                           \
    static void with_dead_consumer_##point(void) {                                                                     \
        with_a_body_first();                                                                                           \
        late_dies(late_gets, "queue." #point);                                                                         \
    }
DEAD_CONSUMER(taken)
DEAD_CONSUMER(head)
DEAD_CONSUMER(held)

#define DEAD_DROPPER(name, point)                                                                                      \
    static void with_dead_dropper_##name(void) {                                                                       \
        with_a_body_first();                                                                                           \
        late_dies(late_drops, point);                                                                                  \
        dropped++;                                                                                                     \
    }
DEAD_DROPPER(named, "drop.named")
DEAD_DROPPER(counted, "drop.counted")
DEAD_DROPPER(held, "drop.held")
DEAD_DROPPER(freed, "drop.freed")

#define DEAD_MAKER(name, point)                                                                                        \
    static void with_dead_maker_##name(void) {                                                                         \
        with_a_last_cell();                                                                                            \
        late_dies(late_puts, "queue." point);                                                                          \
    }
DEAD_MAKER(new, "ring.new")
DEAD_MAKER(taken, "ring.taken")
DEAD_MAKER(named, "ring.named")
DEAD_MAKER(given, "ring.given")
DEAD_MAKER(formatted, "ring.formatted")
DEAD_MAKER(linked, "linked")

static void with_a_dead_remaker(void) {
    with_a_last_cell_and_a_ring();
    late_dies(late_puts, "queue.ring.again");
}
static void with_an_orphan(void) {
    with_dead_consumer_held();
    EXPECT(clean(&survivor) == OK, "nobody else sweeps");
}
static void with_a_skip(void) {
    with_dead_producer_claimed();
    EXPECT(clean(&survivor) == OK, "nobody else sweeps");
    get_all(&survivor);
}
static void with_dead_of_all_kinds(void) {
    with_dead_producer_claimed();
    late_dies(late_gets, "queue.taken");
    late_dies(late_puts, "queue.tail");
    put_some(&survivor, 2);
}

static uint32_t blocks[8];

static void with_blocks(void) {
    int error;
    for (uint64_t i = 0; i < 8; i++)
        EXPECT(heap_take(&survivor.heap, i < 6 ? 700 : 100000, survivor.queue.held, &blocks[i], &error) == OK, "full");
    for (uint64_t i = 0; i < 8; i += 3)
        heap_drop(&survivor.heap, blocks[i], survivor.queue.held);
}

/* --- operations (start_child) ----------------------------------------------------------------------------------------- */

static item_t item;
static uint32_t block;

static void be(void) {
    arrive(&victim);
    look(); /* nobody is told of a death that comes before the operation */
}
static void be_putter(void) {
    be();
    EXPECT(pack_item(&victim, made_by_child, &item) == OK, "no memory");
}
static void put(void) {
    int error;
    report->result = queue_put(&victim.queue, &item, &error) == OK;
}
/* A planted fault, which must be found: the cell is ready before its block is queued. */
static void put_badly(void) {
    const uint64_t held = victim.queue.held;
    int error;
    victim.queue.held = 1; /* the compare-and-swap fails */
    report->result = queue_put(&victim.queue, &item, &error) == OK;
    cell_t *cell = &victim.queue.rings[0].cells[((survivor.queue.header->tail >> 8) - 1) & 63];
    uint64_t word = held;
    cas_seq_u64(&victim.heap.blocks[item.block].word, &word,
                block_queued(victim.queue.rings[0].block, (uint32_t)(cell - victim.queue.rings[0].cells), 1));
}
static void get(void) {
    uint64_t number;
    if (queue_get(&victim.queue, &item) == OK) {
        memcpy(&number, item.head, 8);
        report->result = number + 1;
    }
}
static void let_go(void) { report->result = queue_drop(&victim.queue, 1) == OK; }
/* A planted fault: what is dropped is got, and counted afterwards. */
static void let_go_badly(void) {
    report->result = queue_get(&victim.queue, &item) == OK;
    if (report->result) {
        if (item.block != 0)
            heap_drop(&victim.heap, item.block, victim.queue.held);
        queue_task_done(&victim.queue);
    }
}
static void is_done(void) { report->result = (uint64_t)queue_is_done(&victim.queue); }
static void sweep(void) { report->result = clean(&victim) == OK; }
static void take_small(void) {
    int error;
    report->result = heap_take(&victim.heap, 700, victim.queue.held, &block, &error) == OK;
}
static void take_large(void) {
    int error;
    report->result = heap_take(&victim.heap, 200000, victim.queue.held, &block, &error) == OK;
}
static void be_holder_of_small(void) {
    be();
    take_small();
    report->result = 0;
}
static void be_holder_of_large(void) {
    be();
    take_large();
    report->result = 0;
}
static void be_cold_holder(void) {
    be_holder_of_large();
    victim.heap.idle_most = 0;
}
static void drop(void) { report->result = heap_drop(&victim.heap, block, victim.queue.held) == OK; }
static void trim(void) { heap_trim(&victim.heap, 0, victim.queue.held); }

static queue_t another;
static uint64_t another_id;

static void be_maker(void) {
    static lease_t share;
    int error;
    uint64_t size;
    be();
    another_id = member_new_id((uint32_t)getpid());
    EXPECT(lease_take_as(&share, heap_fd, heap_file, LEASE_MEMBERS + (int64_t)another_id, F_RDLCK, 1) == 0, "no share");
    another.heap = &victim.heap;
    another.member = victim.place;
    another.held = victim.queue.held;
    EXPECT(heap_take(&victim.heap, sizeof(queue_header_t), another.held, &block, &error) == OK, "no block");
    memset(heap_block_at(&victim.heap, block, &size), 0, sizeof(queue_header_t));
}
static void make(void) {
    int error;
    report->result = queue_format(&another, block, another_id, 5, 0, &error) == OK;
}

/* Each from the image of a kill at the point, … */
static const char *const after[] = {"Ksd", "Kdsd", "Kpsd", "Kspd", "Kfsd", "Ksfd", "Ksgsfd", "Ktsd", "Kosd", "Ksosd"};
/* … or with a child of its own. */
static const char *const around[] = {"pC", "dC",   "fC",   "sC",    "fdC",  "ldC",    "dpC",    "tsC",  "fdfC",  "pgC",
                                     "oC", "oosC", "pKsd", "dKpsd", "fKsd", "fdKsfd", "fdfKsd", "oKsd", "ooKosd"};

#define STATES_MOST 16

typedef struct {
    const char *name;
    void (*prepare)(void);
    void (*operate)(void);
    int puts, gets;  /* gets: 1; drops: 2 */
    uint64_t around; /* at one of so many points the scripts with something before the kill are played, too */
    uint64_t stride; /* after the first points one of so many is tried: there are thousands of alike ones */
    struct {
        const char *name;
        void (*prepare)(void);
    } states[STATES_MOST];
} operation_t;

#define STATE(name) {#name, name}

static const operation_t operations[] = {
    {"put",
     be_putter,
     put,
     1,
     0,
     1,
     1,
     {STATE(with_nothing), STATE(with_some), STATE(with_dead_producer_claimed), STATE(with_dead_consumer_held),
      STATE(with_a_skip), STATE(with_an_orphan)}},
    {"put-body", be_putter, put, 2, 0, 1, 1, {STATE(with_nothing), STATE(with_some), STATE(with_a_skip)}},
    {"put-linking", be_putter, put, 1, 0, 3, 29, {STATE(with_a_last_cell)}},
    {"put-relinking", be_putter, put, 1, 0, 3, 29, {STATE(with_a_last_cell_and_a_ring)}},
    {"put-after-dead-makers",
     be_putter,
     put,
     1,
     0,
     3,
     59,
     {STATE(with_dead_maker_named), STATE(with_dead_maker_linked)}},
    {"put-badly", be_putter, put_badly, 2, 0, 1, 1, {STATE(with_nothing)}},
    {"get",
     be,
     get,
     0,
     1,
     1,
     1,
     {STATE(with_nothing), STATE(with_some), STATE(with_a_body_first), STATE(with_a_link),
      STATE(with_dead_producer_claimed), STATE(with_dead_consumer_taken), STATE(with_dead_consumer_held),
      STATE(with_a_skip), STATE(with_an_orphan), STATE(with_dead_maker_linked)}},
    {"let-go",
     be,
     let_go,
     0,
     2,
     1,
     1,
     {STATE(with_nothing), STATE(with_some), STATE(with_a_body_first), STATE(with_a_link),
      STATE(with_dead_consumer_held), STATE(with_an_orphan), STATE(with_dead_dropper_named),
      STATE(with_dead_dropper_counted), STATE(with_dead_dropper_held), STATE(with_dead_dropper_freed)}},
    {"let-go-badly", be, let_go_badly, 0, 2, 1, 1, {STATE(with_some)}},
    {"is-done", be, is_done, 0, 0, 1, 1, {STATE(with_nothing), STATE(with_one), STATE(with_some), STATE(with_a_skip)}},
    {"sweep-droppers",
     be,
     sweep,
     0,
     0,
     8,
     1,
     {STATE(with_dead_dropper_named), STATE(with_dead_dropper_counted), STATE(with_dead_dropper_held),
      STATE(with_dead_dropper_freed)}},
    {"sweep-producers",
     be,
     sweep,
     0,
     0,
     8,
     1,
     {STATE(with_dead_producer_claimed), STATE(with_dead_producer_item), STATE(with_dead_producer_queued)}},
    {"sweep-consumers",
     be,
     sweep,
     0,
     0,
     8,
     1,
     {STATE(with_dead_consumer_taken), STATE(with_dead_consumer_head), STATE(with_dead_consumer_held)}},
    {"sweep-makers",
     be,
     sweep,
     0,
     0,
     8,
     1,
     {STATE(with_dead_maker_taken), STATE(with_dead_maker_named), STATE(with_dead_maker_given),
      STATE(with_dead_maker_formatted), STATE(with_dead_maker_linked), STATE(with_a_dead_remaker)}},
    {"sweep-all",
     be,
     sweep,
     0,
     0,
     8,
     1,
     {STATE(with_dead_of_all_kinds), STATE(with_dead_producer_tail), STATE(with_dead_maker_new)}},
    {"take", be, take_small, 0, 0, 1, 29, {STATE(with_nothing), STATE(with_blocks)}},
    {"take-large", be, take_large, 0, 0, 1, 1, {STATE(with_nothing), STATE(with_blocks)}},
    {"drop", be_holder_of_small, drop, 0, 0, 1, 1, {STATE(with_nothing), STATE(with_blocks)}},
    {"drop-large", be_holder_of_large, drop, 0, 0, 1, 1, {STATE(with_blocks)}},
    {"drop-cold", be_cold_holder, drop, 0, 0, 1, 1, {STATE(with_blocks)}},
    {"trim", be, trim, 0, 0, 3, 1, {STATE(with_blocks), STATE(with_some)}},
    {"make", be_maker, make, 0, 0, 3, 29, {STATE(with_nothing)}},
};

/* --- images ------------------------------------------------------------------------------------------------------------ */

typedef struct {
    char *memory;
    uint64_t size;
    user_t survivor;
    uint64_t next_number, dropped;
    int was_done;
    uint8_t came[NUMBERS], must[NUMBERS];
} image_t;

static uint64_t in_use(void) { /* bytes of the heap that can have anything in them */
    return (survivor.heap.header->top & ((1ull << 40) - 1)) * PAGE;
}

static void save(image_t *image) {
    image->size = in_use();
    image->memory = realloc(image->memory, image->size);
    memcpy(image->memory, heap_memory, image->size);
    image->survivor = survivor;
    image->next_number = next_number;
    image->dropped = dropped;
    image->was_done = was_done;
    memcpy(image->came, came, sizeof came);
    memcpy(image->must, must, sizeof must);
}

static void restore(const image_t *image) {
    const uint64_t size = in_use();
    if (size > image->size) /* as if it had never been given out */
        memset(heap_memory + image->size, 0, size - image->size);
    memcpy(heap_memory, image->memory, image->size);
    survivor = image->survivor;
    next_number = image->next_number;
    dropped = image->dropped;
    was_done = image->was_done;
    memcpy(came, image->came, sizeof came);
    memcpy(must, image->must, sizeof must);
}

/* --- what must hold ------------------------------------------------------------------------------------------------------ */

static void survive(const char *script) {
    for (; *script != 0; script++)
        switch (*script) {
        case 'p':
            put_one(&survivor);
            break;
        case 'f':
            put_some(&survivor, MANY);
            break;
        case 'g':
            get_one(&survivor);
            break;
        case 'd':
            get_all(&survivor);
            break;
        case 'o':
            drop_one(&survivor);
            was_done |= unfinished() == 0;
            break;
        case 'l':
            late_dies(late_puts, "queue.linked");
            break;
        case 's':
            clean(&survivor); /* or the child, stopped, is at it */
            break;
        default:
            heap_trim(&survivor.heap, 0, survivor.queue.held);
        }
}

static uint64_t sum(const uint8_t *counts) {
    uint64_t total = 0;
    for (uint64_t i = 0; i < NUMBERS; i++)
        total += counts[i];
    return total;
}

static void check(void) {
    queue_header_t *header = survivor.queue.header;
    uint64_t missing = 0, last = 0, may_go = dropped + (child_drops && (!report->finished || report->result));
    const int was_done_by_now = was_done;
    /* What the survivor holds on purpose. */
    EXPECT(clean(&survivor) == OK, "nobody else sweeps");
    get_all(&survivor);
    for (uint64_t i = 0; i < 8; i++)
        if (blocks[i] != 0 && heap_word(&survivor.heap, blocks[i]) == survivor.queue.held)
            EXPECT(heap_drop(&survivor.heap, blocks[i], survivor.queue.held) == OK, "a block is gone");
    for (uint64_t number = 0; number < NUMBERS; number++)
        if (must[number] && !came[number]) {
            missing++;
            last = number;
        }
    const int in_hand = child_gets && (report->finished ? report->result != 0 : missing > dropped);
    if (in_hand && report->finished)
        EXPECT(!came[report->result - 1], "item %" PRIu64 " comes twice", report->result - 1);
    EXPECT(missing <= may_go + (uint64_t)in_hand, "item %" PRIu64 " is lost", last);
    if (report->finished && made_by_child < NUMBERS)
        EXPECT(report->result && came[made_by_child] + dropped != 0, "the child's item is lost");
    EXPECT(!report->finished || !child_looks || !report->result || was_done_by_now,
           "all seemed to be done, and never was");
    /* What was dropped is gone, but for what a survivor dropped of the child's own. */
    const uint64_t put = (header->tail >> 8) - survivor.queue.first_ticket - header->skipped,
                   got = sum(came) + (uint64_t)in_hand, left = put - got;
    EXPECT(left <= may_go && left >= dropped + (child_drops && report->finished && report->result),
           "%" PRIu64 " items seem to have been put, and %" PRIu64 " came", put, got);
    EXPECT(unfinished() == in_hand, "%" PRId64 " tasks are not done", unfinished());
    EXPECT(queue_size(&survivor.queue) == 0, "%" PRIu64 " items are left", queue_size(&survivor.queue));
    EXPECT(blocks_in_use(&survivor) == 0, "%u blocks are left", blocks_in_use(&survivor));
    check_own_blocks(&survivor);
    for (uint32_t i = 0; i < HEAP_MEMBERS; i++)
        EXPECT(heap_member(&survivor.heap, i) == 0 || heap_member(&survivor.heap, i) == survivor.member.id,
               "a dead member has its place");
    /* It works, and has what it needs. */
    survive("pgfdpd");
    heap_trim(&survivor.heap, 0, survivor.queue.held);
    EXPECT(clean(&survivor) == OK && blocks_in_use(&survivor) == 0, "%u blocks are left", blocks_in_use(&survivor));
    uint64_t resident = 0, size = 0;
    for (uint32_t i = 1; i < survivor.heap.header->top >> 40; i++)
        if (block_first(&survivor.heap, i) == i && survivor.heap.blocks[i].resident == RESIDENT_ALL) {
            heap_slab_at(&survivor.heap, i, &size);
            resident += size;
            int used = 0;
            for (uint32_t j = 0; j < heap_slab_count(block_class(&survivor.heap, i)); j++)
                used |= heap_word(&survivor.heap, i + j) != 0;
            EXPECT(used, "slab %u is still there", i);
        }
    EXPECT(survivor.heap.header->resident == resident, "the sum of what is there is wrong");
}

static const char *state_name;

static void context(const operation_t *operation, uint64_t point, const char *script) {
    alarm(20);
    snprintf(driver_context, sizeof driver_context, "%s %s, point %" PRIu64 ", script %s: ", operation->name,
             state_name, point, script);
}

/* Whoever sweeps asks the kernel who is dead, and a child that is stopped is not. */
static void around_it(const operation_t *operation, uint64_t point, const char *script) {
    char before[8] = "";
    const char *how = strpbrk(script, "KC");
    memcpy(before, script, (size_t)(how - script));
    context(operation, point, script);
    const pid_t pid = start_child(operation->prepare, operation->operate);
    if (step_on(pid, point)) {
        survive(before);
        if (*how == 'C')
            run_on(pid);
    }
    kill_child(pid);
    survive(how + 1);
    check();
}

static uint64_t kills;

static void step_through(const operation_t *operation, const image_t *begin) {
    static image_t killed;
    uint64_t point = 0;
    for (int alive = 1; alive; point += point < ALL_UNTIL || everywhere ? 1 : operation->stride) {
        context(operation, point, "");
        alive = run_and_kill(operation->prepare, operation->operate, point);
        save(&killed);
        for (uint64_t i = 0; i < sizeof after / sizeof *after; i++) {
            context(operation, point, after[i]);
            survive(after[i] + 1);
            check();
            restore(&killed);
        }
        restore(begin);
        kills++;
        if (!everywhere && point % operation->around != 0)
            continue;
        for (uint64_t i = 0; i < sizeof around / sizeof *around; i++) {
            around_it(operation, point, around[i]);
            restore(begin);
        }
    }
}

static void stuck(int signal) {
    (void)signal;
    FAIL("it does not end");
}

/* Enough for what any state has: not what items are made of, which nobody looks at before a word says so. */
static void watch_heap(void) {
    const heap_t *heap = &survivor.heap;
    uint64_t size;
    watched_count = 0;
    watch(heap_memory, offsetof(heap_header_t, classes) + 48 * sizeof(heap_class_t));
    watch(heap->header->members, HEAP_MEMBERS * sizeof(uint64_t));
    watch(heap->blocks, 400 * sizeof(heap_block_t));
    watch(survivor.queue.header, sizeof(queue_header_t));
    for (uint32_t ring = 0; ring < QUEUE_RINGS; ring++) {
        const char *at = heap_block_at(heap, queue_ring(&survivor.queue, ring), &size);
        if (at != NULL)
            watch(at, ring_bytes(((const cell_ring_t *)at)->cells_log));
    }
}

int main(int argc, char **argv) {
    const operation_t *operation = NULL;
    static image_t fresh, begin;
    for (uint64_t i = 0; argc >= 2 && i < sizeof operations / sizeof *operations; i++)
        if (strcmp(argv[1], operations[i].name) == 0)
            operation = &operations[i];
    EXPECT(operation != NULL, "usage: queue_step OPERATION [STATE]");
    step_begin();
    signal(SIGALRM, stuck);
    make_heap();
    arrive(&survivor);
    make_queue(&survivor, QUEUE_UNBOUNDED);
    save(&fresh);
    for (uint64_t i = 0; i < STATES_MOST && operation->states[i].name != NULL; i++) {
        state_name = operation->states[i].name;
        if (argc > 2 && strcmp(argv[2], state_name) != 0)
            continue;
        snprintf(driver_context, sizeof driver_context, "%s %s: ", operation->name, state_name);
        alarm(20);
        made_by_child = NUMBERS;
        memset(blocks, 0, sizeof blocks);
        operation->states[i].prepare();
        child_gets = operation->gets == 1;
        child_drops = operation->gets == 2;
        child_looks = operation->operate == is_done;
        was_done = unfinished() == 0;
        while (operation->puts == 2 && body_size_of(next_number) == 0)
            new_number();
        made_by_child = operation->puts ? new_number() : NUMBERS;
        watch_heap();
        save(&begin);
        const uint64_t before = kills;
        step_through(operation, &begin);
        printf("%s %s: %" PRIu64 " kills\n", operation->name, state_name, kills - before);
        restore(&fresh);
    }
    printf("%s: %" PRIu64 " kills, %" PRIu64 " steps\n", operation->name, kills, steps);
    return 0;
}
