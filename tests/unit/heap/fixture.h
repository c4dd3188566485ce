/* SPDX-License-Identifier: MIT */
#pragma once

/* A heap in the test's own process, with sessions and the daemon's part: see fixture.c. */

#include "heap/change/foreign_lock.h"
#include "heap/change/lock.h"
#include "heap/change/lock_report.h"
#include "heap/change/supply.h"
#include "heap/memory/arena.h"
#include "heap/memory/block.h"
#include "heap/memory/memory.h"
#include "heap/memory/run.h"
#include "heap/object/count.h"
#include "heap/object/count_recover.h"
#include "heap/object/dying.h"
#include "heap/object/hold.h"
#include "heap/object/making.h"
#include "heap/object/name.h"
#include "heap/object/own.h"
#include "heap/object/queue.h"
#include "heap/object/queue_recover.h"
#include "heap/object/slot.h"
#include "heap/object/type.h"
#include "heap/object/utf8.h"
#include "heap/repair/check.h"
#include "heap/repair/recover.h"
#include "heap/repair/repair.h"
#include "heap/repair/stats.h"

#include "tests/check_setup.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIXTURE_HEAP_SIZE  (UINT64_C(16) << 20)
#define FIXTURE_SESSIONS   4U /* that are admitted; the table of the default heap has room for twice as many */
#define FIXTURE_GRANTS_MAX 10 /* for one call */

struct fixture {
	struct heap *heap; /* the daemon's mapping, which the sessions share */
	struct session daemon;
	struct session sessions[FIXTURE_SESSIONS];
};

/* The heap of the running test. */
extern struct fixture fx;

#define S0 (&fx.sessions[0])
#define S1 (&fx.sessions[1])
#define S2 (&fx.sessions[2])
#define S3 (&fx.sessions[3])

/* Make the heap and admit the sessions; the first form takes the default geometry, and so fits
 * tcase_add_checked_fixture(). */
void fixture_open(void);
void fixture_open_geometry(const struct heap_geometry *geometry);
void fixture_close(void);

/* Another mapping of the same heap, as a client has it; the caller ends it with heap_free(). */
struct heap *fixture_attach(void);

/* Admit one session more. Negative errno, or 0. */
int fixture_admit(struct heap *heap, struct session *ret);

/* What the daemon does for a session that wants arenas: reserve, map, grant; and the session accepts. */
int fixture_grant(struct session *session);

/* Mark the session dead and reclaim it, with a check after each step. */
void fixture_bury(struct session *session);

/* Trim all sessions, as the daemon does with those that are idle. */
void fixture_trim_sessions(void);

/* Trim all sessions, then unmap every free arena but n_spare of them. Returns how many runs of arenas went. */
uint32_t fixture_trim(uint32_t n_spare);
/* Unmap what a daemon before left RETURNING. */
void fixture_adopt_returning(void);

/* heap_check(), which must find no fault. */
void fixture_check(void);

/* What heap_check() or heap_repair() reports, by fixture_note_fault(). */
struct fixture_report {
	const char *wanted; /* NULL: nothing */
	bool found;         /* a fault speaks of it */
	int64_t n_faults;
	char all[8192]; /* a line for each */
};
void fixture_note_fault(void *report, const char *fault);

/* The heap's figures. */
struct heap_stats fixture_stats(void);

/* Bytes that the heap file occupies. */
uint64_t fixture_heap_bytes(void);

/* How many operations a long test makes: $PYHEAP_TEST_OPS where it is set and less (as under valgrind), else n. */
uint64_t fixture_ops(uint64_t n);

/* Reproducible random numbers: $PYHEAP_TEST_SEED or one of the moment, printed. */
void fixture_seed(void);
uint64_t fixture_random(void);
uint32_t fixture_below(uint32_t n);

/* Run the suite as a program does. */
int fixture_main(Suite *suite);

/* Make or drop an object. Each call must succeed, and the heap is checked after it. */
uint64_t fixture_new(struct session *session, uint32_t type, size_t size);
uint32_t fixture_pages_type(struct session *session);
uint64_t fixture_bytes(struct session *session, size_t size);
uint64_t fixture_list(struct session *session, size_t n);
uint64_t fixture_queue(size_t n); /* session 0's */
void fixture_drop(struct session *session, uint64_t ref);

/* Session 0 makes and drops an object, with no check of the heap, which would take the lock. */
void fixture_warm_up(size_t size);

/* How many pools and runs the session owns. */
uint32_t fixture_n_owned(const struct session *session);

/* Drop the last hold of an object with slots, and leave the object DYING: as between the two changes of a drop. */
void fixture_give_up(struct session *session, uint64_t ref);

/* The object's reference count. Session 2 asks. */
void fixture_expect_count(int64_t want, uint64_t ref);
/* The object is freed: its ref is stale. */
void fixture_expect_gone(uint64_t ref);
/* All objects are freed, and their memory goes back to the system. */
void fixture_expect_empty(void);

/* Wait for a child, which ends with status 0. */
void fixture_finish(pid_t pid);
/* Another thread or process waits for the global lock. */
bool fixture_lock_is_awaited(void);

/* How many blocks of the whole heap are objects. */
uint64_t fixture_blocks_used(void);

/*
 * The call, repeated while it wants arenas and they can be granted. A bounded number of times, since a damaged heap may
 * not find what was granted.
 */
#define CALL(session, call)                                                                                            \
	({                                                                                                             \
		int call_r, call_n = 0;                                                                                \
		while ((call_r = (call)) == HEAP_WANTS_ARENAS) {                                                       \
			call_r = call_n++ < FIXTURE_GRANTS_MAX ? fixture_grant(session) : -ENOMEM;                     \
			if (call_r < 0)                                                                                \
				break;                                                                                 \
		}                                                                                                      \
		call_r;                                                                                                \
	})

/* The call gives `want`, and the heap is whole afterwards. */
#define EXPECT(session, want, call)                                                                                    \
	do {                                                                                                           \
		ck_assert_int_eq(CALL(session, call), (want));                                                         \
		fixture_check();                                                                                       \
	} while (0)
#define MUST(session, call) EXPECT(session, 0, call)

static inline struct control *control(void)
{
	return fx.heap->control;
}
/* A word of shared memory that no function uses. */
static inline uint32_t *spare_word(uint32_t i)
{
	return &fx.heap->pools[i].reserved2;
}
/* The pool is free, as its arena's bitmap says. */
static inline bool pool_is_free(uint32_t pool)
{
	uint32_t arena = pool / fx.heap->pools_per_arena, i = pool % fx.heap->pools_per_arena;

	return fx.heap->freepools[arena * fx.heap->pool_words + i / 64] >> (i % 64) & 1;
}

/* Where a ref leads, in the fixture's heap. */
static inline uint64_t ref_offset(uint64_t ref)
{
	return ref_position(ref) * BLOCK_ALIGNMENT;
}
static inline uint32_t ref_pool_index(uint64_t ref)
{
	return (uint32_t)(ref_offset(ref) >> POOL_SHIFT);
}
/* The pool, or the first of the span or run. */
static inline struct pool_entry *ref_pool(uint64_t ref)
{
	struct pool_entry *pool = &fx.heap->pools[ref_pool_index(ref)];

	return pool->kind == POOL_BODY ? pool - pool->span_index : pool;
}
static inline uint32_t ref_arena_index(uint64_t ref)
{
	return (uint32_t)(ref_offset(ref) >> fx.heap->arena_shift);
}
static inline struct arena_entry *ref_arena(uint64_t ref)
{
	return &fx.heap->arenas[ref_arena_index(ref)];
}
static inline uint8_t *ref_data(uint64_t ref)
{
	return fx.heap->base + ref_offset(ref);
}
static inline const struct queue *ref_queue(uint64_t ref)
{
	return (const struct queue *)(const void *)ref_data(ref);
}
/* Which block of its pool or span it is. */
static inline uint32_t ref_block(uint64_t ref)
{
	const struct pool_entry *pool = ref_pool(ref);
	const struct class_shape *shape = &class_shapes[pool->size_class];
	uint64_t off = ref_offset(ref) - ((uint64_t)(pool - fx.heap->pools) << POOL_SHIFT);

	return shape->size ? (uint32_t)(off - shape->first) / shape->size : 0; /* it may be no block any more */
}
/* Its header: in its pool's page, or in the control segment where it is a run. */
static inline struct object_header *ref_header(uint64_t ref)
{
	struct pool_entry *pool = ref_pool(ref);

	return pool->kind == POOL_RUN ? &pool->header : pool_headers(fx.heap, pool) + ref_block(ref);
}
static inline uint32_t ref_state(uint64_t ref)
{
	return header_state(ref_header(ref)->word);
}
/* How often the session that owns its pool holds it by the header, and how many rights all others have. */
static inline uint64_t ref_own(uint64_t ref)
{
	return header_own(ref_header(ref)->word);
}
static inline uint64_t ref_rights(uint64_t ref)
{
	return rights_count(ref_header(ref)->rights);
}

/* A SIGTRAP after each instruction from here on. Other processors than x86-64: none. */
static inline void trap_each_instruction(bool on)
{
#ifdef __x86_64__
	const unsigned long long trap = 0x100;

	__builtin_ia32_writeeflags_u64(
		on ? __builtin_ia32_readeflags_u64() | trap : __builtin_ia32_readeflags_u64() & ~trap);
#else
	(void)on;
#endif
}
