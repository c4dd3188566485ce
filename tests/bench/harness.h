/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a benchmark is made of, and how it is measured: see harness.c.
 *
 * A *work* is a row of the table: something that is to be done many times. A *contender* is somebody's way of doing it:
 * pyheap's own stands in the work, those of a *peer* in the peer's file, by the work's key.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PEERS_MAX    16    /* contenders of one work, pyheap included */
#define ROUNDS_MAX   1000  /* measured runs of one contender */
#define WATCH_DOG_MS 20000 /* after which something that should have come is taken to be lost */

/* All return 0 or a negative errno. A NULL setup or teardown has nothing to do. */
struct contender {
	const char *how;                     /* the calls that are measured, for the reader of the table */
	int (*setup)(void **ret);            /* gets ready, with partner processes and all; not measured */
	int (*run)(void *state, uint64_t n); /* does the work n times: this is what is measured */
	int (*teardown)(void *state);        /* takes all away; fails when what was measured proves to be wrong */
};

struct work {
	const char *key; /* a word without blanks, for --only, for peers and for JSON */
	const char *title;
	struct contender ours;
};

struct family {
	const struct work *works;
	size_t n_works;
};

struct peer_entry {
	const char *work; /* its key */
	struct contender contender;
};

struct peer {
	const char *name;
	const char *left_out; /* NULL, or why it takes no part */
	const char *(*version)(void);
	const struct peer_entry *entries;
	size_t n_entries;
};

/* What was measured of one contender, nanoseconds per operation. */
struct result {
	const char *peer;
	const char *how;
	int error;      /* 0, or the negative errno that ended it: the figures mean nothing then */
	uint64_t n;     /* operations of one round */
	double *rounds; /* in the order of measuring; owned */
	size_t n_rounds;
	double median, min, max;
};

struct row {
	const struct work *work;
	struct result results[PEERS_MAX]; /* pyheap's first */
	size_t n_results;
};

struct harness_options {
	size_t n_rounds;
	uint64_t round_ns; /* how long one round should take */
};

/* Measure pyheap and every peer that does this work, interleaved. Free *ret with row_deinit(), also after an error. */
int harness_measure(struct row *ret, const struct work *work, const struct peer *const *peers, size_t n_peers,
	const struct harness_options *options);
void row_deinit(struct row *row);

/* ---- for contenders --------------------------------------------------------------------------------------------- */

uint64_t clock_now(void); /* ns, monotonic */

/* How many CPUs this program was given, and pinning the calling thread to the i-th of them (round and round). */
size_t cpu_count(void);
int cpu_pin(size_t i);

/* Keep the compiler from seeing that nobody uses what was made. */
static inline void keep(const void *pointer)
{
	__asm__ volatile("" : : "r"(pointer) : "memory");
}

/* Polling with an end: zero-initialise, call spin_again() after each vain look; -ETIMEDOUT after WATCH_DOG_MS. */
struct spin {
	uint64_t n;
	uint64_t deadline;
};
int spin_again(struct spin *spin);

#ifdef __cplusplus
}
#endif
