/* A small message passes from a sender to a reader that is in recv, without the descriptor ("meet" in _heap_layout.h).
 *
 *   post      NOBODY → COMING, with the next ticket, by a reader that would have to wait; then it looks at the descriptor, and if that is
 *             empty, COMING → WAITING.  It looks at the word, and now and then at the descriptor, for as long as that is likely to pay
 *   hand      a sender sees WAITING, becomes the owner, stores the bytes, and → READY, with the same ticket
 *   take      the reader copies the bytes, and → NOBODY: only now it has them
 *   withdraw  whoever has waited for long enough → NOBODY: the reader, WAITING, to wait in the descriptor; the owner, READY, to
 *             write to the descriptor
 *   tell      who has written to the descriptor → NOBODY, whatever post is there then, COMING or WAITING; only then its call returns
 *
 * Nobody waits for anybody's next step for longer than it likes, and each step is one compare-and-swap, which says to exactly one
 * of the two what became of the message: it was taken, and is the reader's, or it was not, and goes through the descriptor.
 *
 * Order.  What was handed over under a ticket may come before nothing whose send had returned when its own began.  If that was written to
 * the descriptor, and told, before the post: the reader has looked at the descriptor since, and found nothing, so it had been read.
 * Otherwise the post was there when it was told, and is there no more.  In between lies nothing: post and look, write and tell are each in
 * that order for everybody, so that one of the two sees the other.  And the ticket has not changed between a sender's look at the word and
 * READY.
 *
 * Who writes and does not tell: whoever knows the descriptor's number (`fileno`), and who was given an end and cannot get at this memory.
 * Where there may be one (pair_may_be_untold in _pair.h) the kernel is asked whether the descriptor is empty, after the look at the word: all
 * whose write had ended by then had been read.  It costs a third of a write.
 *
 * What a descriptor tells (select, poll, another reader) stays true: a message that was handed over was never in it, as one that
 * a reader in read() has got was not, either; and it is handed to a reader in recv only, never to one in poll.
 *
 * Killed, or stopped, at any point:
 *   a reader, COMING        the next sender writes, and tells: the post is gone
 *   a reader, WAITING       the next sender withdraws what it hands, writes, and tells
 *   a reader, before take   the same: a message is lost with it only if it had it
 *   a sender, as owner      the next one learns from its lease that it is dead, and is the owner; what was READY and whose reader is
 *                           dead too is withdrawn: the call had not returned.  If stopped, the others write to the descriptor
 *   a sender, READY         taken, as if it had been killed right after the write; if stopped and not taken, it writes when it goes on
 *   a sender, before the write of what it has withdrawn: never sent, the call had not returned
 *   a sender, before it tells: what is handed over now may come before what it wrote; the call had not returned
 * The end of the last writer or reader is the descriptor's to tell: a reader that is posted looks there, and a sender that was not
 * answered writes there.
 *
 * Bytes are copied before it is known whether they count (their owner may have withdrawn them, and another store its own): so both
 * sides use relaxed atomics for them, and the compare-and-swap of `take` decides, as in a sequence lock. */
#ifndef SHMKIT_PAIR_MEET_H
#define SHMKIT_PAIR_MEET_H

#include "_heap_layout.h"
#include "_member.h"
#include "_wait.h"
#include "_wire.h"

#define MEET_PACE 2u
#define MEET_LOOKS 32u        /* looks at the word for one at the descriptor */
#define MEET_COMING_LOOKS 64u /* looks at a reader that is about to wait */
#ifndef MEET_ANSWER_NS
#define MEET_ANSWER_NS 4000u /* a reader that runs takes within a tenth of that */
#endif
#define MEET_SKIPS_MOST 64u /* messages that are not handed over, after several that were not taken */

/* --- sending ---------------------------------------------------------------------------------------------------------- */

/* What a process knows of one way that it sends; private to it. */
typedef struct {
    uint64_t stuck;         /* a word that was READY, and somebody else's, at the last message */
    unsigned long question; /* what the kernel is asked (wire_is_empty) */
    uint32_t missed;        /* messages in a row that were not taken */
    uint32_t skips;         /* messages that are not to be handed over now */
    uint64_t handed;        /* messages that were */
} meet_sender_t;

static inline int meet_own(meet_t *meet, const member_t *me) {
    uint64_t owner = 0;
    /* SYNC meet-owner: pairs with store_release(owner) in meet_disown, and with the death of an owner */
    if (cas_seq_u64(&meet->owner, &owner, me->id))
        return 1;
    return member_died(me, owner) && cas_seq_u64(&meet->owner, &owner, me->id);
}

static inline void meet_disown(meet_t *meet) {
    /* SYNC meet-owner: pairs with cas_seq(owner) in meet_own: the next one's bytes come after what was done with these */
    store_release_u64(&meet->owner, 0);
}

/* Did a reader wait on another core than this one, at last? */
static inline int meet_is_apart(const meet_t *meet) {
    const uint32_t there = load_relaxed_u32(&meet->reader_cpu); /* relaxed: a hint */
    return there != 0 && there != this_cpu() + 1;
}

/* READY, and not by this call: by one that goes on, or by somebody who is dead, as is the reader. */
static inline void meet_unstick(meet_t *meet, uint64_t word, const member_t *me) {
    if (!meet_own(meet, me))
        return;
    cas_seq_u64(&meet->word, &word, word & ~(uint64_t)MEET_STATE);
    meet_disown(meet);
}

/* Hands a message over.  Returns whether the reader has it; if not, it is written to the descriptor, and then meet_tell() is called.
 * `ask`: somebody may write and not tell. */
static inline int meet_hand(meet_t *meet, meet_sender_t *sender, const member_t *me, int fd, const void *data,
                            uint32_t size, uint32_t note, int ask) {
    const uint32_t here = this_cpu() + 1;
    /* SYNC meet-posted: pairs with cas_seq(word) in meet_open; the question to the kernel, too, comes after this look */
    uint64_t word = load_acquire_u64(&meet->word);
    /* relaxed: hints */
    if (load_relaxed_u32(&meet->sender_cpu) != here)
        store_relaxed_u32(&meet->sender_cpu, here);
    const int apart = load_relaxed_u32(&meet->reader_cpu) != here;
    for (uint32_t look = 0; apart && (word & MEET_STATE) == MEET_COMING && look < MEET_COMING_LOOKS; look++) {
        cpu_relax();
        word = load_acquire_u64(&meet->word); /* SYNC meet-posted: pairs with cas_seq(word) in meet_open */
    }
    const uint32_t state = word & MEET_STATE;
    if (state != MEET_WAITING) {
        if (state == MEET_READY) {
            if (sender->stuck == word)
                meet_unstick(meet, word, me);
            sender->stuck = word;
        }
        return 0;
    }
    if (size > MEET_MOST || (sender->skips != 0 && sender->skips-- != 0) || !apart)
        return 0;
    if ((ask && !wire_is_empty(fd, &sender->question)) || !meet_own(meet, me))
        return 0;
    FAILPOINT("meet.owned");
    /* SYNC meet-taken: pairs with cas_seq(word) in meet_take.  Only an owner makes it READY: one that died just now may have, and the
     * reader copies. */
    if (load_acquire_u64(&meet->word) != word) {
        meet_disown(meet);
        return 0;
    }
    for (uint32_t i = 0; i < size / 8; i++) {
        uint64_t bytes;
        memcpy(&bytes, (const char *)data + 8 * i, 8);
        store_relaxed_u64(&meet->bytes[i], bytes); /* relaxed: READY comes after it */
    }
    if (size % 8 != 0) {
        uint64_t bytes = 0;
        memcpy(&bytes, (const char *)data + size / 8 * 8, size % 8);
        store_relaxed_u64(&meet->bytes[size / 8], bytes); /* relaxed: as above */
    }
    FAILPOINT("meet.stored");
    const uint64_t ready = (word & ~(uint64_t)(MEET_TICKET - 1)) | note | size << MEET_SIZE_SHIFT | MEET_READY;
    uint64_t now = word;
    /* SYNC meet-ready: pairs with load_seq(word) in meet_has_changed: the bytes come before it */
    if (!cas_seq_u64(&meet->word, &now, ready)) {
        meet_disown(meet);
        return 0;
    }
    FAILPOINT("meet.handed");
    /* The answer mostly comes before it pays to look at the clock. */
    for (uint64_t end = 0;;) {
        for (uint32_t look = 0; look < 16; look++) {
            /* SYNC meet-taken: pairs with cas_seq(word) in meet_take: its copy comes before it, and what is stored next after it */
            if (load_acquire_u64(&meet->word) != ready)
                goto taken;
            cpu_relax();
        }
        if (end == 0)
            end = clock_ns() + MEET_ANSWER_NS;
        else if (clock_ns() >= end)
            break;
    }
    now = ready;
    /* SYNC meet-taken: pairs with cas_seq(word) in meet_take: either the one or the other */
    if (cas_seq_u64(&meet->word, &now, word & ~(uint64_t)MEET_STATE)) {
        FAILPOINT("meet.withdrawn");
        meet_disown(meet);
        if (sender->missed < 16)
            sender->missed++;
        sender->skips = 1u << sender->missed < MEET_SKIPS_MOST ? 1u << sender->missed : MEET_SKIPS_MOST;
        return 0;
    }
taken:
    FAILPOINT("meet.answered");
    meet_disown(meet);
    sender->missed = 0;
    sender->handed++;
    return 1;
}

/* After a write, and before its call returns: nobody is handed anything who has looked at the descriptor before. */
static inline void meet_tell(meet_t *meet) {
    FAILPOINT("meet.telling");
    uint64_t word = load_relaxed_u64(&meet->word); /* relaxed: a guess for the compare-and-swap */
    for (;;) {
        const uint32_t state = word & MEET_STATE;
        const int posted = state == MEET_WAITING || state == MEET_COMING;
        /* SYNC meet-told: pairs with cas_seq(word) in meet_post: the write comes before it.  Also where there is nothing to change: so one of
         * the two comes after the other. */
        if (cas_seq_u64(&meet->word, &word, posted ? word & ~(uint64_t)MEET_STATE : word))
            return;
    }
}

/* --- receiving -------------------------------------------------------------------------------------------------------- */

#define MEET_TAKEN 1 /* a message was taken */
#define MEET_LOOK 0  /* the descriptor is to be read: its first bytes have been, perhaps */
#define MEET_LEFT 2  /* this process has closed the descriptor */

/* What a process knows of one way that it receives; private to it, and all its threads'. */
typedef struct {
    uint64_t spin_ns; /* learnt (_wait.h) */
    uint32_t inside;  /* threads that wait here, and may look at the descriptor */
    uint32_t leave;   /* moves when it is about to be closed */
    uint32_t handed;  /* whether the latest message was handed over */
} meet_reader_t;

typedef struct {
    const meet_t *meet;
    const meet_reader_t *reader;
    uint64_t posted;
    uint32_t stays, looks;
    int fd;
} meet_wait_t;

static inline void meet_count(uint32_t *word, uint32_t by) {
    uint32_t now = load_relaxed_u32(word); /* relaxed: a guess for the compare-and-swap */
    while (!cas_seq_u32(word, &now, now + by))
        ;
}

/* Before the GIL is released; returns what `leave` is as long as nobody closes the descriptor. */
static inline uint32_t meet_enter(meet_reader_t *reader) {
    meet_count(&reader->inside, 1);
    return load_seq_u32(&reader->leave);
}

/* The descriptor is about to be closed: those who wait stop, and do not look at its number again.  Returns when they have, or after
 * `most_ns`. */
static inline void meet_leave(meet_reader_t *reader, uint64_t most_ns) {
    const uint64_t end = clock_ns() + most_ns;
    meet_count(&reader->leave, 1);
    while (load_seq_u32(&reader->inside) != 0 && clock_ns() < end)
        sched_yield();
}

static inline int meet_has_changed(const void *of) {
    meet_wait_t *wait = (meet_wait_t *)of;
    /* SYNC meet-ready: pairs with cas_seq(word) in meet_hand: the bytes come before it */
    if (load_seq_u64(&wait->meet->word) != wait->posted || load_seq_u32(&wait->reader->leave) != wait->stays)
        return 1;
    return ++wait->looks % MEET_LOOKS == 0 && wire_poll(wait->fd, 0) != 0;
}

/* COMING.  0: somebody else is here. */
static inline uint64_t meet_post(meet_t *meet) {
    uint64_t word = load_relaxed_u64(&meet->word); /* relaxed: a guess for the compare-and-swap */
    uint64_t posted = (word & ~(uint64_t)(MEET_TICKET - 1)) + MEET_TICKET + MEET_COMING;
    if ((word & MEET_STATE) != MEET_NOBODY)
        return 0;
    store_relaxed_u32(&meet->reader_cpu, this_cpu() + 1); /* relaxed: a hint */
    /* SYNC meet-told: pairs with cas_seq(word) in meet_tell: the look at the descriptor comes after it */
    return cas_seq_u64(&meet->word, &word, posted) ? posted : 0;
}

/* Takes a post back.  Returns whether it was there; if not, *word says what is. */
static inline int meet_unpost(meet_t *meet, uint64_t *word) {
    return cas_seq_u64(&meet->word, word, *word & ~(uint64_t)MEET_STATE);
}

/* WAITING, as the descriptor is empty.  0: somebody has written to it since. */
static inline uint64_t meet_open(meet_t *meet, uint64_t posted) {
    const uint64_t waiting = (posted & ~(uint64_t)MEET_STATE) | MEET_WAITING;
    /* SYNC meet-posted: pairs with load_acquire(word) in meet_hand: the look at the descriptor comes before it */
    return cas_seq_u64(&meet->word, &posted, waiting) ? waiting : 0;
}

/* Copies what is READY under this ticket, and takes it. */
static inline int meet_take(meet_t *meet, uint64_t word, uint64_t *into, uint32_t *size, uint32_t *note) {
    *size = (uint32_t)(word >> MEET_SIZE_SHIFT) & MEET_SIZE;
    *note = word & MEET_NOTE;
    if (*size > MEET_MOST)
        return 0;
    for (uint32_t i = 0; i < (*size + 7) / 8; i++)
        into[i] = load_relaxed_u64(&meet->bytes[i]); /* relaxed: READY came before it, and what follows decides */
    FAILPOINT("meet.copied");
    /* SYNC meet-taken: pairs with load_acquire(word) in meet_hand: the copy comes before it */
    const int taken = cas_seq_u64(&meet->word, &word, word & ~(uint64_t)(MEET_TICKET - 1));
    FAILPOINT("meet.taken");
    return taken;
}

static inline int meet_look(meet_t *meet, const waiter_t *waiter, const meet_reader_t *reader, int fd, uint32_t stays,
                            uint64_t *into, uint32_t *size, uint32_t *note, uint32_t *head, size_t *done) {
    const uint32_t here = this_cpu();
    /* relaxed: a hint.  A sender that was last seen on this core runs when this process does not. */
    const uint32_t there = load_relaxed_u32(&meet->sender_cpu);
    if (there == here + 1 || (there == 0 && one_core_only(here, CPU_UNKNOWN)) || crowd_waits(crowd_here()))
        return MEET_LOOK;
    meet_wait_t wait = {.meet = meet, .reader = reader, .stays = stays, .looks = 0, .fd = fd};
    do {
        uint64_t word = meet_post(meet);
        if (word == 0)
            return MEET_LOOK;
        FAILPOINT("meet.posted");
        if (wire_glance(fd, head, sizeof *head, done) != EAGAIN) {
            meet_unpost(meet, &word);
            return MEET_LOOK;
        }
        FAILPOINT("meet.looked");
        wait.posted = meet_open(meet, word);
        if (wait.posted != 0) {
            spin_until(meet_has_changed, &wait, waiter->spin_ns, MEET_PACE);
            word = wait.posted;
            if (meet_unpost(meet, &word))
                break;
            if ((word ^ wait.posted) >> 16 == 0 && (word & MEET_STATE) == MEET_READY &&
                meet_take(meet, word, into, size, note))
                return MEET_TAKEN;
        }
        /* Somebody has written to the descriptor, and another reader may have read that. */
        FAILPOINT("meet.told");
    } while (load_seq_u32(&reader->leave) == stays);
    FAILPOINT("meet.left");
    return load_seq_u32(&reader->leave) != stays ? MEET_LEFT : MEET_LOOK;
}

/* Waits for a message for as long as it may pay, after meet_enter().  `into` has room for MEET_MOST bytes; *done bytes of the next message in
 * the descriptor, which begins with *head, may have been read.  Returns MEET_…; the wait ends with meet_learn(). */
static inline int meet_wait(meet_t *meet, waiter_t *waiter, meet_reader_t *reader, int fd, uint32_t stays,
                            uint64_t *into, uint32_t *size, uint32_t *note, uint32_t *head, size_t *done) {
    waiter_init(waiter);
    waiter->spin_ns = load_relaxed_u64(&reader->spin_ns); /* relaxed: a hint */
    if (waiter->spin_ns == 0)
        waiter->spin_ns = SPIN_FIRST_NS;
    waiter->begun_ns = clock_ns();
    const int found = meet_look(meet, waiter, reader, fd, stays, into, size, note, head, done);
    meet_count(&reader->inside, UINT32_MAX);
    return found;
}

static inline void meet_learn(meet_reader_t *reader, waiter_t *waiter, int found) {
    wait_learn(waiter, clock_ns());
    store_relaxed_u32(&reader->handed, found == MEET_TAKEN); /* relaxed: a hint */
    store_relaxed_u64(&reader->spin_ns, waiter->spin_ns);    /* relaxed: a hint */
}

#endif
