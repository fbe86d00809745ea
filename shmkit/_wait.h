/* Waiting for another process: yield, then spin, then park; each only as long as it is likely to pay.
 *
 *   crowd   where others want the cores, neither of the next two: see crowd_t
 *   yield   lets a peer on the same core run
 *   spin    reading the word, for a time that is learnt: it grows while waits turn out short and halves while they turn
 *           out long, so a process that waits for a slow peer soon does not spin worth the name.  Not at all where the
 *           other side cannot be running: one core only, or the peer was last seen on this very core
 *   park    announces on the bell word, looks once more, and sleeps on the futex in slices that grow from 1 to 50 ms
 *           (150 once a wait has lasted for a second): a waker may be killed between its store and its wake, so no wait
 *           is unbounded
 *
 * The cost of sleeping and being woken is 5 to 80 µs; spinning about that long and then sleeping costs at most twice
 * what the best choice would (Karlin, Li, Manasse, Owicki: "Empirical studies of competitive spinning", 1991).  The
 * limit lies above the cost of a wake-up, so that two processes that wake each other find back to spinning.  */
#ifndef SHMKIT_WAIT_H
#define SHMKIT_WAIT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <sched.h>
#include <stdint.h>
#include <time.h>

#include "_atomics.h"
#include "_failpoint.h"
#include "_futex.h"

/* What the C functions answer; one check() per .pyx turns it into an exception. */
typedef enum {
    OK = 0,
    FULL,
    EMPTY,
    TIMED_OUT,
    INTERRUPTED, /* a signal came: let Python look at it */
    SLICE_OVER,  /* a whole wait slice without change: time to ask whether the other side lives */
    CLOSED,      /* the other end has left in order */
    DIED,        /* the other end is dead */
    CORRUPT,     /* shared memory contradicts itself */
    TOO_LARGE,   /* can never fit */
    TAKEN,       /* another process has that role */
    TOO_MANY,    /* a limit is reached */
    FAILED,      /* the system refused; errno says why */
    INHERITED,   /* acquired from a holder that died: what the lock guards may be in the middle of a change */
    LOST,        /* a lock that nobody can ever have again */
    NOT_HELD,    /* nothing to release */
    BROKEN,      /* a barrier that somebody has broken */
    COMPLETE,    /* the last one to come to a barrier */
    MISMATCH,    /* a segment is not what it is taken for */
    FOREIGN,     /* it belongs to another user */
    TOO_SMALL,   /* a record does not fit where it is to be put */
    MISUSED,     /* this handle cannot do that now */
} status_t;

#define FOREVER UINT64_MAX

#define SPIN_FIRST_NS 50000u
#define SPIN_LEAST_NS 1000u
#define SPIN_MOST_NS 100000u
#define SPIN_PAYS_NS 250000u   /* a wait that took less, two wake-ups included, would have been worth spinning for */
#define CROWD_YIELD_NS 200000u /* a yield that took longer gave the core to somebody who wanted it for long */
#define CROWD_SWITCH_NS 1500u  /* one that took less let nobody else run */
#define CROWD_SPIN_NS 20000u   /* a spin that is long enough to say something */
#define CROWD_SLEEP_NS 32000u
#define CROWD_VAIN 16u
#define CROWD_LEAST 64u
#define CROWD_MOST 1024u
#define SLICE_FIRST_NS 1000000u
#define SLICE_MOST_NS 50000000u
#define SLICE_LONG_NS 150000000u /* a timer interrupt and the way back cost up to 100 µs on a virtual machine … */
#define SLICE_LONG_AFTER_NS 1000000000u /* … so a long wait looks a third as often: below 0.1 % of a core */
#define CPU_UNKNOWN UINT32_MAX
#define CPU_CLAIMED                                                                                                    \
    (1u << 31) /* beside a CPU: where the other side was when it took its role; it has not waited since */
#define CPU_HERE (UINT32_MAX - 1) /* the other side is a thread of this process: it runs when this one does not */

#define ALWAYS_INLINE inline __attribute__((always_inline))

/* How one end of something waits; private to the process. */
typedef struct {
    uint64_t spin_ns;      /* learnt */
    uint64_t slice_ns;     /* the next slice */
    uint64_t begun_ns;     /* when this wait began; 0: not waiting */
    uint64_t slice_end_ns; /* when the slice under way ends, however often a signal interrupts it; 0: none is */
} waiter_t;

static inline uint64_t clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline void waiter_init(waiter_t *waiter) {
    waiter->spin_ns = SPIN_FIRST_NS;
    waiter->slice_ns = SLICE_FIRST_NS;
    waiter->begun_ns = waiter->slice_end_ns = 0;
}

/* Is this process bound to one core, `here`, and the other side perhaps to the very same?  Where the program has only one
 * core, nobody else can be running; where each side was given a core of its own, it was on that when it took its role.
 * Asked once a wait that got as far as spinning for long. */
static inline int one_core_only(uint32_t here, uint32_t peer_cpu) {
    cpu_set_t set;
    return (peer_cpu == CPU_UNKNOWN || peer_cpu == (here | CPU_CLAIMED)) &&
           sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) == 1;
}

static inline uint32_t this_cpu(void) {
    int cpu = sched_getcpu();
    return cpu < 0 ? CPU_UNKNOWN : (uint32_t)cpu;
}

/* Is what is waited for there?  Loads with seq order, so that it also serves as the look after the announcement. */
typedef int (*ready_t)(const void *);

/* What waits of this program have met of others on its cores, whatever they waited for.
 *
 *   left     So many waits sleep at once.  Where others want the cores, who yields waits for a turn of each, milliseconds; who spins
 *            uses up its own turn, in which the peer perhaps could have run; and who sleeps is let run as soon as it is woken,
 *            which costs some 30 µs more than a yield to a peer alone.  After a yield that took long as many waits sleep as cost
 *            the same by sleeping: at worst they all take twice what they had to.  After a row of spins that saw nothing it
 *            is ever more of them, until one has paid
 *   beside   The peer ran on this very core while the last wait yielded: to spin keeps it from that
 *
 * The threads of a process share the words, one set for each extension module (what locks have learnt of the cores rings
 * learn for themselves): a lost update makes that a wait more or less. */
typedef struct {
    uint32_t left;
    uint32_t beside;
    uint32_t vain;   /* spins in a row that saw nothing */
    uint32_t streak; /* what `left` was after the last such row; 0: a spin has paid since */
} crowd_t;

static inline crowd_t *crowd_here(void) {
    static crowd_t crowd;
    return &crowd;
}

/* relaxed, in all of these: hints */
static inline void crowd_yielded(crowd_t *crowd, uint64_t took_ns) {
    const uint64_t waits = took_ns / CROWD_SLEEP_NS;
    store_relaxed_u32(&crowd->left, waits < CROWD_MOST ? (uint32_t)waits : CROWD_MOST);
}

/* Whether a wait that begins now is one of those that sleep at once. */
static inline int crowd_waits(crowd_t *crowd) {
    const uint32_t left = load_relaxed_u32(&crowd->left);
    if (left != 0)
        store_relaxed_u32(&crowd->left, left - 1);
    return left != 0;
}

static inline void crowd_spun(crowd_t *crowd, int paid) {
    const uint32_t vain = load_relaxed_u32(&crowd->vain);
    if (paid) {
        if (vain != 0)
            store_relaxed_u32(&crowd->vain, 0);
        if (load_relaxed_u32(&crowd->streak) != 0)
            store_relaxed_u32(&crowd->streak, 0);
    } else if (vain + 1 < CROWD_VAIN) {
        store_relaxed_u32(&crowd->vain, vain + 1);
    } else {
        uint32_t streak = load_relaxed_u32(&crowd->streak) * 2;
        streak = streak < CROWD_LEAST ? CROWD_LEAST : streak < CROWD_MOST ? streak : CROWD_MOST;
        store_relaxed_u32(&crowd->streak, streak);
        store_relaxed_u32(&crowd->left, streak);
        store_relaxed_u32(&crowd->vain, 0);
    }
}

/* Spins at most limit_ns, `pace` pauses between looks; returns whether ready. */
static ALWAYS_INLINE int spin_until(ready_t ready, const void *of, uint64_t limit_ns, uint32_t pace) {
    uint64_t end = 0;
    for (;;) {
        for (uint32_t look = 0; look < 32; look += pace) {
            for (uint32_t i = 0; i < pace; i++)
                cpu_relax();
            if (ready(of))
                return 1;
        }
        uint64_t now = clock_ns();
        if (end == 0)
            end = now + limit_ns;
        else if (now >= end)
            return 0;
    }
}

/* The same; but in a crowd, or beside the peer, it looks once. */
static ALWAYS_INLINE int wait_spin(ready_t ready, const void *of, uint64_t limit_ns, uint32_t pace) {
    const crowd_t *const crowd = crowd_here();
    if ((load_relaxed_u32(&crowd->left) | load_relaxed_u32(&crowd->beside)) != 0) /* relaxed: hints */
        return ready(of);
    return spin_until(ready, of, limit_ns, pace);
}

static inline void wait_learn(waiter_t *waiter, uint64_t now) {
    if (waiter->begun_ns != 0) {
        if (now - waiter->begun_ns <= SPIN_PAYS_NS)
            waiter->spin_ns = waiter->spin_ns * 2 < SPIN_MOST_NS ? waiter->spin_ns * 2 : SPIN_MOST_NS;
        else
            waiter->spin_ns = waiter->spin_ns / 2 > SPIN_LEAST_NS ? waiter->spin_ns / 2 : SPIN_LEAST_NS;
    }
    waiter->begun_ns = waiter->slice_end_ns = 0;
    waiter->slice_ns = SLICE_FIRST_NS;
}

/* The beginning of a wait: yields, then spins, if the other side can be running.  Returns whether ready by now; it has looked at
 * least once, whatever the deadline. */
static ALWAYS_INLINE int wait_begin(waiter_t *waiter, ready_t ready, const void *of, uint64_t deadline_ns,
                                    uint32_t peer_cpu, uint32_t pace) {
    const uint64_t now = waiter->begun_ns = clock_ns();
    crowd_t *const crowd = crowd_here();
    waiter->slice_end_ns = 0;
    if (crowd_waits(crowd)) {
        if (ready(of))
            wait_learn(waiter, clock_ns());
        return waiter->begun_ns == 0;
    }
    /* A peer that was woken just now may have been put on this very core: let it run before anything else. */
    sched_yield();
    const int came = ready(of);
    const uint64_t yielded_ns = clock_ns() - now;
    const uint32_t beside = came && yielded_ns >= CROWD_SWITCH_NS;
    if (load_relaxed_u32(&crowd->beside) != beside)
        store_relaxed_u32(&crowd->beside, beside); /* relaxed: a hint */
    if (yielded_ns > CROWD_YIELD_NS)
        crowd_yielded(crowd, yielded_ns);
    if (!came) {
        const uint32_t here = this_cpu();
        if (yielded_ns > CROWD_YIELD_NS || peer_cpu == CPU_HERE || peer_cpu == here || one_core_only(here, peer_cpu))
            return 0;
        uint64_t spin_ns = waiter->spin_ns;
        if (deadline_ns <= now || deadline_ns - now < spin_ns)
            spin_ns = deadline_ns > now ? deadline_ns - now : 0;
        const int paid = wait_spin(ready, of, spin_ns, pace);
        if (paid || spin_ns >= CROWD_SPIN_NS)
            crowd_spun(crowd, paid);
        if (!paid)
            return 0;
    }
    wait_learn(waiter, clock_ns());
    return 1;
}

/* When the slice that is under way, or begins now, ends: at the deadline at the latest. */
static inline uint64_t wait_slice(waiter_t *waiter, uint64_t now, uint64_t deadline_ns) {
    if (waiter->slice_end_ns == 0)
        waiter->slice_end_ns = now + waiter->slice_ns;
    return waiter->slice_end_ns < deadline_ns ? waiter->slice_end_ns : deadline_ns;
}

/* A slice has passed without change: the next one is longer. */
static inline void wait_slice_over(waiter_t *waiter, uint64_t now) {
    const uint64_t most_ns = now - waiter->begun_ns > SLICE_LONG_AFTER_NS ? SLICE_LONG_NS : SLICE_MOST_NS;
    waiter->slice_end_ns = 0;
    waiter->slice_ns = waiter->slice_ns * 2 < most_ns ? waiter->slice_ns * 2 : most_ns;
}

/* One round of waiting on `bell`.  The first of a wait yields and spins; each parks for one slice at most.
 * Returns OK (ready), TIMED_OUT, INTERRUPTED or SLICE_OVER.  `parks` counts rounds that slept (NULL: nobody counts). */
static ALWAYS_INLINE status_t wait_round(waiter_t *waiter, uint32_t *bell, ready_t ready, const void *of,
                                         uint64_t deadline_ns, uint32_t peer_cpu, uint32_t pace, uint64_t *parks) {
    if (waiter->begun_ns == 0 && wait_begin(waiter, ready, of, deadline_ns, peer_cpu, pace))
        return OK;
    uint64_t now = clock_ns();
    if (now >= deadline_ns) {
        wait_learn(waiter, now);
        return TIMED_OUT;
    }
    const uint64_t until_ns = wait_slice(waiter, now, deadline_ns);

    /* SYNC bell: pairs with exchange_seq(bell) in ring_bell; the announcement comes before the look in the one order,
     * as the other side's store comes before its look at the bell: at least one of the two sees the other */
    store_seq_u32(bell, 1);
    FAILPOINT("wait.announced");
    if (ready(of)) {
        /* relaxed: a bell that is rung all the same costs one needless wake-up */
        store_relaxed_u32(bell, 0);
        wait_learn(waiter, clock_ns());
        return OK;
    }
    if (parks != 0)
        store_relaxed_u64(parks, load_relaxed_u64(parks) + 1); /* relaxed: a statistic with one writer */
    futex_wait(bell, 1, until_ns > now ? until_ns - now : 0);
    FAILPOINT("wait.woken");
    store_relaxed_u32(bell, 0); /* relaxed: as above */
    if (ready(of)) {
        wait_learn(waiter, clock_ns());
        return OK;
    }
    now = clock_ns();
    if (now < until_ns)
        return INTERRUPTED;
    wait_slice_over(waiter, now);
    return SLICE_OVER;
}

/* Wakes the owner of `bell` if it sleeps.  Call it after a seq store of what the owner waits for. */
static ALWAYS_INLINE void ring_bell(uint32_t *bell, uint64_t *wakes) {
    /* SYNC bell: pairs with store_seq(bell, 1) in wait_round */
    if (__builtin_expect(load_seq_u32(bell) == 0, 1))
        return;
    if (exchange_seq_u32(bell, 0) == 0)
        return;
    FAILPOINT("bell.cleared");
    if (wakes != 0)
        store_relaxed_u64(wakes, load_relaxed_u64(wakes) + 1); /* relaxed: a statistic with one writer */
    futex_wake(bell, 1);
}

#endif
