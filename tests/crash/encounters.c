// SPDX-License-Identifier: MIT
/*
 * Two sessions that work on one pool, queue or object at the same time
 *
 * The owner works in its own pool without the lock. The other session holds an object there, frees a block remotely, or
 * trims the owner's pools as the daemon does. Each may be killed or held anywhere. The other session verifies in its
 * call what it has got: an object that it holds must be undamaged.
 */
#include "encounters.h"

#include "client/session.h"
#include "heap/change/lock.h"
#include "heap/memory/rebuild.h"
#include "heap/object/own.h"

#include <errno.h>

enum { QUEUE, LIST, NARROW, COMMON }; /* in stage->refs: NARROW is a queue of one cell; COMMON the survivor's object */
enum { SESSION = 15 };                /* in stage->given: the owner's index, plus 1; the others are refs */

#define POOL  4096U
#define SMALL 16U
#define BLOCK 512U
#define FULL  7U /* blocks of that size in a pool */

/* ---- the survivor ---- */

/* The object is shared, and its count biased to no session. */
static void share_common(struct actor *a)
{
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 1, a->stage->refs[COMMON]));
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 1, 0));
}

static void prepare(struct actor *a)
{
	MUST(a, pyheap_queue_new(a->heap, 16, &a->stage->refs[QUEUE]));
	MUST(a, pyheap_list_new(a->heap, 3, &a->stage->refs[LIST]));
	MUST(a, pyheap_queue_new(a->heap, 1, &a->stage->refs[NARROW]));
	a->stage->refs[COMMON] = pattern_new(a, SMALL, 63);
	share_common(a);
}

static void remake(struct actor *a, size_t size)
{
	pyheap_ref ref = pattern_new(a, size, 62);

	pattern_check(a, ref, size, 62);
	MUST(a, pyheap_decref(a->heap, ref));
}

static void verify(struct actor *a)
{
	pyheap_ref ref = 0;

	queue_empty(a, a->stage->refs[QUEUE]);
	EXPECT(a, queue_empty(a, a->stage->refs[NARROW]) <= 1);
	MUST(a, pyheap_list_get(a->heap, a->stage->refs[LIST], 0, &ref));
	if (ref) {
		pattern_check(a, ref, SMALL, 61);
		MUST(a, pyheap_decref(a->heap, ref));
	}
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 0, 0));
	(void)pyheap_name_del(a->heap, "met");
	(void)pyheap_name_del(a->heap, "tem");
	pattern_check(a, a->stage->refs[COMMON], SMALL, 63);
	share_common(a);
	remake(a, SMALL);
	remake(a, BLOCK);
}

static void drop_given(struct actor *a)
{
	EXPECT(a, queue_empty(a, a->stage->refs[QUEUE]) > 0);
}

/* ---- the owner ---- */

static void make(struct actor *a, size_t n, size_t size)
{
	for (size_t i = 0; i < n; i++)
		a->mine[i] = pattern_new(a, size, 61);
	a->stage->given[0] = a->mine[0];
	a->stage->given[SESSION] = a->heap->session.index + 1;
	a->stage->refs[FARED] = FARED_UNKNOWN;
}

static void give(struct actor *a, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		MUST(a, pyheap_queue_push(a->heap, a->stage->refs[QUEUE], a->mine[i], 0));
}

static void small_setup(struct actor *a)
{
	make(a, 2, SMALL);
}

static void run_setup(struct actor *a)
{
	make(a, 1, 10 * POOL);
}

/* All other objects of the pool are given to the survivor, which frees them remotely. */
static void last_setup(struct actor *a)
{
	make(a, FULL, BLOCK);
	give(a, 1, FULL);
}

static void full_setup(struct actor *a)
{
	make(a, FULL, BLOCK);
	give(a, 0, FULL);
}

/* The session keeps only a free pool and a spare run. */
static void kept_setup(struct actor *a)
{
	make(a, 1, 10 * POOL);
	MUST(a, pyheap_decref(a->heap, a->mine[0]));
	make(a, 1, BLOCK);
	MUST(a, pyheap_decref(a->heap, a->mine[0]));
}

static int drop_call(struct actor *a)
{
	return pyheap_decref(a->heap, a->mine[0]);
}

static int work_call(struct actor *a)
{
	pyheap_ref ref = 0;
	int r = pyheap_new(a->heap, PYHEAP_BYTES, BLOCK, &ref);

	return r < 0 ? r : pyheap_decref(a->heap, ref);
}

static int work_on_run_call(struct actor *a)
{
	pyheap_ref ref = 0;
	int r = pyheap_new(a->heap, PYHEAP_BYTES, 10 * POOL, &ref);

	return r < 0 ? r : pyheap_decref(a->heap, ref);
}

static int close_call(struct actor *a)
{
	a->heap = pyheap_close(a->heap);
	return 0;
}

/* ---- a queue of one place: each of the two has an object ---- */

static void narrow_setup(struct actor *a)
{
	a->mine[0] = pattern_new(a, SMALL, 61);
	MUST(a, pyheap_incref(a->heap, a->stage->refs[NARROW]));
}

static void narrow_owner_setup(struct actor *a)
{
	narrow_setup(a);
	a->stage->refs[FARED] = FARED_UNKNOWN;
}

/* The hold table has the object. */
static void narrow_table_setup(struct actor *a)
{
	narrow_owner_setup(a);
	MUST(a, pyheap_queue_push(a->heap, a->stage->refs[NARROW], a->mine[0], 0));
	MUST(a, pyheap_queue_pop(a->heap, a->stage->refs[NARROW], &a->mine[0], 0));
}

static void narrow_twice_setup(struct actor *a)
{
	narrow_table_setup(a);
	MUST(a, pyheap_incref(a->heap, a->mine[0]));
}

/* The header counts the hold, and the hold table is full: then push also takes the lock. */
static void narrow_crowded_setup(struct actor *a)
{
	pyheap_ref ref = 0;

	for (int i = 0; i < 47; i++) { /* and the queue: three quarters of 64 */
		MUST(a, pyheap_queue_push(a->heap, a->stage->refs[QUEUE], pattern_new(a, SMALL, 61), 0));
		MUST(a, pyheap_queue_pop(a->heap, a->stage->refs[QUEUE], &ref, 0));
	}
	narrow_owner_setup(a);
}

static void narrow_full_setup(struct actor *a)
{
	narrow_owner_setup(a);
	MUST(a, pyheap_queue_push(a->heap, a->stage->refs[NARROW], a->mine[0], 0));
}

/* -EAGAIN: the other session has filled or emptied the cell. */
static int narrow_push_call(struct actor *a)
{
	int r = pyheap_queue_push(a->heap, a->stage->refs[NARROW], a->mine[0], 0);

	return r == -EAGAIN ? 0 : r;
}

static int narrow_pop_call(struct actor *a)
{
	int r = pyheap_queue_pop(a->heap, a->stage->refs[NARROW], &a->mine[1], 0);

	if (r == 0)
		pattern_check(a, a->mine[1], SMALL, 61);
	return r == -EAGAIN ? 0 : r;
}

/* The cell is changed twice, and three times. */
static int narrow_pop_push_call(struct actor *a)
{
	int r = narrow_pop_call(a);

	return r < 0 ? r : narrow_push_call(a);
}

static int narrow_push_pop_call(struct actor *a)
{
	int r = narrow_push_call(a);

	return r < 0 ? r : narrow_pop_push_call(a);
}

/* ---- an object of a third one, which both know ---- */

static void common_setup(struct actor *a)
{
	a->stage->refs[FARED] = FARED_UNKNOWN;
}

static int common_hold_call(struct actor *a)
{
	return pyheap_incref(a->heap, a->stage->refs[COMMON]);
}

static int common_drop_call(struct actor *a)
{
	return pyheap_decref(a->heap, a->stage->refs[COMMON]);
}

static void common_held_setup(struct actor *a)
{
	common_setup(a);
	MUST(a, common_hold_call(a));
}

static int common_hold_and_drop_call(struct actor *a)
{
	int r = common_hold_call(a);

	return r < 0 ? r : common_drop_call(a);
}

/* The count returns to its old value twice. */
static int common_come_and_go_call(struct actor *a)
{
	int r = common_hold_and_drop_call(a);

	return r < 0 ? r : common_hold_and_drop_call(a);
}

/* Both sessions and nobody else hold the object, so either may drop it last. Both got it through the queue. */
static void both_setup(struct actor *a)
{
	common_setup(a);
	make(a, 2, SMALL);
	MUST(a, pyheap_incref(a->heap, a->mine[0]));
	give(a, 0, 1);
	give(a, 0, 1);
	MUST(a, pyheap_queue_pop(a->heap, a->stage->refs[QUEUE], &a->mine[0], 0));
}

static void both_other_setup(struct actor *a)
{
	MUST(a, pyheap_queue_pop(a->heap, a->stage->refs[QUEUE], &a->mine[0], 0));
}

/* ---- a place of a list that both hold, and its object ---- */

static void place_fill(struct actor *a)
{
	pyheap_ref ref = pattern_new(a, SMALL, 61);

	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 0, ref));
	MUST(a, pyheap_decref(a->heap, ref));
}

static void place_setup(struct actor *a)
{
	common_setup(a);
	MUST(a, pyheap_incref(a->heap, a->stage->refs[LIST]));
	a->mine[0] = 0;
	a->mine[1] = pattern_new(a, SMALL, 61);
}

/* The owner makes the object that is there; nobody has read it. */
static void place_owner_setup(struct actor *a)
{
	place_setup(a);
	place_fill(a);
}

static int place_get_call(struct actor *a)
{
	int r = pyheap_list_get(a->heap, a->stage->refs[LIST], 0, &a->mine[0]);

	if (r == 0 && a->mine[0])
		pattern_check(a, a->mine[0], SMALL, 61);
	return r;
}

static int place_drop_call(struct actor *a)
{
	return a->mine[0] ? pyheap_decref(a->heap, a->mine[0]) : 0;
}

static int place_get_and_drop_call(struct actor *a)
{
	int r = place_get_call(a);

	return r < 0 ? r : place_drop_call(a);
}

static int place_set_call(struct actor *a)
{
	return pyheap_list_set(a->heap, a->stage->refs[LIST], 0, a->mine[1]);
}

static int place_clear_call(struct actor *a)
{
	return pyheap_list_set(a->heap, a->stage->refs[LIST], 0, 0);
}

/* The old object's block is another's at once. */
static int place_reuse_call(struct actor *a)
{
	int r = place_clear_call(a);

	if (r == 0)
		place_fill(a);
	return r;
}

static void place_held_setup(struct actor *a)
{
	place_setup(a);
	MUST(a, place_get_call(a));
}

static void place_owner_held_setup(struct actor *a)
{
	place_owner_setup(a);
	MUST(a, place_get_call(a));
}

/* Both hold the object, and no place has it. */
static void place_last_setup(struct actor *a)
{
	place_held_setup(a);
	MUST(a, place_clear_call(a));
}

/* ---- a name ---- */

#define NAME "met"

static void name_fill(struct actor *a)
{
	pyheap_ref ref = pattern_new(a, SMALL, 61);

	MUST(a, pyheap_name_set(a->heap, NAME, ref));
	MUST(a, pyheap_decref(a->heap, ref));
}

static void name_setup(struct actor *a)
{
	common_setup(a);
	a->mine[0] = 0;
	a->mine[1] = pattern_new(a, SMALL, 61);
	name_fill(a);
}

static void name_other_setup(struct actor *a)
{
	a->mine[1] = pattern_new(a, SMALL, 61);
}

/* The name is in the session's cache, and its object has been read. */
static void name_again_setup(struct actor *a)
{
	name_setup(a);
	MUST(a, pyheap_name_get(a->heap, NAME, &a->mine[0]));
	MUST(a, pyheap_decref(a->heap, a->mine[0]));
}

static int name_get_call(struct actor *a)
{
	int r = pyheap_name_get(a->heap, NAME, &a->mine[0]);

	if (r == 0)
		pattern_check(a, a->mine[0], SMALL, 61);
	return r == -ENOENT ? 0 : r;
}

/* Only the object changes: the name is there all the time. */
static int name_find_call(struct actor *a)
{
	int r = pyheap_name_get(a->heap, NAME, &a->mine[0]);

	if (r == 0)
		pattern_check(a, a->mine[0], SMALL, 61);
	return r;
}

static int name_set_call(struct actor *a)
{
	return pyheap_name_set(a->heap, NAME, a->mine[1]);
}

static int name_del_call(struct actor *a)
{
	return pyheap_name_del(a->heap, NAME);
}

/* Its entry's block is another name's at once. */
static int name_reuse_call(struct actor *a)
{
	int r = name_del_call(a);

	if (r == 0)
		r = pyheap_name_set(a->heap, "tem", a->mine[1]);
	return r < 0 ? r : pyheap_name_del(a->heap, "tem");
}

/* ---- the other one ---- */

/* The object may be there or gone: both are right. */
static int fare(struct actor *a, int r)
{
	if (r == 0 || r == -ESTALE)
		a->stage->refs[FARED] = r ? FARED_LATE : FARED_IN_TIME;
	return r == -ESTALE ? 0 : r;
}

static int hold_call(struct actor *a)
{
	int r = pyheap_incref(a->heap, a->stage->given[0]);

	if (r == 0)
		pattern_check(a, a->stage->given[0], SMALL, 61);
	return fare(a, r);
}

static int hold_run_call(struct actor *a)
{
	int r = pyheap_incref(a->heap, a->stage->given[0]);

	if (r == 0)
		EXPECT(a, pyheap_size(a->heap, a->stage->given[0]) == 10 * POOL);
	return fare(a, r);
}

static int come_and_go_call(struct actor *a)
{
	int r = pyheap_incref(a->heap, a->stage->given[0]);

	if (r == 0)
		MUST(a, pyheap_decref(a->heap, a->stage->given[0]));
	return fare(a, r);
}

static int slot_call(struct actor *a)
{
	return fare(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 0, a->stage->given[0]));
}

static void held_setup(struct actor *a)
{
	a->mine[0] = a->stage->given[0];
	MUST(a, pyheap_incref(a->heap, a->mine[0]));
}

/* All objects of the queue but the first are dropped before. */
static void taken_setup(struct actor *a)
{
	pyheap_ref ref = 0;

	MUST(a, pyheap_queue_pop(a->heap, a->stage->refs[QUEUE], &a->mine[0], 0));
	while (pyheap_queue_pop(a->heap, a->stage->refs[QUEUE], &ref, 0) == 0)
		MUST(a, pyheap_decref(a->heap, ref));
}

/* What the daemon does with an idle session. */
static int trim_call(struct actor *a)
{
	uint32_t index = (uint32_t)a->stage->given[SESSION] - 1;
	struct session daemon;
	int r;

	session_init(&daemon, a->heap->session.heap, SESSION_DAEMON);
	do
		r = own_trim(&daemon, index);
	while (r > 0);
	return r == -EBUSY ? 0 : r;
}

static int block_while(struct actor *a, void (*work)(struct heap *))
{
	struct session *session = &a->heap->session;
	int r;

	r = change_begin(session);
	if (r < 0)
		return r;
	r = critical_block_all(session->heap);
	if (r == 0 && work)
		work(session->heap);
	critical_unblock_all(session->heap);
	return change_end(session, r);
}

/* pyheap_check() without its walk, which changes nothing. */
static int block_call(struct actor *a)
{
	return block_while(a, NULL);
}

/* What pyheap_repair() does after it has found a fault. */
static int rebuild_call(struct actor *a)
{
	return block_while(a, rebuild_all);
}

static void on_fault(void *userdata, const char *text)
{
	fault(userdata, "check: %s", text);
}

static int check_call(struct actor *a)
{
	return (int)pyheap_check(a->heap, on_fault, a);
}

#define OWNER(setup_, call_)                                                                                           \
	.owner = {.name = "owner", .prepare = prepare, .setup = (setup_), .call = (call_), .verify = verify}
#define OWNER_BESIDE(setup_, call_, beside_)                                                                           \
	.owner = {.name = "owner",                                                                                     \
		.prepare = prepare,                                                                                    \
		.setup = (setup_),                                                                                     \
		.call = (call_),                                                                                       \
		.verify = verify,                                                                                      \
		.beside = (beside_)}
#define OTHER(setup_, call_) .other = {.name = "other", .setup = (setup_), .call = (call_)}

const struct encounter encounters[] = {
	{"drop, hold", OWNER(small_setup, drop_call), OTHER(NULL, hold_call)},
	{"drop run, hold", OWNER(run_setup, drop_call), OTHER(NULL, hold_run_call)},
	{"drop, come and go", OWNER(small_setup, drop_call), OTHER(NULL, come_and_go_call)},
	{"drop last, come and go", OWNER_BESIDE(last_setup, drop_call, drop_given), OTHER(NULL, come_and_go_call)},
	{"drop, put into slot", OWNER(small_setup, drop_call), OTHER(NULL, slot_call)},
	{"drop, drop", OWNER(small_setup, drop_call), OTHER(held_setup, drop_call)},
	{"work, remote free", OWNER(full_setup, work_call), OTHER(taken_setup, drop_call)},
	{"work, trim", OWNER(kept_setup, work_call), OTHER(NULL, trim_call)},
	{"work on run, trim", OWNER(kept_setup, work_on_run_call), OTHER(NULL, trim_call)},
	{"work, block", OWNER(small_setup, work_call), OTHER(NULL, block_call)},
	{"work, check", OWNER(small_setup, work_call), OTHER(NULL, check_call), .at = critical_unblock_all},
	{"drop, rebuild", OWNER(small_setup, drop_call), OTHER(NULL, rebuild_call), .after = critical_block_all},
	{"work, rebuild", OWNER(kept_setup, work_call), OTHER(NULL, rebuild_call), .after = critical_block_all},
	{"push, push", OWNER(narrow_owner_setup, narrow_push_call), OTHER(narrow_setup, narrow_push_call)},
	{"push, pop", OWNER(narrow_owner_setup, narrow_push_call), OTHER(narrow_setup, narrow_pop_call)},
	{"push, pop and push", OWNER(narrow_owner_setup, narrow_push_call), OTHER(narrow_setup, narrow_pop_push_call)},
	{"push from table, pop and push", OWNER(narrow_table_setup, narrow_push_call),
		OTHER(narrow_setup, narrow_pop_push_call)},
	{"push of what is held twice, push", OWNER(narrow_twice_setup, narrow_push_call),
		OTHER(narrow_setup, narrow_push_call)},
	{"push with a full table, push", OWNER(narrow_crowded_setup, narrow_push_call),
		OTHER(narrow_setup, narrow_push_call)},
	{"pop, push and pop", OWNER(narrow_full_setup, narrow_pop_call), OTHER(narrow_setup, narrow_push_pop_call)},
	{"pop, pop and push", OWNER(narrow_full_setup, narrow_pop_call), OTHER(narrow_setup, narrow_pop_push_call)},
	{"push, check", OWNER(narrow_table_setup, narrow_push_call), OTHER(NULL, check_call),
		.at = critical_unblock_all},
	{"pop, check", OWNER(narrow_full_setup, narrow_pop_call), OTHER(NULL, check_call), .at = critical_unblock_all},
	{"push, rebuild", OWNER(narrow_owner_setup, narrow_push_call), OTHER(NULL, rebuild_call),
		.after = critical_block_all},
	{"pop, rebuild", OWNER(narrow_full_setup, narrow_pop_call), OTHER(NULL, rebuild_call),
		.after = critical_block_all},
	{"hold common, hold", OWNER(common_setup, common_hold_call), OTHER(NULL, common_hold_call)},
	{"hold common, come and go", OWNER(common_setup, common_hold_call), OTHER(NULL, common_come_and_go_call)},
	{"drop common, hold", OWNER(common_held_setup, common_drop_call), OTHER(NULL, common_hold_call)},
	{"drop common, drop", OWNER(common_held_setup, common_drop_call), OTHER(common_held_setup, common_drop_call)},
	{"drop common, come and go", OWNER(common_held_setup, common_drop_call), OTHER(NULL, common_come_and_go_call)},
	{"come and go, come and go", OWNER(common_setup, common_come_and_go_call),
		OTHER(NULL, common_come_and_go_call)},
	{"drop of two, drop", OWNER(both_setup, drop_call), OTHER(both_other_setup, drop_call)},
	{"hold common, check", OWNER(common_setup, common_hold_call), OTHER(NULL, check_call),
		.at = critical_unblock_all},
	{"drop common, check", OWNER(common_held_setup, common_drop_call), OTHER(NULL, check_call),
		.at = critical_unblock_all},
	{"drop of two, rebuild", OWNER(both_setup, drop_call), OTHER(NULL, rebuild_call), .after = critical_block_all},
	{"remote free, check", OWNER(narrow_table_setup, drop_call), OTHER(NULL, check_call),
		.at = critical_unblock_all},
	{"remote free, rebuild", OWNER(narrow_table_setup, drop_call), OTHER(NULL, rebuild_call),
		.after = critical_block_all},
	{"read, set", OWNER(place_owner_setup, place_get_call), OTHER(place_setup, place_set_call)},
	{"read, clear", OWNER(place_owner_setup, place_get_and_drop_call), OTHER(place_setup, place_clear_call)},
	{"read, use again", OWNER(place_setup, place_get_call), OTHER(place_owner_setup, place_reuse_call)},
	{"read, read", OWNER(place_owner_setup, place_get_and_drop_call), OTHER(place_setup, place_get_and_drop_call)},
	{"read, check", OWNER(place_owner_setup, place_get_call), OTHER(NULL, check_call), .at = critical_unblock_all},
	{"read, rebuild", OWNER(place_owner_setup, place_get_call), OTHER(NULL, rebuild_call),
		.after = critical_block_all},
	{"unread, clear", OWNER(place_owner_held_setup, place_drop_call), OTHER(place_setup, place_clear_call)},
	{"unread, unread", OWNER(place_owner_held_setup, place_drop_call), OTHER(place_last_setup, place_drop_call)},
	{"unread, read", OWNER(place_owner_held_setup, place_drop_call), OTHER(place_setup, place_get_call)},
	{"unread, check", OWNER(place_owner_held_setup, place_drop_call), OTHER(NULL, check_call),
		.at = critical_unblock_all},
	{"name get, set", OWNER(name_setup, name_find_call), OTHER(name_other_setup, name_set_call)},
	{"name get again, set", OWNER(name_again_setup, name_find_call), OTHER(name_other_setup, name_set_call)},
	{"name get, del", OWNER(name_setup, name_get_call), OTHER(NULL, name_del_call)},
	{"name get, use again", OWNER(name_again_setup, name_get_call), OTHER(name_other_setup, name_reuse_call)},
	{"close, remote free", OWNER(full_setup, close_call), OTHER(taken_setup, drop_call)},
	{"close, hold", OWNER(small_setup, close_call), OTHER(NULL, hold_call)},
	{.name = NULL},
};
