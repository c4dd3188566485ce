// SPDX-License-Identifier: MIT
/*
 * The daemon's truth: kept over its death wherever it comes, and gone by whatever a client has written beside it
 *
 * The heap is the fixture's, whose truth is memory without a file; the file is tried by itself.
 */
#include "tests/unit/heap/fixture.h"

#include "heap/memory/rebuild.h"
#include "heap/shared/critical.h"
#include "heap/shared/truth.h"

#include <sys/mman.h>
#include <unistd.h>

static const struct heap_geometry geometry = {.heap_size = 16 << 20, .arena_size = 1 << 18, .n_sessions = 8};
static const struct truth_files files = {1, 2, 3, 4};

static struct truth *make(int *ret_fd)
{
	struct truth *truth;

	*ret_fd = memfd_create("truth", MFD_CLOEXEC);
	ck_assert_int_ge(*ret_fd, 0);
	ck_assert_int_eq(truth_make(&truth, dup(*ret_fd), &files, &geometry), 0);
	return truth;
}

/* As the daemon after this one opens it. */
static int reopen(struct truth **ret, int fd, const struct truth_files *of)
{
	int copy = dup(fd), r = truth_open(ret, copy, of);

	if (r < 0)
		close(copy);
	return r;
}

START_TEST(kept_in_its_file)
{
	struct truth *truth;
	int fd;

	truth = make(&fd);
	ck_assert_int_eq(reopen(&truth, fd, &files), -ENODATA); /* it is not committed */
	truth_commit(truth);
	ck_assert_int_eq(truth_extend(truth, 5), 0);
	ck_assert_int_eq(truth_extend(truth, 4), 0);
	truth->arenas[2] = (struct truth_arena){.state = TRUTH_MAPPING, .n_arenas = 3, .session1 = 7};
	truth->sessions[3].token[1] = 11;
	truth_session_set_state(&truth->sessions[3], SESSION_ACTIVE);
	truth_free(truth);

	ck_assert_int_eq(reopen(&truth, fd, &files), 0);
	ck_assert_uint_eq(truth->head->n_arenas_known, 5);
	ck_assert_uint_eq(truth_run_length(truth, 2), 3);
	ck_assert_uint_eq(truth->arenas[2].session1, 7);
	ck_assert_uint_eq(truth_arena_state(truth, 4), TRUTH_BODY);
	ck_assert_uint_eq(truth_arena_state(truth, 5), TRUTH_HOLE); /* not known */
	ck_assert_uint_eq(truth->sessions[3].token[1], 11);
	truth_free(truth);
	ck_assert_ptr_null(truth_free(NULL));
	close(fd);
}
END_TEST

START_TEST(not_of_this_heap)
{
	struct truth_files others = files;
	struct truth *truth;
	uint64_t wrong = 1;
	int fd;

	truth = make(&fd);
	truth_commit(truth);
	truth_free(truth);
	others.control_ino++;
	ck_assert_int_eq(reopen(&truth, fd, &others), -ENODATA);
	ck_assert_int_eq(pwrite(fd, &wrong, 8, offsetof(struct truth_head, layout_hash)), 8);
	ck_assert_int_eq(reopen(&truth, fd, &files), -EPROTONOSUPPORT);
	wrong = layout_hash();
	ck_assert_int_eq(pwrite(fd, &wrong, 8, offsetof(struct truth_head, layout_hash)), 8);
	wrong = 3;
	ck_assert_int_eq(pwrite(fd, &wrong, 8, offsetof(struct truth_head, heap_size)), 8);
	ck_assert_int_eq(reopen(&truth, fd, &files), -ENODATA);
	ck_assert_int_eq(ftruncate(fd, 100), 0);
	ck_assert_int_eq(reopen(&truth, fd, &files), -ENODATA);
	close(fd);
}
END_TEST

/* The states that a death between two stores can leave. */
START_TEST(settled)
{
	struct truth *truth;
	int fd;

	truth = make(&fd);
	ck_assert_int_eq(truth_extend(truth, 16), 0);
	truth->arenas[0] = (struct truth_arena){.state = TRUTH_MAPPING, .n_arenas = 4}; /* no BODY yet */
	truth_arena_set_run(&truth->arenas[3], TRUTH_THERE, 1); /* or all is mapped, and the head says nothing yet */
	truth->arenas[4] = (struct truth_arena){.state = TRUTH_UNMAPPING, .n_arenas = 3};
	truth->arenas[5].state = TRUTH_BODY; /* the last is a HOLE, and still counted */
	truth->arenas[8].state = TRUTH_BODY; /* of a head that is a HOLE again */
	truth->arenas[9] = (struct truth_arena){.state = TRUTH_THERE, .n_arenas = 1};
	truth->arenas[15] = (struct truth_arena){.state = TRUTH_THERE, .n_arenas = 99};
	for (int i = 0; i < 2; i++) {
		truth_settle(truth);
		ck_assert_uint_eq(truth->arenas[0].state, TRUTH_MAPPING);
		for (uint32_t k = 1; k < 4; k++)
			ck_assert_uint_eq(truth->arenas[k].state, TRUTH_BODY);
		ck_assert_uint_eq(truth->arenas[4].state, TRUTH_UNMAPPING);
		ck_assert_uint_eq(truth->arenas[6].state, TRUTH_BODY);
		ck_assert_uint_eq(truth->arenas[7].state, TRUTH_HOLE);
		ck_assert_uint_eq(truth->arenas[8].state, TRUTH_HOLE);
		ck_assert_uint_eq(truth->arenas[9].state, TRUTH_THERE);
		ck_assert_uint_eq(truth->arenas[15].n_arenas, 1);
	}
	truth_free(truth);
	close(fd);
}
END_TEST

/* ---- beside what clients write ----------------------------------------------------------------------------------- */

/* The memory behind the window, which is somebody else's. */
static uint8_t *neighbour(void)
{
	uint8_t *end = fx.heap->base + fx.heap->heap_size;

	return mmap(end, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
}

START_TEST(lengthened_while_it_is_mapped)
{
	uint32_t n = fx.heap->n_arenas, head, n_done = 0;
	uint8_t *behind = neighbour();

	if (behind != MAP_FAILED)
		memset(behind, 1, 1 << 20);
	ck_assert_int_eq(supply_reserve(fx.heap, 0, n, &head), 0);
	ck_assert_int_eq(supply_map_step(fx.heap, head, n - 1, &n_done), 0);
	fx.heap->arenas[head].n_arenas = n + 4;
	ck_assert_int_eq(supply_map_step(fx.heap, head, 100, &n_done), 1);
	ck_assert_uint_eq(n_done, n);

	n_done = 0;
	fx.heap->arenas[head].n_arenas = 3 * n;
	ck_assert_int_eq(supply_unmap_step(fx.heap, head, 2, &n_done), 0);
	fx.heap->arenas[head].n_arenas = 0xffffffff;
	ck_assert_int_eq(supply_unmap_step(fx.heap, head, UINT32_MAX, &n_done), 1);
	ck_assert_uint_eq(n_done, n);
	for (uint32_t i = 0; behind != MAP_FAILED && i < 1 << 20; i += 4096)
		ck_assert_uint_eq(behind[i], 1);
	for (uint32_t i = 0; i < n; i++)
		ck_assert(!arena_is_there(fx.heap, i));
	fixture_check();
}
END_TEST

/* Where nothing is mapped, no state makes the daemon read or write. */
START_TEST(states_of_holes)
{
	uint32_t head, n_done = 0;

	ck_assert_int_eq(supply_reserve(fx.heap, 0, 4, &head), 0);
	ck_assert_int_eq(supply_map_step(fx.heap, head, 4, &n_done), 1);
	n_done = 0;
	ck_assert_int_eq(supply_unmap_step(fx.heap, head, 4, &n_done), 1);
	for (uint32_t state = ARENA_GRANTED; state <= ARENA_BODY + 1; state++) {
		for (uint32_t i = head; i < head + 4; i++)
			fx.heap->arenas[i].state = state;
		fx.heap->control->n_arenas_known = UINT32_MAX;
		ck_assert_uint_eq(arenas_known(fx.heap), 4);
		ck_assert(!arena_is_there(fx.heap, head));
		ck_assert_uint_eq(fx.heap->base[(uint64_t)head << fx.heap->arena_shift], 0); /* it can be read */
		ck_assert_int_eq(session_lock(&fx.sessions[0]), 0);
		ck_assert_int_eq(critical_block_all(fx.heap), 0);
		rebuild_all(fx.heap);
		critical_unblock_all(fx.heap);
		ck_assert_int_eq(session_unlock(&fx.sessions[0]), 0);
		fixture_stats();
		supply_adopt_all(fx.heap);
	}
}
END_TEST

/* A run that was never granted is nobody's, though the table says that it is in use. */
START_TEST(left_over_by_the_truth)
{
	uint32_t head, n_done = 0;

	ck_assert_int_eq(supply_reserve(fx.heap, 0, 4, &head), 0);
	ck_assert_int_eq(supply_map_step(fx.heap, head, 2, &n_done), 0);
	fx.heap->arenas[head].state = ARENA_RUN;
	fx.heap->arenas[head].n_arenas = 1;
	supply_adopt_all(fx.heap);
	for (uint32_t i = head; i < head + 4; i++) {
		ck_assert_uint_eq(fx.heap->arenas[i].state, ARENA_HOLE);
		ck_assert_uint_eq(truth_arena_state(fx.heap->truth, i), TRUTH_HOLE);
	}
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}
END_TEST

/* Whom a run was granted to the truth says. */
START_TEST(granted_by_the_truth)
{
	uint32_t head, other, n_done = 0;

	ck_assert_int_eq(supply_reserve(fx.heap, 1, 2, &head), 0);
	ck_assert_int_eq(supply_map_step(fx.heap, head, 2, &n_done), 1);
	fx.heap->arenas[head].session1 = 3;
	ck_assert_int_eq(supply_pick_granted(&fx.daemon, 2, false, &other), 0);
	ck_assert_int_eq(supply_pick_granted(&fx.daemon, 1, false, &other), 1);
	ck_assert_uint_eq(other, head);
}
END_TEST

/* A session's state in the table is what clients read. */
START_TEST(sessions_by_the_truth)
{
	struct session_record record;
	struct session more;

	session_read(fx.heap, 1, &record);
	ck_assert_int_eq(record.pid, getpid());
	fx.heap->sessions[1].pid = 1;
	fx.heap->sessions[1].start_time = 0;
	fx.heap->sessions[1].state = SESSION_FREE;
	memset(fx.heap->sessions[1].program, 'x', sizeof(fx.heap->sessions[1].program));
	session_read(fx.heap, 1, &record);
	ck_assert_int_eq(record.pid, getpid());
	ck_assert_uint_eq(record.start_time, 1);
	ck_assert_uint_eq(record.state, SESSION_ACTIVE);
	ck_assert_str_eq(record.program, "unit-test");
	ck_assert_int_eq(fixture_admit(fx.heap, &more), 0);
	ck_assert_uint_eq(more.index, FIXTURE_SESSIONS);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("truth");
	TCase *file = tcase_create("its file"), *heap = tcase_create("beside the heap");

	tcase_add_test(file, kept_in_its_file);
	tcase_add_test(file, not_of_this_heap);
	tcase_add_test(file, settled);
	suite_add_tcase(s, file);
	tcase_add_checked_fixture(heap, fixture_open, fixture_close);
	tcase_add_test(heap, lengthened_while_it_is_mapped);
	tcase_add_test(heap, states_of_holes);
	tcase_add_test(heap, left_over_by_the_truth);
	tcase_add_test(heap, granted_by_the_truth);
	tcase_add_test(heap, sessions_by_the_truth);
	suite_add_tcase(s, heap);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
