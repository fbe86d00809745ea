/* What the drivers that run threads under a sanitizer share (lock_threads.c, rwlock_threads.c): workers, chance that
 * follows from a seed, deaths, and scenes.
 *
 * ThreadSanitizer sees a missing order only where both sides use the same addresses: two processes, or two mappings of
 * one file, hide it.  So each party is one thread or two (the handles that two share are those of one process), and
 * what a primitive guards or hands over is plain memory. */
#ifndef LOCK_THREADS_H
#define LOCK_THREADS_H

#include "driver.h"

#include "mutants.h"

#include "lock_driver.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#define WORKERS 4u

typedef struct {
    pthread_t thread;
    party_t *party;
    uint64_t number;
    uint64_t dice; /* how often they were thrown */
} worker_t;

static uint64_t rounds, seed;
static party_t parties[WORKERS];
static worker_t workers[WORKERS];

/* The kernel's word that somebody is dead comes after all that the dead one did; ThreadSanitizer cannot know. */
static uint64_t kernel;

static uint64_t chance(worker_t *worker) { return mixed(mixed(seed * 31 + worker->number) + worker->dice++); }
static int one_in(worker_t *worker, uint64_t count) { return chance(worker) % count == 0; }

static void pause_now_and_then(worker_t *worker) {
    if (one_in(worker, 16))
        usleep((useconds_t)(chance(worker) % 300));
    else if (one_in(worker, 4))
        sched_yield();
}

/* Mostly too soon to succeed, sometimes not. */
static uint64_t some_deadline(worker_t *worker) {
    return clock_ns() + (one_in(worker, 2) ? chance(worker) % 200000 : chance(worker) % 5000000);
}

static void die_and_come_back(worker_t *worker) {
    __atomic_fetch_add(&kernel, 1, __ATOMIC_ACQ_REL);
    die(worker->party);
    join(worker->party);
}

/* --- scenes ------------------------------------------------------------------------------------------------------- */

typedef struct means means_t; /* of each driver's own */
static const means_t *means;

typedef struct {
    const char *name;
    const means_t *means;
    void *(*work)(void *);
    void (*begin)(void);     /* before there are threads */
    void (*meanwhile)(void); /* in the main thread */
    void (*check)(void);
    uint32_t value, owners, threads; /* permits, places for them, threads of one party */
} scene_t;

static inline int play_scenes(const scene_t *scenes, size_t count, int argc, char **argv) {
    const scene_t *scene = NULL;
    for (uint64_t i = 0; argc >= 4 && i < count; i++)
        if (strcmp(argv[1], scenes[i].name) == 0)
            scene = &scenes[i];
    EXPECT(scene != NULL, "usage: %s SCENE ROUNDS SEED [FUNCTION]", argv[0]);
    rounds = strtoull(argv[2], NULL, 10);
    seed = strtoull(argv[3], NULL, 10);
    mutant = argc == 5 ? argv[4] : "";
    means = scene->means;
    lease_fd = lease_file(&lease_inode);
    EXPECT(posix_memalign((void **)&cells, LINE, sizeof *cells) == 0, "no memory");
    memset(cells, 0, sizeof *cells);
    format_cells(POLICY_TELL, scene->value, scene->owners);
    for (uint64_t i = 0; i < WORKERS; i++)
        join(&parties[i]);
    if (scene->begin != NULL)
        scene->begin();

    for (uint64_t i = 0; i < WORKERS; i++) {
        workers[i].party = &parties[i / scene->threads];
        workers[i].number = i;
        EXPECT(pthread_create(&workers[i].thread, NULL, scene->work, &workers[i]) == 0, "no thread");
    }
    if (scene->meanwhile != NULL)
        scene->meanwhile();
    for (uint64_t i = 0; i < WORKERS; i++)
        EXPECT(pthread_join(workers[i].thread, NULL) == 0, "no thread");
    if (scene->check != NULL)
        scene->check();
    for (uint64_t i = 0; i < WORKERS; i++)
        die(&parties[i]);
    free(cells);
    printf("%s: %" PRIu64 " rounds %s\n", scene->name, rounds, mutant);
    return 0;
}

#endif
