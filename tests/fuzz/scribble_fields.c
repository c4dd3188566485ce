// SPDX-License-Identifier: MIT
/*
 * The fields of shared memory by their meaning, and hostile values for them
 *
 * Each row of the tables is a member of layout.h with what it means: an index of a pool, a position, a state. From the
 * meaning follow the values that are worst for who believes it: one past the end, its own entry (a circle), another
 * entry's value, the largest number.
 *
 * A session's pid becomes the bystander's and no other: a daemon that believed it would signal that one.
 */
#include "scribble_fields.h"

#include "heap/change/foreign_lock.h"

#include <linux/futex.h>
#include <string.h>

enum meaning {
	IS_NUMBER, /* a count or size */
	IS_STATE,  /* a small number that says what it is */
	IS_SHIFT,  /* a power of two is meant */
	IS_POOL1,  /* indices, plus one */
	IS_ARENA1,
	IS_SESSION1,
	IS_POSITION1, /* a position, plus one */
	IS_REF,       /* a position and a generation */
	IS_WORD,      /* bits with several meanings */
	IS_PID,       /* of a process */
	IS_LOCK,      /* the word of the lock: a thread, and two bits */
};

struct field {
	uint32_t offset, width;
	enum meaning meaning;
	bool is_daemons; /* the daemon alone writes it: PART_DAEMON, too */
};

#define FIELD(of, member, meaning)                                                                                     \
	{                                                                                                              \
		offsetof(of, member), sizeof(((of *)0)->member), meaning, false                                        \
	}
#define FIELD_DAEMON(of, member, meaning)                                                                              \
	{                                                                                                              \
		offsetof(of, member), sizeof(((of *)0)->member), meaning, true                                         \
	}

static const struct field header_fields[] = {
	FIELD(struct control, magic, IS_WORD),
	FIELD(struct control, version, IS_NUMBER),
	FIELD(struct control, layout_hash, IS_WORD),
	FIELD(struct control, control_size, IS_NUMBER),
	FIELD(struct control, heap_size, IS_NUMBER),
	FIELD(struct control, arena_size, IS_NUMBER),
	FIELD(struct control, n_arenas, IS_NUMBER),
	FIELD(struct control, pools_per_arena, IS_NUMBER),
	FIELD(struct control, n_sessions, IS_NUMBER),
	FIELD(struct control, n_name_buckets, IS_NUMBER),
	FIELD(struct control, heap_id[8], IS_WORD),
	FIELD(struct control, name_key[8], IS_WORD),
	FIELD(struct control, heap_name[63], IS_WORD),
	FIELD(struct control, sessions_off, IS_NUMBER),
	FIELD(struct control, types_off, IS_NUMBER),
	FIELD(struct control, type_slots_off, IS_NUMBER),
	FIELD(struct control, name_buckets_off, IS_NUMBER),
	FIELD(struct control, arenas_off, IS_NUMBER),
	FIELD(struct control, freepools_off, IS_NUMBER),
	FIELD(struct control, pools_off, IS_NUMBER),
	FIELD(struct control, geometry_hash, IS_WORD),
	FIELD(struct control, pid_namespace, IS_NUMBER),
};
static const struct field lock_fields[] = {
	FIELD(struct control, lock.word, IS_LOCK),
	FIELD(struct control, lock.reserved3, IS_WORD),
	FIELD(struct control, lock.owner1, IS_SESSION1),
};
static const struct field log_fields[] = {
	FIELD(struct control, lock.n_entries, IS_NUMBER),
	FIELD(struct control, lock.n_unlocking, IS_NUMBER),
	FIELD(struct control, lock.n_acquisitions, IS_NUMBER),
	FIELD(struct control, lock.n_recoveries, IS_NUMBER),
	FIELD(struct control, lock.reserved0, IS_STATE),
};
static const struct field control_fields[] = {
	FIELD(struct control, n_repairs, IS_NUMBER),
	FIELD(struct control, n_roll_backs, IS_NUMBER),
	FIELD(struct control, readers[0], IS_WORD),
	FIELD(struct control, queues_paused_by1, IS_SESSION1),
	FIELD(struct control, counters.n_arenas_allocated, IS_NUMBER),
	FIELD(struct control, counters.n_arenas_reclaimed, IS_NUMBER),
	FIELD(struct control, counters.n_arenas_highwater, IS_NUMBER),
	FIELD(struct control, counters.n_arenas_current, IS_NUMBER),
	FIELD(struct control, counters.n_names, IS_NUMBER),
	FIELD(struct control, returnable_arenas1, IS_ARENA1),
	FIELD(struct control, returnable_last1, IS_ARENA1),
	FIELD_DAEMON(struct control, clock_ms, IS_NUMBER),
	FIELD(struct control, n_returnable, IS_NUMBER),
	FIELD(struct control, n_types, IS_NUMBER),
	FIELD(struct control, n_type_slots, IS_NUMBER),
	FIELD(struct control, rebuilding, IS_STATE),
	FIELD(struct control, spaces[0].usable_arenas1, IS_ARENA1),
	FIELD(struct control, spaces[0].n_free_arenas, IS_NUMBER),
	FIELD(struct control, spaces[0].rank2lasta1[RANK_FREE], IS_ARENA1),
	FIELD(struct control, spaces[0].rank2lasta1[3], IS_ARENA1),
	FIELD(struct control, figures.lock_wait_max_ns, IS_NUMBER),
	FIELD(struct control, figures.n_pools_claimed, IS_NUMBER),
	FIELD(struct control, spaces[1].usable_arenas1, IS_ARENA1),
	FIELD(struct control, spaces[1].n_free_arenas, IS_NUMBER),
	FIELD(struct control, spaces[1].rank2lasta1[RANK_FREE], IS_ARENA1),
	FIELD_DAEMON(struct control, n_arenas_known, IS_NUMBER),
	FIELD_DAEMON(struct control, n_arenas_mapped, IS_NUMBER),
};
static const struct field session_fields[] = {
	FIELD(struct session_entry, holds_position1, IS_POSITION1),
	FIELD(struct session_entry, new_holds_position1, IS_POSITION1),
	FIELD(struct session_entry, holds_shift, IS_SHIFT),
	FIELD(struct session_entry, attachment, IS_STATE),
	FIELD(struct session_entry, n_holds, IS_NUMBER),
	FIELD(struct session_entry, dying1, IS_POSITION1),
	FIELD(struct session_entry, making1, IS_POSITION1),
	FIELD(struct session_entry, intent_before, IS_NUMBER),
	FIELD(struct session_entry, waits_at, IS_REF),
	FIELD(struct session_entry, n_own_holds, IS_NUMBER),
	FIELD(struct session_entry, requests, IS_STATE),
	FIELD(struct session_entry, is_fenced, IS_STATE),
	FIELD(struct session_entry, activity, IS_STATE),
	FIELD(struct session_entry, intent.ref, IS_REF),
	FIELD(struct session_entry, intent.queue, IS_REF),
	FIELD(struct session_entry, displaced, IS_REF),
	FIELD(struct session_entry, displaced_name1, IS_POSITION1),
	FIELD(struct session_entry, holds_inline[5].is_uncounted, IS_NUMBER),
	FIELD(struct session_entry, intent.position, IS_NUMBER),
	FIELD(struct session_entry, intent.word, IS_WORD),
	FIELD(struct session_entry, n_blocks_returned, IS_NUMBER),
	FIELD(struct session_entry, intent_before, IS_NUMBER),
	FIELD(struct session_entry, owned_pools1, IS_POOL1),
	FIELD(struct session_entry, remote_pools1, IS_POOL1),
	FIELD(struct session_entry, n_remote_frees, IS_NUMBER),
	FIELD(struct session_entry, done, IS_NUMBER),
	FIELD(struct session_entry, done_counting, IS_NUMBER),
	FIELD_DAEMON(struct session_entry, max_types, IS_NUMBER),
	FIELD_DAEMON(struct session_entry, state, IS_STATE),
	FIELD_DAEMON(struct session_entry, pid, IS_PID),
	FIELD_DAEMON(struct session_entry, uid, IS_NUMBER),
	FIELD_DAEMON(struct session_entry, gid, IS_NUMBER),
	FIELD_DAEMON(struct session_entry, token[0], IS_WORD),
	FIELD_DAEMON(struct session_entry, token[1], IS_WORD),
	FIELD_DAEMON(struct session_entry, program[39], IS_WORD),
};
static const struct field type_fields[] = {
	FIELD(struct type_entry, size, IS_NUMBER),
	FIELD(struct type_entry, alignment, IS_NUMBER),
	FIELD(struct type_entry, uid, IS_NUMBER),
	FIELD(struct type_entry, n_slots, IS_NUMBER),
	FIELD(struct type_entry, first_slot, IS_NUMBER),
	FIELD(struct type_entry, name[63], IS_WORD),
};
static const struct field hold_fields[] = {
	FIELD(struct hold, ref, IS_REF),
	FIELD(struct hold, count, IS_NUMBER),
};
static const struct field pool1_fields[] = {{0, 4, IS_POOL1, false}};
static const struct field type_slot_fields[] = {{0, 4, IS_NUMBER, false}};
static const struct field bucket_fields[] = {{0, 8, IS_POSITION1, false}};
static const struct field freepools_fields[] = {{0, 8, IS_WORD, false}};
static const struct field arena_fields[] = {
	FIELD(struct arena_entry, space, IS_STATE),
	FIELD(struct arena_entry, n_free_pools, IS_NUMBER),
	FIELD(struct arena_entry, free_since, IS_NUMBER),
	FIELD(struct arena_entry, next1, IS_ARENA1),
	FIELD(struct arena_entry, prev1, IS_ARENA1),
	FIELD_DAEMON(struct arena_entry, state, IS_STATE),
	FIELD_DAEMON(struct arena_entry, session1, IS_SESSION1),
	FIELD_DAEMON(struct arena_entry, n_arenas, IS_NUMBER),
};
static const struct field pool_fields[] = {
	FIELD(struct pool_entry, kind, IS_STATE),
	FIELD(struct pool_entry, size_class, IS_NUMBER),
	FIELD(struct pool_entry, owner1, IS_SESSION1),
	FIELD(struct pool_entry, generation, IS_NUMBER),
	FIELD(struct pool_entry, n_used, IS_NUMBER),
	FIELD(struct pool_entry, n_carved, IS_NUMBER),
	FIELD(struct pool_entry, freeblock1, IS_NUMBER),
	FIELD(struct pool_entry, header.word, IS_WORD),
	FIELD(struct pool_entry, header.rights_counted, IS_WORD),
	FIELD(struct pool_entry, header.biased1, IS_SESSION1),
	FIELD(struct pool_entry, next1, IS_POOL1),
	FIELD(struct pool_entry, prev1, IS_POOL1),
	FIELD(struct pool_entry, run_size, IS_NUMBER),
	FIELD(struct pool_entry, run_n_pools, IS_NUMBER),
	FIELD(struct pool_entry, run_n_dropped, IS_NUMBER),
	FIELD(struct pool_entry, remote_next1, IS_POOL1),
	FIELD(struct pool_entry, remote_prev1, IS_POOL1),
	FIELD(struct pool_entry, is_on_remote_list, IS_STATE),
	FIELD(struct pool_entry, owned_next1, IS_POOL1),
	FIELD(struct pool_entry, owned_prev1, IS_POOL1),
};
static const struct field header_word_fields[] = {
	FIELD(struct object_header, word, IS_WORD),
	FIELD(struct object_header, rights_counted, IS_WORD),
	FIELD(struct object_header, rights, IS_POSITION1),
	FIELD(struct object_header, biased1, IS_SESSION1),
	FIELD(struct object_header, rights_given, IS_NUMBER),
};
static const struct field payload_fields[] = {
	{0, 8, IS_POSITION1, false}, {0, 8, IS_REF, false}, {0, 8, IS_NUMBER, false}, {0, 4, IS_NUMBER, false}};

/* A table of entries of one kind. */
struct table {
	enum part part;
	uint8_t *base;
	size_t stride;
	uint64_t n;
	const struct field *fields;
	uint32_t n_fields;
};
#define FIELDS(of) of, sizeof(of) / sizeof((of)[0])

static const char *const part_names[] = {
	"header", "lock", "log", "lists", "sessions", "types", "arenas", "pools", "objects", "daemon"};

uint32_t scribble_parts(const char *text)
{
	uint32_t parts = 0;

	if (strcmp(text, "all") == 0)
		return PART_ALL;
	while (*text) {
		size_t n = strcspn(text, ",");
		uint32_t found = 0;

		for (uint32_t i = 0; i < sizeof(part_names) / sizeof(part_names[0]); i++)
			if (strlen(part_names[i]) == n && memcmp(part_names[i], text, n) == 0)
				found = 1U << i;
		if (!found)
			return 0;
		parts |= found;
		text += n + (text[n] == ',');
	}
	return parts;
}

uint64_t scribble_random(struct scribble *s, uint64_t n)
{
	uint64_t x;

	if (s->input)
		return n ? fuzz_take(s->input, n <= 256 ? 1 : n <= 65536 ? 2 : 8) % n : 0;
	s->random += UINT64_C(0x9e3779b97f4a7c15);
	x = s->random;
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return n ? (x ^ (x >> 31)) % n : 0;
}

static bool one_in(struct scribble *s, uint64_t n)
{
	return scribble_random(s, n) == 0;
}

/* Arenas that a client has reason to write to; at least one. */
static uint32_t n_arenas_here(struct scribble *s)
{
	uint32_t n = 0;

	while (n < s->heap->n_arenas && n < 64 && s->heap->arenas[n].state != ARENA_HOLE)
		n++;
	return n ? n : 1;
}

static uint32_t n_pools_here(struct scribble *s)
{
	return n_arenas_here(s) * s->heap->pools_per_arena;
}

static bool is_protected(const struct scribble *s, const uint8_t *p, size_t width)
{
	const uint8_t *control = (const uint8_t *)s->heap->control, *sessions = (const uint8_t *)s->heap->sessions;
	size_t off;

	if (p >= sessions && p < (const uint8_t *)(s->heap->sessions + s->heap->n_sessions)) {
		off = (size_t)(p - sessions) % sizeof(struct session_entry);
		if (off + width > offsetof(struct session_entry, pid) && off < offsetof(struct session_entry, uid))
			return true; /* and start_time, which goes with it */
		return !(s->parts & PART_DAEMON) && off < offsetof(struct session_entry, holds_position1);
	}
	if (p < control || p >= control + sizeof(struct control))
		return false;
	off = (size_t)(p - control);
	if (!(s->parts & PART_HEADER) && off < offsetof(struct control, ended))
		return true;
	if (off + width > offsetof(struct control, ended) && off < offsetof(struct control, n_arenas_known))
		return true; /* a heap that has ended serves nobody, and says so */
	if (s->parts & PART_LOCK)
		return false;
	return (off + width > offsetof(struct control, lock.owner1) &&
		       off < offsetof(struct control, lock.n_entries)) ||
	       (off + width > offsetof(struct control, lock.word) && off < offsetof(struct control, lock.own));
}

static void poke(struct scribble *s, uint8_t *p, size_t width, uint64_t value)
{
	if (is_protected(s, p, width))
		return;
	s->n_wrote++;
	if (width == 8)
		__atomic_store_n((uint64_t *)(void *)p, value, __ATOMIC_RELAXED);
	else if (width == 4)
		__atomic_store_n((uint32_t *)(void *)p, (uint32_t)value, __ATOMIC_RELAXED);
	else if (width == 2)
		__atomic_store_n((uint16_t *)(void *)p, (uint16_t)value, __ATOMIC_RELAXED);
	else
		__atomic_store_n(p, (uint8_t)value, __ATOMIC_RELAXED);
}

static uint64_t peek(const uint8_t *p, size_t width)
{
	uint64_t value = 0;

	memcpy(&value, p, width);
	return value;
}

static uint64_t position_somewhere(struct scribble *s)
{
	return scribble_random(s, (uint64_t)n_pools_here(s) << (POOL_SHIFT - 3));
}

/* The position of a payload, mostly. */
static uint64_t position_of_block(struct scribble *s)
{
	static const uint16_t firsts[] = {170, 128, 102, 85, 73, 64, 56, 51, 8};

	return (scribble_random(s, n_pools_here(s)) << (POOL_SHIFT - 3)) +
	       (one_in(s, 4) ? 0 : firsts[scribble_random(s, 9)] * 2U);
}

static uint64_t index_somewhere(struct scribble *s, uint64_t index, uint64_t n_here, uint64_t n)
{
	switch (scribble_random(s, 6)) {
	case 0:
		return index + 1; /* itself */
	case 1:
		return n + scribble_random(s, 3);
	case 2:
		return UINT32_MAX - scribble_random(s, 2);
	case 3:
		return 0;
	default:
		return 1 + scribble_random(s, n_here);
	}
}

static uint64_t number_somewhere(struct scribble *s)
{
	static const uint64_t numbers[] = {0, 1, 2, 63, 64, 65, 127, 255, 256, 257, 512, 513, 4095, 4096, 4097, 65535,
		65536, UINT64_C(1) << 20, INT32_MAX, UINT64_C(1) << 31, UINT32_MAX, UINT64_C(1) << 32,
		UINT64_C(1) << 36, UINT64_C(1) << 40, UINT64_C(1) << 62, INT64_MAX, UINT64_C(1) << 63, UINT64_MAX,
		UINT64_MAX - 1};

	return numbers[scribble_random(s, sizeof(numbers) / sizeof(numbers[0]))];
}

static uint64_t word_somewhere(struct scribble *s)
{
	uint64_t header = header_live(
		(uint32_t)scribble_random(s, 8), (uint32_t)scribble_random(s, 20), scribble_random(s, 1024), 0);

	if (one_in(s, 3))
		return number_somewhere(s);
	return one_in(s, 3) ? scribble_random(s, UINT64_MAX)
			    : header | scribble_random(s, 8) << 7 | scribble_random(s, 128);
}

/* None, or the bystander's. */
static uint64_t pid_somewhere(struct scribble *s)
{
	return one_in(s, 4) ? 0 : (uint64_t)s->bystander;
}

/* A thread of the test, or a number as sessions of other namespaces have, or any; with and without the kernel's bits.
 */
static uint64_t lock_somewhere(struct scribble *s)
{
	uint64_t value = one_in(s, 2)   ? pid_somewhere(s)
			 : one_in(s, 3) ? foreign_lock_tid((uint32_t)scribble_random(s, 5))
					: scribble_random(s, UINT32_MAX);

	return value | (one_in(s, 2) ? FUTEX_WAITERS : 0) | (one_in(s, 3) ? FUTEX_OWNER_DIED : 0);
}

static uint64_t value_for(struct scribble *s, const struct table *t, uint64_t i, const struct field *f)
{
	const struct heap *heap = s->heap;
	const uint8_t *p = t->base + i * t->stride + f->offset;

	if (one_in(s, 5)) /* another entry's */
		return peek(t->base + scribble_random(s, t->n) * t->stride + f->offset, f->width);
	if (one_in(s, 6))
		return peek(p, f->width) + (one_in(s, 2) ? 1 : UINT64_MAX);
	if (one_in(s, 20))
		return scribble_random(s, UINT64_MAX);
	switch (f->meaning) {
	case IS_STATE:
		return one_in(s, 8) ? number_somewhere(s) : scribble_random(s, 9);
	case IS_SHIFT:
		return one_in(s, 4) ? number_somewhere(s) : scribble_random(s, 70);
	case IS_POOL1:
		return index_somewhere(s, i, n_pools_here(s), (uint64_t)heap->n_arenas * heap->pools_per_arena);
	case IS_ARENA1:
		return index_somewhere(s, i, n_arenas_here(s), heap->n_arenas);
	case IS_SESSION1:
		return index_somewhere(s, i, 4, heap->n_sessions);
	case IS_POSITION1:
		return one_in(s, 4)
			       ? number_somewhere(s)
			       : (one_in(s, 2) ? position_of_block(s) : position_somewhere(s)) + scribble_random(s, 2);
	case IS_REF:
		return one_in(s, 4) ? number_somewhere(s)
				    : ref_make(position_of_block(s), (uint32_t)scribble_random(s, 16));
	case IS_WORD:
		return word_somewhere(s);
	case IS_PID:
		return pid_somewhere(s);
	case IS_LOCK:
		return lock_somewhere(s);
	case IS_NUMBER:
		break;
	}
	return number_somewhere(s);
}

/* One of the tables, of the parts that are asked for. */
static struct table table_somewhere(struct scribble *s)
{
	struct heap *heap = s->heap;
	uint8_t *control = (uint8_t *)heap->control;
	uint64_t pool = scribble_random(s, n_pools_here(s));
	struct session_entry *session = &heap->sessions[scribble_random(s, 5)];
	uint8_t *page = heap->base + (pool << POOL_SHIFT);
	const struct table tables[] = {
		{PART_HEADER, control, sizeof(struct control), 1, FIELDS(header_fields)},
		{PART_LOCK, control, sizeof(struct control), 1, FIELDS(lock_fields)},
		{PART_LOG, control, sizeof(struct control), 1, FIELDS(log_fields)},
		{PART_LISTS, control, sizeof(struct control), 1, FIELDS(control_fields)},
		{PART_SESSIONS, (uint8_t *)heap->sessions, sizeof(struct session_entry), 5, FIELDS(session_fields)},
		{PART_SESSIONS, (uint8_t *)heap->sessions, sizeof(struct session_entry), heap->n_sessions,
			FIELDS(session_fields)},
		{PART_SESSIONS, (uint8_t *)session->usedpools1, 4, N_CLASSES, FIELDS(pool1_fields)},
		{PART_SESSIONS, (uint8_t *)session->spare_runs1, 4, SPARE_RUN_MAX, FIELDS(pool1_fields)},
		{PART_SESSIONS, (uint8_t *)session->holds_inline, sizeof(struct hold), HOLDS_INLINE,
			FIELDS(hold_fields)},
		{PART_LISTS, (uint8_t *)heap->control->spaces[scribble_random(s, N_SPACES)].usedpools1, 4, N_CLASSES,
			FIELDS(pool1_fields)},
		{PART_TYPES, (uint8_t *)(heap->types + TYPE_FIRST_REGISTERED), sizeof(struct type_entry), 4,
			FIELDS(type_fields)},
		{PART_TYPES, (uint8_t *)heap->type_slots, 4, 16, FIELDS(type_slot_fields)},
		{PART_TYPES, (uint8_t *)heap->name_buckets, 8, heap->n_name_buckets, FIELDS(bucket_fields)},
		{PART_ARENAS, (uint8_t *)heap->arenas, sizeof(struct arena_entry), n_arenas_here(s) + 1U,
			FIELDS(arena_fields)},
		{PART_ARENAS, (uint8_t *)heap->freepools, 8, n_arenas_here(s) * heap->pool_words,
			FIELDS(freepools_fields)},
		{PART_POOLS, (uint8_t *)heap->pools, sizeof(struct pool_entry), n_pools_here(s), FIELDS(pool_fields)},
		{PART_POOLS, (uint8_t *)heap->pools, sizeof(struct pool_entry), 16, FIELDS(pool_fields)},
		{PART_OBJECTS, page, sizeof(struct object_header), 64, FIELDS(header_word_fields)},
		{PART_OBJECTS, page, 8, POOL_SIZE / 8, FIELDS(payload_fields)},
	};
	uint32_t i;

	do
		i = (uint32_t)scribble_random(s, sizeof(tables) / sizeof(tables[0]));
	while (!(tables[i].part & s->parts));
	return tables[i];
}

void scribble_field(struct scribble *s)
{
	struct table t = table_somewhere(s);
	const struct field *f = &t.fields[scribble_random(s, t.n_fields)];
	uint64_t i = scribble_random(s, t.n);

	uint8_t *p = t.base + i * t.stride + f->offset;

	if (f->is_daemons && !(s->parts & PART_DAEMON))
		return;
	if (f->meaning == IS_PID)
		__atomic_store_n((int32_t *)(void *)p, (int32_t)pid_somewhere(s), __ATOMIC_RELAXED);
	else
		poke(s, p, f->width, value_for(s, &t, i, f));
}

void scribble_bit(struct scribble *s)
{
	struct table t = table_somewhere(s);
	const struct field *f = &t.fields[scribble_random(s, t.n_fields)];
	uint8_t *p = t.base + scribble_random(s, t.n) * t.stride + f->offset;

	if (f->is_daemons && !(s->parts & PART_DAEMON))
		return;
	p += scribble_random(s, f->width);
	poke(s, p, 1, *p ^ 1U << scribble_random(s, 8));
}

/* A neighbour's content, whole. */
static void forge_copy(struct scribble *s)
{
	struct table t = table_somewhere(s);
	uint8_t *to = t.base + scribble_random(s, t.n) * t.stride, *from = t.base + scribble_random(s, t.n) * t.stride;

	if (t.part == PART_ARENAS && !(s->parts & PART_DAEMON))
		return;
	for (size_t i = 0; t.n > 1 && i + 8 <= t.stride; i += 8)
		poke(s, to + i, 8, peek(from + i, 8));
}

/* Two pools that are each other's neighbours in one of their lists. */
static void forge_circle_of_pools(struct scribble *s)
{
	struct pool_entry *pools = s->heap->pools;
	uint64_t a = scribble_random(s, n_pools_here(s)), b = one_in(s, 2) ? a : scribble_random(s, n_pools_here(s));
	static const uint32_t links[] = {offsetof(struct pool_entry, links), offsetof(struct pool_entry, remote_links),
		offsetof(struct pool_entry, owned_links)};
	uint32_t at = links[scribble_random(s, 3)];

	poke(s, (uint8_t *)&pools[a] + at, 8, (b + 1) << 32 | (b + 1));
	poke(s, (uint8_t *)&pools[b] + at, 8, (a + 1) << 32 | (a + 1));
	if (one_in(s, 2))
		poke(s, (uint8_t *)&s->heap->sessions[scribble_random(s, 5)].owned_pools1, 4, a + 1);
}

static void forge_circle_of_arenas(struct scribble *s)
{
	uint64_t a = scribble_random(s, n_arenas_here(s)), b = scribble_random(s, n_arenas_here(s));

	poke(s, (uint8_t *)&s->heap->arenas[a].links, 8, (b + 1) << 32 | (b + 1));
	poke(s, (uint8_t *)&s->heap->arenas[b].links, 8, (a + 1) << 32 | (a + 1));
}

/* Dying objects, names, that lead to each other. */
static void forge_circle_of_blocks(struct scribble *s)
{
	struct object_header *headers;
	uint64_t pool = scribble_random(s, n_pools_here(s)), position = position_of_block(s);
	uint8_t *payload = s->heap->base + (position << 3);

	if (!(s->parts & PART_OBJECTS))
		return;
	headers = (void *)(s->heap->base + (pool << POOL_SHIFT));
	for (int i = 0; i < 16; i++) {
		poke(s, (uint8_t *)&headers[i].word, 8,
			header_live(1, (uint32_t)scribble_random(s, 6), 8 * scribble_random(s, 64),
				(uint32_t)scribble_random(s, 5)));
		poke(s, (uint8_t *)&headers[i].rights, 8, rights_of_dying(position_of_block(s) + 1));
	}
	poke(s, payload, 8, position); /* next */
	poke(s, payload + 8, 8, ref_make(position_of_block(s), 1));
	poke(s, payload + 16, 8, one_in(s, 2) ? 0 : UINT64_MAX);
	if (one_in(s, 2))
		poke(s, (uint8_t *)&s->heap->sessions[scribble_random(s, 5)].dying1, 8, position + 1);
	else
		poke(s, (uint8_t *)&s->heap->name_buckets[scribble_random(s, s->heap->n_name_buckets)], 8, position);
}

/* A hold table where none is, as long as nothing is. */
static void forge_table(struct scribble *s)
{
	struct session_entry *entry = &s->heap->sessions[scribble_random(s, 5)];

	if (!(s->parts & PART_SESSIONS))
		return;
	poke(s, (uint8_t *)&entry->holds_position1, 8, position_of_block(s) + 1);
	poke(s, (uint8_t *)&entry->holds_shift, 4, scribble_random(s, 70));
	poke(s, (uint8_t *)&entry->n_holds, 8, number_somewhere(s));
}

static void forge_log(struct scribble *s)
{
	struct global_lock *lock = &s->heap->control->lock;
	uint64_t n = 1 + scribble_random(s, 64);

	if (!(s->parts & PART_LOG))
		return;
	for (uint64_t i = 0; i < n; i++) {
		uint64_t where = one_in(s, 2) ? scribble_random(s, sizeof(struct control)) & ~UINT64_C(7)
					      : LOG_WHERE_HEAP | position_somewhere(s) << 3;

		/* what it leads to must be what this scribbler may write */
		if (!(where & LOG_WHERE_HEAP) && is_protected(s, (uint8_t *)s->heap->control + where, 8))
			continue;
		poke(s, (uint8_t *)&lock->entries[i].where, 8, where | one_in(s, 8));
		poke(s, (uint8_t *)&lock->entries[i].old, 8, word_somewhere(s));
	}
	poke(s, (uint8_t *)&lock->n_entries, 4, one_in(s, 8) ? number_somewhere(s) : n);
}

static void forge_queue(struct scribble *s)
{
	struct queue *queue = (void *)(s->heap->base + (position_of_block(s) << 3));

	if (!(s->parts & PART_OBJECTS))
		return;
	poke(s, (uint8_t *)&queue->n, 8, number_somewhere(s));
	poke(s, (uint8_t *)&queue->head, 8, number_somewhere(s));
	poke(s, (uint8_t *)&queue->tail, 8, number_somewhere(s));
}

void scribble_forge(struct scribble *s)
{
	switch (scribble_random(s, 8)) {
	case 0:
		forge_copy(s);
		break;
	case 1:
	case 2:
		if (s->parts & PART_POOLS)
			forge_circle_of_pools(s);
		break;
	case 3:
		if (s->parts & PART_ARENAS)
			forge_circle_of_arenas(s);
		break;
	case 4:
		forge_circle_of_blocks(s);
		break;
	case 5:
		forge_table(s);
		break;
	case 6:
		forge_log(s);
		break;
	default:
		forge_queue(s);
		break;
	}
}
