// SPDX-License-Identifier: MIT
/*
 * The undo log: full, of locked headers, with rubbish in it
 *
 * How each operation is undone at each of its lengths: test_log_undo.c.
 */
#include "heap/object/header_lock.h"
#include "tests/unit/heap/fixture_picture.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

START_TEST(log_overflow)
{
	struct session *s = &fx.sessions[0];
	struct picture before;
	const uint32_t n_words = 64;

	populate(); /* so that pools' entries are there */
	before = picture_take();
	ck_assert_int_eq(change_begin(s), 0);
	for (uint32_t i = 0; i < LOG_CAPACITY; i++)
		heap_add(fx.heap, spare_word(i % n_words), 1);
	ck_assert_uint_eq(fx.heap->control->lock.n_entries, LOG_CAPACITY);
	for (uint32_t i = 0; i < 10; i++)
		heap_add(fx.heap, spare_word(i), 1000);
	ck_assert_uint_eq(*spare_word(0), LOG_CAPACITY / n_words); /* what finds no room is not stored */
	ck_assert_int_eq(change_end(s, 0), -EUCLEAN);
	compare(&before, "overflowed", LOG_CAPACITY);

	/* Full to the last entry is no overflow. */
	ck_assert_int_eq(change_begin(s), 0);
	for (uint32_t i = 0; i < LOG_CAPACITY; i++)
		heap_add(fx.heap, spare_word(i % n_words), 1);
	ck_assert_int_eq(change_end(s, 0), 0);
	ck_assert_uint_eq(*spare_word(5), LOG_CAPACITY / n_words);
	picture_free(&before);
}
END_TEST

/*
 * An undone change puts back a locked header's rights_counted, but not rights_given, which the owner stores; the header
 * is unlocked either way.
 */
START_TEST(log_of_header_locks)
{
	struct session *s = &fx.sessions[0];
	uint64_t ref = fixture_bytes(s, 1);
	struct object_header *header = ref_header(ref);

	for (int is_committed = 0; is_committed < 2; is_committed++) {
		header->biased1 = 3;
		ck_assert_int_eq(change_begin(s), 0);
		ck_assert_int_eq(header_lock(s, header, ref), 0);
		ck_assert_uint_eq(header->rights_counted, RIGHTS_LOCKED);
		ck_assert_uint_eq(header->biased1, 0);
		header->rights_counted += 5 * RIGHTS_ONE;
		header->rights_given = 7;
		ck_assert_int_eq(header_lock(s, header, ref), 0); /* once more in the same change */
		header->rights_counted += 3 * RIGHTS_ONE;
		header->rights_given = 9;
		ck_assert_int_eq(change_end(s, is_committed ? 0 : -EIO), is_committed ? 0 : -EIO);
		ck_assert_uint_eq(header->rights_counted, is_committed ? 8 * RIGHTS_ONE : 0);
		ck_assert_uint_eq(header->rights_given, 9);
	}
	header->rights = 0;
}
END_TEST

/*
 * A process died after its commit, or before it locked the header that it has logged: nothing of that hinders others.
 */
START_TEST(log_of_header_locks_of_the_dead)
{
	struct session *s = &fx.sessions[0];
	uint64_t ref = fixture_bytes(s, 1);
	struct object_header *header = ref_header(ref);

	header->rights_counted = RIGHTS_LOCKED | RIGHTS_SHARED | 2 * RIGHTS_ONE; /* it was never unlocked */
	for (int is_committed = 0; is_committed < 2; is_committed++) {
		ck_assert_int_eq(change_begin(s), 0);
		ck_assert_int_eq(header_lock(s, header, ref), 0);
		header->rights_counted += RIGHTS_ONE;
		ck_assert_int_eq(change_end(s, is_committed ? 0 : -EIO), is_committed ? 0 : -EIO);
		ck_assert_uint_eq(
			header->rights_counted & ~RIGHTS_LOCKED, RIGHTS_SHARED | (is_committed ? 3 : 2) * RIGHTS_ONE);
	}
	ck_assert_uint_eq(header->rights_counted & RIGHTS_LOCKED, 0);

	ck_assert_int_eq(change_begin(s), 0);
	ck_assert(log_header_lock(fx.heap, &header->rights_counted, header->rights_counted));
	header->rights_counted += RIGHTS_ONE; /* another session, which was faster */
	ck_assert_int_eq(change_end(s, -EIO), -EIO);
	ck_assert_uint_eq(header->rights_counted, RIGHTS_SHARED | 4 * RIGHTS_ONE);

	/* It died between commit and unlocking: the change has taken place, and the next taker unlocks the header. */
	ck_assert_int_eq(change_begin(s), 0);
	ck_assert_int_eq(header_lock(s, header, ref), 0);
	ck_assert_int_eq(change_end(s, 0), 0);
	header->rights_counted |= RIGHTS_LOCKED;
	fx.heap->control->lock.n_unlocking = 1;
	log_roll_back(fx.heap);
	ck_assert_uint_eq(fx.heap->control->lock.n_unlocking, 0);
	ck_assert_uint_eq(header->rights_counted, RIGHTS_SHARED | 4 * RIGHTS_ONE);

	ck_assert_int_eq(change_begin(s), 0);
	ck_assert_int_eq(header_lock(s, header, ref_make(ref_position(ref), ref_generation(ref) + 1)), -ESTALE);
	ck_assert_int_eq(change_end(s, -ESTALE), -ESTALE);
	ck_assert_uint_eq(header->rights_counted, RIGHTS_SHARED | 4 * RIGHTS_ONE);
	header->rights = 0;
}
END_TEST

/* Rubbish in the log leads to no store outside of the heap's mappings. */
START_TEST(log_scribbled)
{
	struct global_lock *lock = &fx.heap->control->lock;
	const uint64_t wild[] = {
		~UINT64_C(0),
		4,
		7,
		2 | LOG_WHERE_HEADER_LOCK,
		fx.heap->control_size | LOG_WHERE_HEADER_LOCK,
		LOG_WHERE_HEAP | LOG_WHERE_HEADER_LOCK | fx.heap->heap_size,
		fx.heap->control_size,
		fx.heap->control_size - 4,
		fx.heap->control_size + 8,
		UINT64_C(1) << 62,
		LOG_WHERE_HEAP | fx.heap->heap_size,
		LOG_WHERE_HEAP | (fx.heap->heap_size - 8),
		LOG_WHERE_HEAP | 3,
		LOG_WHERE_HEAP | UINT64_C(1) << 50,
		LOG_WHERE_HEAP | (UINT64_C(9) << 20),
	};
	const uint32_t n = sizeof(wild) / sizeof(wild[0]);
	struct picture before;

	populate();
	before = picture_take();
	for (uint32_t i = 0; i < n; i++)
		lock->entries[i] = (struct log_entry){.where = wild[i], .old = UINT64_C(0xdeaddeaddeaddead)};
	lock->n_entries = n;
	log_roll_back(fx.heap);
	ck_assert_uint_eq(lock->n_entries, 0);
	compare(&before, "scribbled", n);

	/* A wild length: no entry behind the last one is read. */
	for (uint32_t i = 0; i < LOG_CAPACITY; i++)
		lock->entries[i].where = ~UINT64_C(0);
	lock->n_entries = UINT32_MAX;
	log_roll_back(fx.heap);
	ck_assert_uint_eq(lock->n_entries, 0);
	compare(&before, "without end", UINT32_MAX);
	picture_free(&before);
}
END_TEST

/* Many random entries, in the heap segment and beyond its end. */
START_TEST(log_random)
{
	struct global_lock *lock = &fx.heap->control->lock;
	struct picture before;

	fixture_seed();
	populate();
	before = picture_take();
	for (uint64_t round = 0; round < fixture_ops(1000); round++) {
		for (uint32_t i = 0; i < 1000; i++) {
			lock->entries[i].where = LOG_WHERE_HEAP | (fixture_random() & (2 * fx.heap->heap_size - 1));
			lock->entries[i].old = fixture_random();
		}
		lock->n_entries = 1000;
		log_roll_back(fx.heap);
		ck_assert_uint_eq(lock->n_entries, 0);
	}
	compare_control(&before, "random", 1000);
	picture_restore(&before);
	fixture_check();
	picture_free(&before);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("log");
	TCase *t = tcase_create("log");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, log_overflow);
	tcase_add_test(t, log_scribbled);
	tcase_add_test(t, log_random);
	tcase_add_test(t, log_of_header_locks);
	tcase_add_test(t, log_of_header_locks_of_the_dead);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
