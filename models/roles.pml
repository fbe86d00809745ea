/* roles.pml: who may store tail (or head), who is dead, and how one end sleeps and wakes the other; for both ends.
 *
 * Included by ring.pml.  The inlines work on the variables of the process that they stand in: position is its own,
 * other its private copy of the other end's. */

/* ---- roles ----------------------------------------------------------------------------------------------------- */

/* ring_claim_…: take the lease, learn the own position (what a dead one did not commit is forgotten), sign in. */
inline claim(role, own, bell, theirs) {
#ifdef MUTANT_CLAIM_STALE
    position = own;
#endif
    atomic { !role.held -> role.held = true; mine = true } /* lease_take */
#ifndef MUTANT_CLAIM_STALE
    position = own;
#endif
    other = theirs;
    bell = 0;
#ifdef MUTANT_STATE_BEFORE_EPOCH
    role.state = OPEN;
#endif
#ifdef MUTANT_PID_BEFORE_EPOCH
    role.pid_ = role.epoch + 1;
#endif
    atomic { assert(mine && role.held); role.epoch++; role.fate[role.epoch] = ALIVE }
#ifndef MUTANT_PID_BEFORE_EPOCH
    role.pid_ = role.epoch;
#endif
#ifndef MUTANT_STATE_BEFORE_EPOCH
    role.state = OPEN
#endif
}

inline drop_lease(role) {
    atomic { role.held = false; mine = false }
}

/* ring_close_…: say so, wake the other end, let go. */
inline close(role, peer_bell, peer_asleep) {
#ifdef MUTANT_DROP_BEFORE_CLOSED
    drop_lease(role);
#endif
    atomic { role.state = CLOSED; role.fate[role.epoch] = CLOSED }
#ifndef MUTANT_CLOSE_SILENT
    ring(peer_bell, peer_asleep);
#endif
#ifndef MUTANT_DROP_BEFORE_CLOSED
    drop_lease(role)
#endif
}

/* SIGKILL: the kernel frees the lease and its futex queue; nothing else changes. */
inline die(role, asleep) {
    victim = 0;
    if
    :: mine ->
       asleep = false;
       mine = false;
       role.held = false;
       if
       :: role.fate[role.epoch] == ALIVE -> role.fate[role.epoch] = DIED
       :: else
       fi
    :: else
    fi;
    need = 0; gap = 0; span = 0; unit = 0; value = 0; pending = 0; answer = 0; epoch = 0; who = 0
}

inline end_life(lives_left) {
    d_step {
        position = 0; other = 0; need = 0; gap = 0; span = 0; answer = 0;
        lives--;
        lives_left--
    }
}

/* Perhaps nobody takes over. */
inline no_successor(lives_left) {
    d_step { lives > 0 && lives < LIVES -> lives_left = lives_left - lives; lives = 0 }
}

/* ---- waking and waiting ---------------------------------------------------------------------------------------- */

/* After a store that the other end may wait for. */
inline ring(bell, asleep) {
    if
    :: bell ->
#if defined(MUTANT_WAKE_BEFORE_CLEAR)
       asleep = false; bell = 0
#elif defined(MUTANT_WAKE_WITHOUT_CLEAR)
       asleep = false
#elif defined(MUTANT_CLEAR_BY_STORE)
       bell = 0; asleep = false
#else
       if /* exchange */
       :: atomic { bell -> bell = 0 }
          asleep = false /* futex_wake */
       :: !bell /* somebody else was quicker, or the sleeper gave up */
       fi
#endif
    :: !bell
    fi
}

#define READY 1 /* there is something */
#define ENDED 2 /* EndOfStream, Broken */
#define LOST 3  /* PeerDied */
#define ALONE 4 /* nobody ever came, and nobody will: the user gives up */
#define STAY(lives_left) (lives_left > 0 && (answer == ENDED || answer == LOST)) /* a successor may come */
#define IN_VAIN(role, lives_left) (role.state == NEVER && lives_left == 0)

/* ring_wait_records, ring_wait_room: announce, re-check, sleep, and after a whole slice ask who is alive.
 * `theirs` is the other end's position in shared memory, `enough` looks at the private copy of it (`other`);
 * `nothing` says whether the truth, too, is that there is nothing for the one who waits. */
inline wait(side, bell, asleep, theirs, enough, nothing, role, lives_left) {
    do
    ::
#ifndef MUTANT_ANNOUNCE_LATE
       bell = 1;
#endif
#ifndef MUTANT_NO_RECHECK
       look(theirs, enough, nothing, role);
#endif
#ifdef MUTANT_ANNOUNCE_LATE
       bell = 1;
#endif
       if /* futex_wait: the kernel compares and sleeps in one step */
       :: atomic { bell -> asleep = true }
          if
          :: !asleep
          :: atomic { (SLICES & side) && !IN_VAIN(role, lives_left) -> asleep = false }
          :: atomic { IN_VAIN(role, lives_left) -> asleep = false; answer = ALONE; break }
          fi
       :: !bell
       fi;
#ifndef MUTANT_BELL_KEPT
       bell = 0;
#endif
       look(theirs, enough, nothing, role);
       verdict(theirs, enough, nothing, role)
    od;
#ifndef MUTANT_BELL_KEPT
    bell = 0
#endif
}

/* ring_records_ready, ring_room_ready */
inline look(theirs, enough, nothing, role) {
    atomic {
        other = theirs;
        if
        :: enough -> answer = READY; break
        :: else
        fi
    }
#ifndef MUTANT_RECHECK_POSITION_ONLY
    if
    :: role.state == CLOSED -> look_again(theirs, enough, nothing, ENDED)
    :: else
    fi
#endif
}

/* Nothing that ends a wait may be said before the position was loaded once more. */
inline look_again(theirs, enough, nothing, end) {
    atomic {
#ifndef MUTANT_VERDICT_STALE_POSITION
        other = theirs;
#endif
        if
        :: enough -> answer = READY
        :: else -> answer = end; assert(nothing)
        fi;
        epoch = 0; who = 0;
        break
    }
}

/* ring_ask, after a slice without change: is the other end dead? */
inline verdict(theirs, enough, nothing, role) {
#ifndef MUTANT_EPOCH_AFTER_LEASE
    epoch = role.epoch;
#endif
    if
    :: atomic { role.held -> epoch = 0 } /* lease_ask */
    :: else ->
#ifdef MUTANT_EPOCH_AFTER_LEASE
       epoch = role.epoch;
#endif
       if
       :: role.state == OPEN ->
#ifndef MUTANT_PID_AFTER_VERDICT
          who = role.pid_;
#endif
#ifndef MUTANT_VERDICT_STALE_EPOCH
          if
          :: role.epoch == epoch ->
#endif
#ifdef MUTANT_PID_AFTER_VERDICT
             who = role.pid_;
#endif
#ifndef MUTANT_NO_VERDICT
             look_again(theirs, enough, nothing && role.fate[epoch] == DIED && role.fate[who] == DIED, LOST)
#endif
#ifndef MUTANT_VERDICT_STALE_EPOCH
          :: atomic { role.epoch != epoch -> epoch = 0; who = 0 } /* somebody took over meanwhile */
          fi
#endif
       :: atomic { role.state != OPEN -> epoch = 0 } /* NEVER: wait on; CLOSED: the next re-check sees it */
       fi
    fi
}
