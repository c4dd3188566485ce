// SPDX-License-Identifier: MIT
/*
 * Good and bad frames by name, then random ones
 *
 * The table is what a message may look like on the wire and what may not; each row is one check. The random part makes
 * frames out of nothing and by damaging the good rows, and asks of each: no byte past the given ones is looked at (the
 * copies end at the end of an allocation, so that ASan and valgrind see it), what is accepted can be packed again and
 * is then accepted as the same, what is refused leaves no result. PYHEAP_SEED repeats a run, PYHEAP_ROUNDS makes it
 * longer.
 */
#include "proto/frame.h"

#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct row {
	const char *what;
	bool good;
	size_t n;
	uint8_t bytes[48]; /* without the prefix, which is made from n */
};

static const struct row rows[] = {
	{"hello, empty", true, 2, {0x0a, 0}},
	{"hello, protocol 1", true, 4, {0x0a, 2, 0x08, 1}},
	{"hello, unpacked twice: the later one counts", true, 6, {0x0a, 4, 0x08, 1, 0x08, 2}},
	{"hello, largest varint", true, 13, {0x0a, 11, 0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1}},
	{"hello, varint of zeroes", true, 6, {0x0a, 4, 0x08, 0x80, 0x80, 0}},
	{"hello, hash", true, 11, {0x0a, 9, 0x11, 1, 2, 3, 4, 5, 6, 7, 8}},
	{"hello, program with a NUL", true, 7, {0x0a, 5, 0x1a, 3, 'a', 0, 'b'}},
	{"hello, token", true, 8, {0x0a, 6, 0x20, 3, 0x2a, 2, 1, 2}},
	{"hello, unknown field", true, 5, {0x0a, 3, 0xf8, 0x06, 1}},
	{"grant request", true, 6, {0x12, 4, 0x08, 1, 0x10, 16}},
	{"grant request, largest", true, 14,
		{0x12, 12, 0x08, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x10, 0xff, 0xff, 0xff, 0xff, 0x0f}},
	{"stats request", true, 2, {0x1a, 0}},
	{"goodbye", true, 2, {0x22, 0}},
	{"two bodies: the later one counts", true, 4, {0x1a, 0, 0x22, 0}},
	{"nothing", false, 0, {0}},
	{"unknown body only", false, 2, {0x7a, 0}},
	{"tag without value", false, 1, {0x0a}},
	{"length past the end", false, 3, {0x0a, 2, 0x08}},
	{"length of 2^63", false, 12, {0x0a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01, 0}},
	{"length of 2^32 - 1", false, 7, {0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, 0}},
	{"length that never ends", false, 12, {0x0a, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255}},
	{"inner length past the end", false, 5, {0x0a, 3, 0x1a, 9, 'a'}},
	{"inner varint cut", false, 4, {0x0a, 2, 0x08, 0x80}},
	{"inner fixed64 cut", false, 6, {0x0a, 4, 0x11, 1, 2, 3}},
	{"field 0", false, 2, {0x02, 0}},
	{"wire type 3", false, 2, {0x0b, 0}},
	{"wire type 6", false, 2, {0x0e, 0}},
	{"wire type 7", false, 2, {0x0f, 0}},
	{"body as a varint", false, 2, {0x08, 1}},
	{"text", false, 18, "GET / HTTP/1.1\r\n\r\n"},
};
#define N_ROWS ((int)(sizeof(rows) / sizeof(rows[0])))

/* ---- one frame ------------------------------------------------------------------------------------------------- */

static uint8_t *frame_of(const uint8_t *bytes, size_t n)
{
	uint8_t *frame = malloc(FRAME_PREFIX + n);

	ck_assert_ptr_nonnull(frame);
	for (size_t i = 0; i < FRAME_PREFIX; i++)
		frame[i] = (uint8_t)(n >> 8 * i);
	memcpy(frame + FRAME_PREFIX, bytes, n);
	return frame;
}

/* protobuf-c keeps fields that it does not know, and packs those with an odd tag in a form that it then refuses. */
static bool has_unknown_fields(const Pyheap__ToDaemon *message)
{
	const ProtobufCMessage *body =
		(const ProtobufCMessage *)message->hello; /* whichever: the union is of pointers */

	return message->base.n_unknown_fields || body->n_unknown_fields;
}

/* What holds of any frame: it is either refused, or accepted as well as what is packed from it. */
static bool try_to_daemon(const uint8_t *frame, size_t size)
{
	Pyheap__ToDaemon *message = NULL, *again = NULL;
	uint8_t *packed;
	size_t n;
	int r = frame_unpack_to_daemon(frame, size, &message);

	if (r < 0) {
		ck_assert_int_eq(r, -EBADMSG);
		ck_assert_ptr_null(message);
		return false;
	}
	ck_assert_int_eq(frame_pack(&message->base, &packed, &n), 0);
	if (!has_unknown_fields(message)) {
		ck_assert_int_eq(frame_unpack_to_daemon(packed, n, &again), 0);
		ck_assert_int_eq(again->body_case, message->body_case);
		ck_assert_uint_eq(pyheap__to_daemon__get_packed_size(again) + FRAME_PREFIX, n);
		pyheap__to_daemon__free_unpacked(again, NULL);
	}
	pyheap__to_daemon__free_unpacked(message, NULL);
	free(packed);
	return true;
}

static bool try_from_daemon(const uint8_t *frame, size_t size)
{
	Pyheap__FromDaemon *message = NULL;
	int r = frame_unpack_from_daemon(frame, size, &message);

	if (r < 0) {
		ck_assert_int_eq(r, -EBADMSG);
		ck_assert_ptr_null(message);
		return false;
	}
	pyheap__from_daemon__free_unpacked(message, NULL);
	return true;
}

START_TEST(row)
{
	const struct row *what = &rows[_i];
	uint8_t *frame = frame_of(what->bytes, what->n);
	size_t size = FRAME_PREFIX + what->n;

	ck_assert_int_eq(frame_peek(frame, size), (ssize_t)size);
	ck_assert_msg(try_to_daemon(frame, size) == what->good, "%s", what->what);
	for (size_t cut = 0; cut < size; cut++) {
		uint8_t *part = malloc(cut ? cut : 1);

		memcpy(part, frame, cut);
		ck_assert_int_eq(frame_peek(part, cut), 0);
		ck_assert(!try_to_daemon(part, cut));
		free(part);
	}
	free(frame);
}
END_TEST

/* ---- random ones ----------------------------------------------------------------------------------------------- */

static uint64_t state;

static uint64_t next_random(void)
{
	uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static size_t random_below(size_t n)
{
	return (size_t)(next_random() % n);
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
	const char *value = getenv(name);

	return value ? strtoull(value, NULL, 0) : otherwise;
}

/* Damage what is there: bits turned, bytes cut, put in, doubled. Returns the new length, at most `max`. */
static size_t damage(uint8_t *bytes, size_t n, size_t max)
{
	for (size_t i = 1 + random_below(4); i; i--) {
		size_t at = n ? random_below(n) : 0;

		switch (random_below(4)) {
		case 0:
			if (n)
				bytes[at] ^= (uint8_t)(1 << random_below(8));
			break;
		case 1:
			n = at;
			break;
		case 2:
			if (n < max) {
				memmove(bytes + at + 1, bytes + at, n - at);
				bytes[at] = (uint8_t)next_random();
				n++;
			}
			break;
		case 3:
			if (2 * n <= max) {
				memcpy(bytes + n, bytes, n);
				n *= 2;
			}
			break;
		}
	}
	return n;
}

START_TEST(random_frames)
{
	uint64_t seed = from_environment("PYHEAP_SEED", 20240229), rounds = from_environment("PYHEAP_ROUNDS", 300000);
	uint64_t n_good = 0;

	printf("random frames: PYHEAP_SEED=%" PRIu64 " PYHEAP_ROUNDS=%" PRIu64 "\n", seed, rounds);
	fflush(stdout);
	state = seed;
	for (uint64_t i = 0; i < rounds; i++) {
		uint8_t bytes[256], *frame;
		size_t n;

		if (i % 2) {
			const struct row *what = &rows[random_below((size_t)N_ROWS)];

			memcpy(bytes, what->bytes, what->n);
			n = damage(bytes, what->n, sizeof(bytes));
		} else {
			n = random_below(64);
			for (size_t j = 0; j < n; j++)
				bytes[j] = (uint8_t)next_random();
		}
		frame = frame_of(bytes, n);
		n_good += try_to_daemon(frame, FRAME_PREFIX + n);
		try_from_daemon(frame, FRAME_PREFIX + n);
		free(frame);
	}
	printf("random frames: %" PRIu64 " of %" PRIu64 " accepted\n", n_good, rounds);
	ck_assert_uint_gt(n_good, 0); /* else the damaging only ever makes rubbish */
	ck_assert_uint_lt(n_good, rounds);
}
END_TEST

/* frame_peek() of any bytes: 0, -EMSGSIZE, or no more than there is. */
START_TEST(random_prefixes)
{
	state = from_environment("PYHEAP_SEED", 20240229);
	for (int i = 0; i < 300000; i++) {
		size_t n = random_below(12);
		uint8_t *bytes = malloc(n ? n : 1);
		ssize_t r;

		for (size_t j = 0; j < n; j++)
			bytes[j] = random_below(3) ? (uint8_t)random_below(9) : (uint8_t)next_random();
		r = frame_peek(bytes, n);
		ck_assert(r == 0 || r == -EMSGSIZE || (r >= (ssize_t)FRAME_PREFIX && r <= (ssize_t)n));
		free(bytes);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("frame fuzz");
	TCase *table = tcase_create("table"), *random = tcase_create("random");
	SRunner *runner;
	int n_failed;

	tcase_add_loop_test(table, row, 0, N_ROWS);
	tcase_add_test(random, random_frames);
	tcase_add_test(random, random_prefixes);
	suite_add_tcase(suite, table);
	suite_add_tcase(suite, random);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	n_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
