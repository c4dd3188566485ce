// SPDX-License-Identifier: MIT
/*
 * Atomic operands: words compared and counted in memory, with numbers of all widths, constants and variables, without
 * touching their neighbours
 */
#include "heap/shared/atomic_operand.h"

#include "tests/unit/heap/fixture.h"

static const uint64_t numbers[] = {0, 1, 0x7f, 0x80, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000,
	0x7fffffffffffffff, 0x8000000000000000, 0xffffffff7fffffff, 0xffffffff80000000, UINT64_MAX - 1, UINT64_MAX};
#define N_NUMBERS (sizeof(numbers) / sizeof(*numbers))

START_TEST(compared)
{
	for (size_t i = 0; i < N_NUMBERS; i++) {
		for (size_t j = 0; j < N_NUMBERS; j++) {
			uint64_t word = numbers[i];
			uint32_t half = (uint32_t)numbers[i];

			ck_assert(word64_is(&word, numbers[j]) == (i == j));
			ck_assert(word32_is(&half, (uint32_t)numbers[j]) == (half == (uint32_t)numbers[j]));
		}
	}
}
END_TEST

/* Numbers that an instruction can have in it, and one that it cannot. */
START_TEST(compared_with_constants)
{
	uint64_t words[] = {0, UINT64_MAX, 0x80000000, 0x123456789abcdef0};
	uint32_t halves[] = {0, UINT32_MAX, 0x80000000};

	ck_assert(word64_is(&words[0], 0) && !word64_is(&words[1], 0));
	ck_assert(word64_is(&words[1], UINT64_MAX) && !word64_is(&words[0], UINT64_MAX));
	ck_assert(word64_is(&words[2], 0x80000000) && !word64_is(&words[1], 0x80000000));
	ck_assert(word64_is(&words[3], 0x123456789abcdef0) && !word64_is(&words[3], 0x9abcdef0));
	ck_assert(word32_is(&halves[0], 0) && !word32_is(&halves[1], 0));
	ck_assert(word32_is(&halves[1], UINT32_MAX) && word32_is(&halves[2], 0x80000000));
}
END_TEST

/* Also where the word has just been stored to, and is read next. */
START_TEST(added)
{
	for (size_t i = 0; i < N_NUMBERS; i++) {
		for (size_t j = 0; j < N_NUMBERS; j++) {
			uint64_t words[3] = {7, numbers[i], 7};

			word64_add(&words[1], numbers[j]);
			ck_assert(words[1] == numbers[i] + numbers[j]);
			words[1] = numbers[i];
			word64_add(&words[1], UINT64_MAX);
			ck_assert(words[1] == numbers[i] - 1 && words[0] == 7 && words[2] == 7);
		}
	}
}
END_TEST

START_TEST(counted_down)
{
	uint16_t words[3] = {UINT16_MAX, UINT16_MAX, UINT16_MAX};

	for (uint32_t n = UINT16_MAX; n-- > 0;) {
		ck_assert(word16_count_down(&words[1]) == (n == 0));
		ck_assert(words[1] == n && words[0] == UINT16_MAX && words[2] == UINT16_MAX);
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("atomic-operand");
	TCase *t = tcase_create("in_place");

	tcase_add_test(t, compared);
	tcase_add_test(t, compared_with_constants);
	tcase_add_test(t, added);
	tcase_add_test(t, counted_down);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
