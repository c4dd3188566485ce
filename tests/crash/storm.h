/* SPDX-License-Identifier: MIT */
#pragma once

/* The storm: random processes work on one heap while everything that can go wrong does go wrong. See storm.c. */

#include <pyheap.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define N_WORKERS   8U
#define N_SURVIVORS 2U  /* the first workers: they are neither killed nor stopped */
#define N_KEPT      48U /* most objects that a worker holds, beside the roots */
#define N_STALE     8U

/* The roots, which every worker finds by name: "list 0", "queue 0", "node 0" ... */
#define N_LISTS    4U
#define LIST_SLOTS 64U
#define N_QUEUES   2U
#define QUEUE_SIZE 16U
#define N_NODES    4U
#define N_NAMES    64U

#define NODE_SIZE   48U
#define NODE_SLOT_A 16U
#define NODE_SLOT_B 24U

#define LOCK_TIMEOUT_S 6 /* longer than a running worker ever has the lock, on a busy machine, too */
#define SPARE_ARENAS   1
#define WATCHDOG_S     180 /* a process that makes no call for so long hangs */

/* ---- memory that all processes of the storm share ---- */

/* Figures of all workers that have had one number. Written by the worker, without a lock. */
struct report {
	uint64_t n_calls;
	uint64_t n_verified;      /* objects whose contents were verified */
	uint64_t n_grown;         /* large objects made */
	uint64_t n_lacked;        /* calls answered by -ENOMEM */
	uint64_t n_reset;         /* calls answered by -ECONNRESET */
	uint64_t longest_ns;      /* call */
	uint64_t longest_calm_ns; /* call while nobody was stopped, the daemon ran and memory was there */
	const char *call;         /* the present call, or the last one; valid in all processes, which run one program */
	const char *longest_call;
	uint32_t stops_itself; /* enum stop: when it next has the lock */
};

enum stop {
	STOP_NOT,
	STOP_ASKED, /* by the storm */
	STOP_DONE,  /* by the worker */
};

struct shared {
	uint64_t seed;
	uint32_t is_ending; /* workers drop everything, and go */
	uint32_t n_faults;
	uint32_t n_unrest;                    /* stopped processes, plus 1 without daemon, plus 1 when memory is full */
	uint32_t n_changes;                   /* of n_unrest */
	uint32_t is_full;                     /* /dev/shm is full, or was a moment ago */
	uint32_t holds_on;                    /* --hold: after a fault all processes stay as they are, for a debugger */
	struct report reports[N_WORKERS + 1]; /* the last is the hog's */
};

extern struct shared *shared;

/* Print what is wrong and count it. */
__attribute__((format(printf, 1, 2))) void storm_fault(const char *format, ...);

uint64_t now_ns(void);
uint64_t random_next(uint64_t *state);
uint64_t random_below(uint64_t *state, uint64_t n);

/* ---- the box: storm_box.c ---- */

struct box {
	bool has_own_shm; /* a small tmpfs of the storm's mount namespace */
	pid_t owner;
	pid_t daemon; /* 0: none is running */
	char folder[32];
	char name[32];
	char socket[64];
	char log[64];
	char alien[64]; /* a foreign file in /dev/shm */
};

int box_open(struct box *box);
void box_close(struct box *box); /* ends every child, too */
void box_start_daemon(struct box *box);
int box_remove_heap(struct box *box); /* by pyheapd --remove; its exit status */
void box_print_log(const struct box *box);
int64_t box_heap_bytes(const struct box *box);
bool box_has_segments(const struct box *box);

/* Take all free memory of /dev/shm, and give it back. */
void box_fill(const struct box *box);
void box_unfill(const struct box *box);

/* ---- contents: storm_pattern.c ---- */

/* Fill `size` bytes so that pattern_check() can verify them without knowing the key; `ref` 0: it is not known yet. */
void pattern_fill(uint8_t *data, size_t size, uint64_t key, pyheap_ref ref);
bool pattern_check(const uint8_t *data, size_t size, pyheap_ref ref, uint64_t *ret_key);

/* ---- workers: storm_work.c, storm_ops.c, storm_keep.c ---- */

struct kept {
	pyheap_ref ref;   /* 0: nothing here */
	uint64_t key;     /* its contents' key when it came */
	uint32_t n_holds; /* at least one */
};

struct worker {
	uint32_t number;
	uint64_t random;
	const char *socket;
	pyheap *heap;
	pyheap_type node;
	bool has_lock;
	struct report *report;
	pyheap_ref lists[N_LISTS], queues[N_QUEUES], nodes[N_NODES];
	struct kept kept[N_KEPT];
	pyheap_ref stale[N_STALE]; /* dropped some time ago: freed, or held by others */
	uint64_t call_began;
	uint32_t call_n_changes;
	bool call_is_calm;
};

/* Errors that a call may answer; every other one is a fault. */
enum may {
	MAY_NOTHING = 0,
	MAY_LACK = 1, /* -ENOMEM; with the lock also -ECONNRESET */
	MAY_WAIT = 2, /* -EAGAIN, -ETIMEDOUT; how long it takes does not count */
	MAY_MISS = 4, /* -ENOENT */
	MAY_GONE = 8, /* -ESTALE */
};

/* Every call of the library goes through here. */
#define CALL(worker, may, call) (call_begin((worker), #call), call_end((worker), (may), (int64_t)(call)))

void call_begin(struct worker *worker, const char *call);
/* Nobody was stopped during the last call, the daemon was there, and memory was not being filled. */
bool call_was_calm(const struct worker *worker);
int64_t call_end(struct worker *worker, int may, int64_t r);

/* Report a fault that the worker has found, and end; with --hold: stay for a debugger. */
__attribute__((noreturn, format(printf, 2, 3))) void worker_fault(struct worker *worker, const char *format, ...);

void worker_open(struct worker *worker);
void worker_close(struct worker *worker);

/* The main functions of a worker, of the hog, which takes all memory, and of the process that makes the roots. */
void worker_run(uint32_t number, uint64_t seed, const char *socket);
void hog_run(uint64_t seed, const char *socket);
void roots_make(const char *socket);

/* Verify an object that somebody holds for the worker, and answer its contents' key. */
uint64_t verify(struct worker *worker, pyheap_ref ref);

size_t random_size(struct worker *worker);
struct kept *random_kept(struct worker *worker);     /* NULL: that entry is empty */
void keep(struct worker *worker, pyheap_ref ref);    /* verify and keep an object of which the worker has got a hold */
void drop(struct worker *worker, struct kept *kept); /* drop all holds of it */
void drop_all(struct worker *worker);
void make_something(struct worker *worker);
pyheap_ref make_bytes(struct worker *worker, size_t size, uint64_t key); /* 0: no memory */

/* Make one random operation. */
void worker_step(struct worker *worker);
