/* SPDX-License-Identifier: MIT */
#pragma once

/* The fields of shared memory by their meaning, and hostile values for them. See scribbler.c. */

#include "heap/shared/heap.h"
#include "tests/fuzz/fuzz.h"

/* What a scribbler may write to. Bits of a set. */
enum part {
	PART_HEADER = 1,    /* what says that this is a heap: magic, sizes, offsets */
	PART_LOCK = 2,      /* the global lock's word, and who has it */
	PART_LOG = 4,       /* the undo log */
	PART_LISTS = 8,     /* counters, spaces, the heads of lists */
	PART_SESSIONS = 16, /* the session table */
	PART_TYPES = 32,    /* types, name buckets */
	PART_ARENAS = 64,   /* arenas and freepools */
	PART_POOLS = 128,   /* pool entries */
	PART_OBJECTS = 256, /* the heap segment: headers, names, hold tables, queues */
	PART_DAEMON = 512,  /* what the daemon alone should write: states, lengths, how many arenas are known */
};
#define PART_ALL 1023U

struct scribble {
	struct heap *heap;
	uint64_t random;          /* from which all numbers follow */
	struct fuzz_input *input; /* or they are taken from here, if it is not NULL */
	uint32_t parts;           /* set of enum part */
	uint64_t n_wrote;         /* words so far */
	int32_t bystander;        /* its pid, which the daemon has no reason to signal; 0: there is none */
};

uint64_t scribble_random(struct scribble *s, uint64_t n);

/* One field gets a value that is hostile to its meaning. */
void scribble_field(struct scribble *s);

/* One bit of anything is turned. */
void scribble_bit(struct scribble *s);

/* A whole structure is forged: a circle, a copy of a neighbour, a table where none is. */
void scribble_forge(struct scribble *s);

/* "pools,objects" and the like, or "all"; 0: there is no such part. */
uint32_t scribble_parts(const char *text);
