/* SPDX-License-Identifier: MIT */
#pragma once

/* The storm: random processes at work on one heap while all that can go wrong does, all the time. See storm.c. */

#include <pyheap.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define N_WORKERS   8U
#define N_SURVIVORS 2U  /* the first ones: nobody kills or stops them */
#define N_KEPT      48U /* objects that a worker holds at most, beside the roots */
#define N_STALE     8U

/* What everybody finds by name: "list 0", "queue 0", "node 0" ... */
#define N_LISTS    4U
#define LIST_SLOTS 64U
#define N_QUEUES   2U
#define QUEUE_SIZE 16U
#define N_NODES    4U
#define N_NAMES    64U

#define NODE_SIZE   48U
#define NODE_SLOT_A 16U
#define NODE_SLOT_B 24U

#define LOCK_TIMEOUT_S 2
#define SPARE_ARENAS   1
#define WATCHDOG_S     90 /* who has not moved for so long hangs */

/* ---- memory of all the storm's processes ------------------------------------------------------------------------ */

/* Of a worker, or of those that come after it in its place. Written by it, without a lock: figures. */
struct report {
	uint64_t n_calls;
	uint64_t n_verified;      /* objects whose contents were looked at */
	uint64_t n_grown;         /* large objects made */
	uint64_t n_lacked;        /* calls answered by -ENOMEM */
	uint64_t n_reset;         /* calls answered by -ECONNRESET */
	uint64_t longest_ns;      /* call */
	uint64_t longest_calm_ns; /* of those in which nobody was stopped, the daemon was there and memory too */
	const char *call;         /* under way, or the last one: all processes have the same program text */
	const char *longest_call;
	uint32_t stops_itself; /* enum stop: with the lock, when it has it next */
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
	uint32_t n_unrest;                    /* processes that are stopped, the daemon away, memory full */
	uint32_t n_changes;                   /* of n_unrest */
	uint32_t is_full;                     /* somebody fills /dev/shm, or just did */
	uint32_t holds_on;                    /* after a fault everybody stays as he is, to be looked at */
	struct report reports[N_WORKERS + 1]; /* the last is the hog's */
};

extern struct shared *shared;

/* Say what is wrong and count it. */
__attribute__((format(printf, 1, 2))) void storm_fault(const char *format, ...);

uint64_t now_ns(void);
uint64_t random_next(uint64_t *state);
uint64_t random_below(uint64_t *state, uint64_t n);

/* ---- the box: storm_box.c ---------------------------------------------------------------------------------------- */

struct box {
	bool has_own_shm; /* a small tmpfs that nobody else sees */
	pid_t owner;
	pid_t daemon; /* 0: none is running */
	char folder[32];
	char name[32];
	char socket[64];
	char log[64];
	char alien[64]; /* a file of somebody else's in /dev/shm */
};

int box_open(struct box *box);
void box_close(struct box *box); /* ends every child, too */
void box_start_daemon(struct box *box);
int box_remove_heap(struct box *box); /* by pyheapd --remove; its exit status */
void box_print_log(const struct box *box);
int64_t box_heap_bytes(const struct box *box);
bool box_has_segments(const struct box *box);

/* Take the rest of /dev/shm to the last page, and give it back. */
void box_fill(const struct box *box);
void box_unfill(const struct box *box);

/* ---- contents: storm_pattern.c ----------------------------------------------------------------------------------- */

/* Contents of `size` bytes that tell by themselves whether they are whole; `ref` 0: made before it was known. */
void pattern_fill(uint8_t *data, size_t size, uint64_t key, pyheap_ref ref);
bool pattern_check(const uint8_t *data, size_t size, pyheap_ref ref, uint64_t *ret_key);

/* ---- workers: storm_work.c, storm_ops.c, storm_keep.c ------------------------------------------------------------ */

struct kept {
	pyheap_ref ref;   /* 0: nothing here */
	uint64_t key;     /* what its contents said when it came */
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
	pyheap_ref stale[N_STALE]; /* dropped some time ago: maybe gone, maybe not */
	uint64_t call_began;
	uint32_t call_n_changes;
	bool call_is_calm;
};

/* What a call may answer beside success; everything else is a fault. */
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

/* The worker found something wrong: say so, and end, or stay to be looked at. */
__attribute__((noreturn, format(printf, 2, 3))) void worker_fault(struct worker *worker, const char *format, ...);

void worker_open(struct worker *worker);
void worker_close(struct worker *worker);

/* The lives of a worker, of one that takes all the memory, and of who makes the roots. */
void worker_run(uint32_t number, uint64_t seed, const char *socket);
void hog_run(uint64_t seed, const char *socket);
void roots_make(const char *socket);

/* Is the object, which somebody holds for the worker, whole? What its contents say it is. */
uint64_t verify(struct worker *worker, pyheap_ref ref);

size_t random_size(struct worker *worker);
struct kept *random_kept(struct worker *worker);     /* NULL: that place is empty */
void keep(struct worker *worker, pyheap_ref ref);    /* one more hold of it came */
void drop(struct worker *worker, struct kept *kept); /* all holds of it go */
void drop_all(struct worker *worker);
void make_something(struct worker *worker);
pyheap_ref make_bytes(struct worker *worker, size_t size, uint64_t key); /* 0: no memory */

/* One thing or another. */
void worker_step(struct worker *worker);
