// SPDX-License-Identifier: MIT
/*
 * The mappings of the segments: what lies behind the lock's word is this process's own
 */
#include "heap/shared/segment.h"
#include "tests/unit/heap/fixture.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* As the kernel's cache of pages has it: a mapping of the file that nothing lies over. */
static struct control *map_plain(void)
{
	void *p = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fx.heap->control_fd, 0);

	ck_assert_ptr_ne(p, MAP_FAILED);
	return p;
}

START_TEST(word_is_shared_and_the_rest_is_not)
{
	struct heap *other = fixture_attach();
	struct control *plain = map_plain();

	fx.heap->control->lock.word = 77;
	ck_assert_uint_eq(other->control->lock.word, 77);
	ck_assert_uint_eq(plain->lock.word, 77);
	fx.heap->control->lock.word = 0;
	for (size_t i = 0; i < LOCK_UNIT; i += 64) {
		fx.heap->control->lock.own[i] = 1;
		ck_assert_uint_eq(other->control->lock.own[i] | plain->lock.own[i], 0);
		plain->lock.own[i] = 2;
		ck_assert_uint_eq(fx.heap->control->lock.own[i], 1);
		ck_assert_uint_eq(other->control->lock.own[i], 0);
	}
	/* The next section is the file's again. */
	fx.heap->sessions[0].n_blocks_returned = 5;
	ck_assert_uint_eq(other->sessions[0].n_blocks_returned, 5);
	munmap(plain, sizeof(*plain));
	heap_free(other);
}
END_TEST

START_TEST(child_finds_it_empty)
{
	pid_t pid;

	memset(fx.heap->control->lock.own, 0xff, LOCK_UNIT);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (!pid) {
		for (size_t i = 0; i < LOCK_UNIT; i++)
			if (fx.heap->control->lock.own[i])
				_exit(1);
		_exit(0);
	}
	fixture_finish(pid);
	memset(fx.heap->control->lock.own, 0, LOCK_UNIT);
}
END_TEST

/* Also where the file was mapped anew in place, as the daemon does once it was cut short. */
START_TEST(mapped_again)
{
	struct control *plain = map_plain();

	plain->lock.own[16] = 3;
	segment_map_control_again(fx.heap->control, fx.heap->control_size, fx.heap->control_fd);
	ck_assert_uint_eq(fx.heap->control->magic, LAYOUT_MAGIC);
	ck_assert_uint_eq(fx.heap->control->lock.own[16], 0);
	fx.heap->control->lock.own[16] = 4;
	ck_assert_uint_eq(plain->lock.own[16], 3);
	munmap(plain, sizeof(*plain));
	fixture_check();
}
END_TEST

START_TEST(no_such_file)
{
	ck_assert_ptr_null(segment_map(4096, 12345));
	ck_assert_int_eq(errno, EBADF);
	ck_assert_ptr_null(segment_map_control(sizeof(struct control), 12345));
	ck_assert_int_eq(errno, EBADF);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("segment");
	TCase *t = tcase_create("segment");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, word_is_shared_and_the_rest_is_not);
	tcase_add_test(t, child_finds_it_empty);
	tcase_add_test(t, mapped_again);
	tcase_add_test(t, no_such_file);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
