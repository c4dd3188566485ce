/* SPDX-License-Identifier: MIT */
#pragma once

/* A daemon inside this process: all of its parts but the files, the listening socket and the waiting. See inside.c. */

#include "daemon/dispatch.h"

#define INSIDE_ARENA_SIZE ARENA_SIZE_MIN
#define INSIDE_HEAP_SIZE  (24 * (uint64_t)INSIDE_ARENA_SIZE)
#define INSIDE_SESSIONS   6U

struct inside {
	struct event_base *base;
	struct event *reset; /* a client wants the heap to be emptied */
	struct heap *heap;   /* not owned */
	struct session self;
	struct work work;
	struct trim trim;
	int64_t now_ms;
	struct users users;
	struct connections connections;
	struct dsessions sessions;
	struct admission admission;
};

/* End the program: this is a fault. Only the first may be said by several words. */
#define INSIDE_FAULT(...) (fprintf(stderr, "FAULT: " __VA_ARGS__), fputc('\n', stderr), abort())

/* The geometry of the heaps that are fuzzed: as small as can be. */
struct heap_geometry inside_geometry(void);

void inside_open(struct inside *inside, struct heap *heap);
void inside_close(struct inside *inside);

/* A tick of the daemon's clock. */
void inside_tick(struct inside *inside);

/*
 * Turn the loop until nothing is left to be done, or all that is left waits for the lock. It is a fault if that never
 * comes.
 */
void inside_rest(struct inside *inside);

/* A new connection. *ret_fd is the client's end. The daemon's end, which dangles once the daemon has closed it. */
struct connection *inside_connect(struct inside *inside, int *ret_fd);

/* As the library does: get the memory that the session wants, from the daemon's side, and accept it. */
int inside_grant(struct session *session);
#define INSIDE_CALL(session, call)                                                                                     \
	({                                                                                                             \
		int call_r_, call_n_ = 0;                                                                              \
		while ((call_r_ = (call)) == HEAP_WANTS_ARENAS && call_n_++ < 4)                                       \
			if ((call_r_ = inside_grant(session)) < 0)                                                     \
				break;                                                                                 \
		call_r_;                                                                                               \
	})
