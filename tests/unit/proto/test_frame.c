// SPDX-License-Identifier: MIT
/*
 * Framing and descriptor passing (proto/frame.c): every border of a length, any
 * cut of the stream, descriptors that come with the message they belong to and
 * are never lost or leaked.
 */
#include "proto/frame.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define LONG_MS                                                                                                        \
	60000 /* a watch-dog: no test waits that long unless it fails                                                  \
	       */

/* Messages */

/* An Error from the daemon whose packed message is exactly n bytes long: not each length of text and code can make it.
 */
static void error_of_size(size_t n, uint8_t **ret, size_t *ret_size)
{
	static const int codes[] = {0, 1, 128, 16384};
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Error error = PYHEAP__ERROR__INIT;
	char *text = calloc(1, n + 1);

	ck_assert_ptr_nonnull(text);
	message.body_case = PYHEAP__FROM_DAEMON__BODY_ERROR;
	message.error = &error;
	memset(text, 'x', n);
	error.text = text;
	for (size_t i = 0; i < 20 * 4; i++) {
		size_t n_text = n > i / 4 ? n - i / 4 : 0;

		text[n_text] = '\0';
		error.code = codes[i % 4];
		if (pyheap__from_daemon__get_packed_size(&message) == n)
			break;
	}
	ck_assert_uint_eq(pyheap__from_daemon__get_packed_size(&message), n);
	ck_assert_int_eq(frame_pack(&message.base, ret, ret_size), 0);
	free(text);
}

static void send_error(int fd, int code, const int *fds, size_t n_fds)
{
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Error error = PYHEAP__ERROR__INIT;

	error.code = code;
	error.text = (char *)"a sentence";
	message.body_case = PYHEAP__FROM_DAEMON__BODY_ERROR;
	message.error = &error;
	ck_assert_int_eq(frame_send(fd, &message.base, fds, n_fds, LONG_MS), 0);
}

static void expect_error(int fd, struct frame_buffer *buffer, int code)
{
	Pyheap__FromDaemon *message;

	ck_assert_int_eq(frame_receive(fd, buffer, LONG_MS, &message), 0);
	ck_assert_int_eq(message->body_case, PYHEAP__FROM_DAEMON__BODY_ERROR);
	ck_assert_int_eq(message->error->code, code);
	pyheap__from_daemon__free_unpacked(message, NULL);
}

static void make_pair(int ret[2])
{
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret), 0);
}

/* Lengths */

static const size_t borders[] = {
	4, 5, 126, 127, 128, 129, 131, 132, 255, 256, 257, 16383, 16384, 16385, 16390, 65535, 65536};

START_TEST(packs_every_border)
{
	size_t n = borders[_i], size;
	Pyheap__FromDaemon *message;
	uint8_t *frame;

	error_of_size(n, &frame, &size);
	ck_assert_uint_eq(size, n + FRAME_PREFIX);
	ck_assert_uint_eq(
		(size_t)frame[0] | (size_t)frame[1] << 8 | (size_t)frame[2] << 16 | (size_t)frame[3] << 24, n);
	ck_assert_int_eq(frame_peek(frame, size), (ssize_t)size);
	ck_assert_int_eq(frame_peek(frame, size - 1), 0);
	ck_assert_int_eq(frame_unpack_from_daemon(frame, size, &message), 0);
	ck_assert_uint_eq(pyheap__from_daemon__get_packed_size(message), n);
	pyheap__from_daemon__free_unpacked(message, NULL);
	ck_assert_int_eq(frame_unpack_from_daemon(frame, size - 1, &message), -EBADMSG);
	free(frame);
}
END_TEST

START_TEST(refuses_to_pack_more_than_the_longest)
{
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Error error = PYHEAP__ERROR__INIT;
	char *text = calloc(1, FRAME_MAX);
	uint8_t *frame = NULL;
	size_t size = 77;

	memset(text, 'x', FRAME_MAX - 1);
	error.text = text;
	message.body_case = PYHEAP__FROM_DAEMON__BODY_ERROR;
	message.error = &error;
	ck_assert_int_eq(frame_pack(&message.base, &frame, &size), -EMSGSIZE);
	ck_assert_ptr_null(frame);
	ck_assert_uint_eq(size, 77);
	free(text);
}
END_TEST

START_TEST(peeks_at_every_border)
{
	static const struct {
		uint8_t prefix[4];
		size_t n;
		ssize_t expected;
	} rows[] = {
		{{0, 0, 0, 0}, 0, 0},
		{{0, 0, 0, 0}, 3, 0},
		{{0, 0, 0, 0}, 4, 4},
		{{0, 0, 0, 0}, 9, 4},
		{{1, 0, 0, 0}, 4, 0},
		{{1, 0, 0, 0}, 5, 5},
		{{1, 0, 0, 0}, 6, 5},
		{{0, 1, 0, 0}, 259, 0},
		{{0, 1, 0, 0}, 260, 260},
		{{255, 255, 0, 0}, 65538, 0},
		{{255, 255, 0, 0}, 65539, 65539},
		{{0, 0, 1, 0}, 65539, 0},
		{{0, 0, 1, 0}, 65540, 65540},
		{{1, 0, 1, 0}, 3, 0},
		{{1, 0, 1, 0}, 4, -EMSGSIZE},
		{{0, 0, 0, 1}, 4, -EMSGSIZE},
		{{0, 0, 0, 128}, 4, -EMSGSIZE},
		{{255, 255, 255, 255}, 4, -EMSGSIZE},
	};
	uint8_t *bytes = calloc(1, FRAME_PREFIX + FRAME_MAX);

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		memcpy(bytes, rows[i].prefix, sizeof(rows[i].prefix));
		ck_assert_int_eq(frame_peek(bytes, rows[i].n), rows[i].expected);
	}
	free(bytes);
}
END_TEST

START_TEST(refuses_malformed)
{
	static const struct {
		const char *what;
		uint8_t bytes[16];
		size_t n;
	} rows[] = {
		{"nothing", {0}, 0},
		{"half a prefix", {0}, 2},
		{"no body", {0, 0, 0, 0}, 4},
		{"an unknown body", {2, 0, 0, 0, 0x7a, 0x00}, 6},
		{"a field number of 0", {2, 0, 0, 0, 0x02, 0x00}, 6},
		{"a body cut short", {3, 0, 0, 0, 0x0a, 0x05, 0x08}, 7},
		{"a varint without end", {4, 0, 0, 0, 0x0a, 0xff, 0xff, 0xff}, 8},
		{"the wrong wire type", {2, 0, 0, 0, 0x08, 0x01}, 6},
		{"a wire type that there is not", {2, 0, 0, 0, 0x0f, 0x01}, 6},
		{"an inner message cut short", {4, 0, 0, 0, 0x0a, 0x02, 0x11, 0x01}, 8},
		{"bytes behind the frame", {2, 0, 0, 0, 0x22, 0x00, 0x00}, 7},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		Pyheap__FromDaemon *from = NULL;
		Pyheap__ToDaemon *to = NULL;

		ck_assert_msg(frame_unpack_to_daemon(rows[i].bytes, rows[i].n, &to) == -EBADMSG, "%s", rows[i].what);
		ck_assert_ptr_null(to);
		ck_assert_msg(
			frame_unpack_from_daemon(rows[i].bytes, rows[i].n, &from) == -EBADMSG, "%s", rows[i].what);
		ck_assert_ptr_null(from);
	}
}
END_TEST

/* The bytes that the manual's Python client writes by hand are the ones that
 * are understood. */
START_TEST(unpacks_known_bytes)
{
	static const uint8_t hello[] = {
		20, 0, 0, 0, 0x0a, 18, 0x08, 1, 0x11, 8, 7, 6, 5, 4, 3, 2, 1, 0x1a, 3, 'a', 'b', 'c', 0x20, 7};
	static const uint8_t goodbye[] = {2, 0, 0, 0, 0x22, 0};
	Pyheap__ToDaemon *message;

	ck_assert_int_eq(frame_unpack_to_daemon(hello, sizeof(hello), &message), 0);
	ck_assert_int_eq(message->body_case, PYHEAP__TO_DAEMON__BODY_HELLO);
	ck_assert_uint_eq(message->hello->protocol, 1);
	ck_assert(message->hello->layout_hash == UINT64_C(0x0102030405060708));
	ck_assert_str_eq(message->hello->program, "abc");
	ck_assert_uint_eq(message->hello->resume_session, 7);
	ck_assert_uint_eq(message->hello->resume_token.len, 0);
	pyheap__to_daemon__free_unpacked(message, NULL);

	ck_assert_int_eq(frame_unpack_to_daemon(goodbye, sizeof(goodbye), &message), 0);
	ck_assert_int_eq(message->body_case, PYHEAP__TO_DAEMON__BODY_GOODBYE);
	pyheap__to_daemon__free_unpacked(message, NULL);
}
END_TEST

/* The stream */

START_TEST(receives_byte_by_byte)
{
	struct frame_buffer buffer = {0};
	Pyheap__FromDaemon *message;
	uint8_t *frame;
	size_t size;
	int fds[2];

	make_pair(fds);
	error_of_size(300, &frame, &size);
	for (size_t i = 0; i < size; i++) {
		ck_assert_int_eq(frame_receive(fds[1], &buffer, 0, &message), -ETIMEDOUT);
		ck_assert_int_eq(frame_write(fds[0], frame + i, 1, NULL, 0), 1);
	}
	ck_assert_int_eq(frame_receive(fds[1], &buffer, 0, &message), 0);
	ck_assert_uint_eq(pyheap__from_daemon__get_packed_size(message), 300);
	pyheap__from_daemon__free_unpacked(message, NULL);
	free(frame);
	frame_buffer_deinit(&buffer);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

START_TEST(receives_many_at_once)
{
	enum { N = 200 };
	struct frame_buffer buffer = {0};
	uint8_t *all = NULL;
	size_t n = 0;
	int fds[2];

	make_pair(fds);
	for (int i = 0; i < N; i++) {
		Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
		Pyheap__Error error = PYHEAP__ERROR__INIT;
		uint8_t *frame;
		size_t size;

		error.code = i;
		message.body_case = PYHEAP__FROM_DAEMON__BODY_ERROR;
		message.error = &error;
		ck_assert_int_eq(frame_pack(&message.base, &frame, &size), 0);
		all = realloc(all, n + size);
		memcpy(all + n, frame, size);
		n += size;
		free(frame);
	}
	ck_assert_int_eq(write(fds[0], all, n), (ssize_t)n);
	for (int i = 0; i < N; i++)
		expect_error(fds[1], &buffer, i);
	free(all);
	frame_buffer_deinit(&buffer);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

/* The end of the stream after any number of bytes, also none. */
START_TEST(end_of_stream_is_a_lost_connection)
{
	uint8_t *frame;
	size_t size;

	error_of_size(20, &frame, &size);
	for (size_t n = 0; n < size; n++) {
		struct frame_buffer buffer = {0};
		Pyheap__FromDaemon *message;
		int fds[2];

		make_pair(fds);
		ck_assert_int_eq(write(fds[0], frame, n), (ssize_t)n);
		close(fds[0]);
		ck_assert_int_eq(frame_receive(fds[1], &buffer, LONG_MS, &message), -ECONNRESET);
		frame_buffer_deinit(&buffer);
		close(fds[1]);
	}
	free(frame);
}
END_TEST

START_TEST(refuses_what_is_too_long_or_malformed)
{
	static const uint8_t too_long[] = {1, 0, 1, 0};
	static const uint8_t malformed[] = {2, 0, 0, 0, 0x0f, 0x01};
	struct frame_buffer buffer = {0};
	Pyheap__FromDaemon *message;
	int fds[2];

	make_pair(fds);
	ck_assert_int_eq(write(fds[0], malformed, sizeof(malformed)), sizeof(malformed));
	ck_assert_int_eq(frame_receive(fds[1], &buffer, LONG_MS, &message), -EBADMSG);
	ck_assert_int_eq(write(fds[0], too_long, sizeof(too_long)), sizeof(too_long));
	ck_assert_int_eq(frame_receive(fds[1], &buffer, LONG_MS, &message), -EMSGSIZE);
	frame_buffer_deinit(&buffer);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

struct sending {
	int fd;
	int result;
};

static void *send_longest(void *userdata)
{
	struct sending *sending = userdata;
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Error error = PYHEAP__ERROR__INIT;
	char *text = calloc(1, FRAME_MAX);

	memset(text, 'y', 60000);
	error.text = text;
	message.body_case = PYHEAP__FROM_DAEMON__BODY_ERROR;
	message.error = &error;
	for (int i = 0; i < 50 && sending->result == 0; i++)
		sending->result = frame_send(sending->fd, &message.base, NULL, 0, LONG_MS);
	free(text);
	return NULL;
}

/* More than the socket has room for: the sender waits and goes on. */
START_TEST(sends_more_than_there_is_room_for)
{
	struct frame_buffer buffer = {0};
	struct sending sending = {0};
	pthread_t thread;
	int fds[2];

	make_pair(fds);
	sending.fd = fds[0];
	ck_assert_int_eq(pthread_create(&thread, NULL, send_longest, &sending), 0);
	for (int i = 0; i < 50; i++) {
		Pyheap__FromDaemon *message;

		ck_assert_int_eq(frame_receive(fds[1], &buffer, LONG_MS, &message), 0);
		ck_assert_uint_eq(strlen(message->error->text), 60000);
		pyheap__from_daemon__free_unpacked(message, NULL);
	}
	pthread_join(thread, NULL);
	ck_assert_int_eq(sending.result, 0);
	frame_buffer_deinit(&buffer);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

START_TEST(send_gives_up_when_its_time_is_over)
{
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Goodbye goodbye = PYHEAP__GOODBYE__INIT;
	int fds[2], r;

	make_pair(fds);
	message.body_case = PYHEAP__FROM_DAEMON__BODY_GOODBYE;
	message.goodbye = &goodbye;
	do {
		r = frame_send(fds[0], &message.base, NULL, 0, 1);
	} while (r == 0);
	ck_assert_int_eq(r, -ETIMEDOUT);
	close(fds[1]);
	ck_assert_int_eq(frame_send(fds[0], &message.base, NULL, 0, LONG_MS), -EPIPE); /* and no SIGPIPE */
	close(fds[0]);
}
END_TEST

/* Descriptors */

static int n_open_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static bool same_file(int a, int b)
{
	struct stat sa, sb;

	return fstat(a, &sa) == 0 && fstat(b, &sb) == 0 && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

static void make_files(int *ret, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		ret[i] = memfd_create("test_frame", MFD_CLOEXEC);
		ck_assert_int_ge(ret[i], 0);
	}
}

static void block_all(const int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
}

START_TEST(descriptors_come_with_their_message)
{
	struct frame_buffer buffer = {0};
	int fds[2], files[4], n_before = n_open_fds();

	make_pair(fds);
	make_files(files, 4);
	send_error(fds[0], 1, NULL, 0);
	send_error(fds[0], 2, files, 2);
	send_error(fds[0], 3, NULL, 0);
	send_error(fds[0], 4, files + 2, 2);
	expect_error(fds[1], &buffer, 1);
	ck_assert_uint_eq(buffer.n_fds, 0);
	expect_error(fds[1], &buffer, 2);
	ck_assert_uint_eq(buffer.n_fds, 2);
	expect_error(fds[1], &buffer, 3);
	ck_assert_uint_eq(buffer.n_fds, 2);
	expect_error(fds[1], &buffer, 4);
	ck_assert_uint_eq(buffer.n_fds, 4);
	for (size_t i = 0; i < 4; i++) {
		ck_assert(same_file(buffer.fds[i], files[i]));
		ck_assert_int_eq(fcntl(buffer.fds[i], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	}
	frame_buffer_deinit(&buffer);
	block_all(files, 4);
	block_all(fds, 2);
	ck_assert_int_eq(n_open_fds(), n_before);
}
END_TEST

START_TEST(descriptors_come_with_a_message_in_pieces)
{
	struct frame_buffer buffer = {0};
	int fds[2], files[2], n_before = n_open_fds();
	Pyheap__FromDaemon *message;
	uint8_t *frame;
	size_t size;

	make_pair(fds);
	make_files(files, 2);
	error_of_size(10, &frame, &size);
	ck_assert_int_eq(frame_write(fds[0], frame, 1, files, 2), 1);
	ck_assert_int_eq(frame_receive(fds[1], &buffer, 0, &message), -ETIMEDOUT);
	ck_assert_int_eq(frame_write(fds[0], frame + 1, size - 1, NULL, 0), (ssize_t)size - 1);
	ck_assert_int_eq(frame_receive(fds[1], &buffer, LONG_MS, &message), 0);
	ck_assert_uint_eq(buffer.n_fds, 2);
	ck_assert(same_file(buffer.fds[0], files[0]) && same_file(buffer.fds[1], files[1]));
	pyheap__from_daemon__free_unpacked(message, NULL);
	free(frame);
	frame_buffer_deinit(&buffer);
	block_all(files, 2);
	block_all(fds, 2);
	ck_assert_int_eq(n_open_fds(), n_before);
}
END_TEST

START_TEST(too_many_descriptors_are_refused_and_closed)
{
	struct frame_buffer buffer = {0};
	int fds[2], files[4], n_before = n_open_fds();
	Pyheap__FromDaemon *message;

	make_pair(fds);
	make_files(files, 4);
	send_error(fds[0], 1, files, 4);
	send_error(fds[0], 2, files, 1);
	expect_error(fds[1], &buffer, 1);
	ck_assert_int_eq(frame_receive(fds[1], &buffer, LONG_MS, &message), -EBADMSG);
	ck_assert_int_eq(frame_write(fds[0], (const uint8_t *)"x", 1, files, 5), -EINVAL);
	frame_buffer_deinit(&buffer);
	block_all(files, 4);
	block_all(fds, 2);
	ck_assert_int_eq(n_open_fds(), n_before);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("frame");
	TCase *lengths = tcase_create("lengths"), *stream = tcase_create("stream"), *fds = tcase_create("descriptors");
	SRunner *runner;
	int n_failed;

	tcase_add_loop_test(lengths, packs_every_border, 0, sizeof(borders) / sizeof(borders[0]));
	tcase_add_test(lengths, refuses_to_pack_more_than_the_longest);
	tcase_add_test(lengths, peeks_at_every_border);
	tcase_add_test(lengths, refuses_malformed);
	tcase_add_test(lengths, unpacks_known_bytes);
	tcase_add_test(stream, receives_byte_by_byte);
	tcase_add_test(stream, receives_many_at_once);
	tcase_add_test(stream, end_of_stream_is_a_lost_connection);
	tcase_add_test(stream, refuses_what_is_too_long_or_malformed);
	tcase_add_test(stream, sends_more_than_there_is_room_for);
	tcase_add_test(stream, send_gives_up_when_its_time_is_over);
	tcase_add_test(fds, descriptors_come_with_their_message);
	tcase_add_test(fds, descriptors_come_with_a_message_in_pieces);
	tcase_add_test(fds, too_many_descriptors_are_refused_and_closed);
	suite_add_tcase(suite, lengths);
	suite_add_tcase(suite, stream);
	suite_add_tcase(suite, fds);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	n_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
