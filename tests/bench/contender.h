/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A program that does works of the benchmark when it is told to: see contender.c. bench.py tells, and compares.
 *
 * A *work* is something that is done many times, or one large thing that is done again; it is known by its key.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FIGURES_MAX  4     /* that one work measures at a time */
#define WATCH_DOG_MS 20000 /* after which something that should have come is taken to be lost */

/* All return 0 or more, or a negative errno. A NULL setup or teardown has nothing to do. */
struct work {
	const char *key;
	/* Get ready, with the second process and all; not measured. `argument`: a number that belongs to the work. */
	int (*setup)(void **ret, uint64_t argument);
	/* One of the two: do it n times, timed from outside: one figure, the nanoseconds of one time. */
	int (*loop)(void *state, uint64_t n);
	/* Or measure by itself, as the n times of one round; returns how many figures there are. */
	int (*measure)(void *state, uint64_t n, double ret[FIGURES_MAX]);
	/* Take all away. Fails when what was measured proves to be wrong. */
	int (*teardown)(void *state);
};

struct family {
	const struct work *works;
	size_t n_works;
};

int contender_main(int argc, char **argv, const char *version, const struct family *const *families, size_t n_families);

/* ---- for works -------------------------------------------------------------------------------------------------- */

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
