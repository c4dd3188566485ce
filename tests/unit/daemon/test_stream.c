// SPDX-License-Identifier: MIT
/*
 * Frames over a stream socket: in whatever pieces they come, and as long as the peer reads
 */
#include "tests/unit/daemon/box.h"

#include "daemon/stream.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct stream stream;
static int peer;

static void set_up(void)
{
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	stream_init(&stream, fds[0]);
	peer = fds[1];
}

static void tear_down(void)
{
	stream_deinit(&stream);
	stream_deinit(&stream); /* nothing */
	close(peer);
}

/* The frame of a request for n_runs runs; the caller frees it. */
static uint8_t *frame_of(uint32_t n_runs, size_t *ret_size)
{
	Pyheap__ToDaemon message = PYHEAP__TO_DAEMON__INIT;
	Pyheap__GrantRequest body = PYHEAP__GRANT_REQUEST__INIT;
	uint8_t *bytes;

	body.run_length = 1;
	body.n_runs = n_runs;
	message.body_case = PYHEAP__TO_DAEMON__BODY_GRANT_REQUEST;
	message.grant_request = &body;
	ck_assert_int_eq(frame_pack(&message.base, &bytes, ret_size), 0);
	return bytes;
}

static void expect_request(uint32_t n_runs)
{
	Pyheap__ToDaemon *message;

	ck_assert_int_eq(stream_next(&stream, &message), 1);
	ck_assert_int_eq(message->body_case, PYHEAP__TO_DAEMON__BODY_GRANT_REQUEST);
	ck_assert_uint_eq(message->grant_request->n_runs, n_runs);
	pyheap__to_daemon__free_unpacked(message, NULL);
}

static void expect_none(void)
{
	Pyheap__ToDaemon *message;

	ck_assert_int_eq(stream_next(&stream, &message), 0);
}

static int send_error(const char *text, const int *fds, size_t n_fds)
{
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Error body = PYHEAP__ERROR__INIT;

	body.code = 1;
	body.text = (char *)text;
	message.body_case = PYHEAP__FROM_DAEMON__BODY_ERROR;
	message.error = &body;
	return stream_add(&stream, &message, fds, n_fds);
}

START_TEST(byte_by_byte)
{
	size_t n;
	uint8_t *bytes = frame_of(7, &n);

	expect_none();
	ck_assert_int_eq(stream_read(&stream), -EAGAIN);
	for (size_t i = 0; i < n; i++) {
		expect_none();
		ck_assert_int_eq(write(peer, bytes + i, 1), 1);
		ck_assert_int_eq(stream_read(&stream), 0);
		ck_assert(stream_has_input(&stream));
	}
	expect_request(7);
	expect_none();
	ck_assert(!stream_has_input(&stream));
	free(bytes);
}
END_TEST

/* Many in one read, the last one cut; and so on until all are there. */
START_TEST(many_at_once)
{
	uint32_t n_sent = 0, n_taken = 0;
	size_t n_bytes = 0;
	uint8_t all[8192];
	Pyheap__ToDaemon *message;

	while (n_bytes + 32 < sizeof(all)) {
		size_t n;
		uint8_t *bytes = frame_of(++n_sent, &n);

		memcpy(all + n_bytes, bytes, n);
		n_bytes += n;
		free(bytes);
	}
	ck_assert_int_eq(write(peer, all, n_bytes), (ssize_t)n_bytes);
	while (stream_read(&stream) == 0)
		while (stream_next(&stream, &message) == 1) {
			ck_assert_uint_eq(message->grant_request->n_runs, ++n_taken);
			pyheap__to_daemon__free_unpacked(message, NULL);
		}
	ck_assert_uint_eq(n_taken, n_sent);
	ck_assert(!stream_has_input(&stream));
}
END_TEST

/* A frame as long as a frame can be, and a byte longer. */
START_TEST(the_longest)
{
	static uint8_t frame[FRAME_PREFIX + FRAME_MAX];
	Pyheap__ToDaemon *message;
	size_t n, n_sent = 0;
	uint8_t *bytes = frame_of(3, &n);
	uint32_t length = FRAME_MAX;

	/* Behind the message a field that nobody knows: number 15, of bytes, its length in three bytes. */
	memcpy(frame, bytes, n);
	memcpy(frame, &length, sizeof(length));
	length = FRAME_MAX - (uint32_t)(n - FRAME_PREFIX) - 4;
	frame[n] = 15 << 3 | 2;
	frame[n + 1] = (uint8_t)(length | 0x80);
	frame[n + 2] = (uint8_t)(length >> 7 | 0x80);
	frame[n + 3] = (uint8_t)(length >> 14);
	free(bytes);
	while (n_sent < sizeof(frame)) {
		ssize_t m = write(peer, frame + n_sent, sizeof(frame) - n_sent);

		if (m > 0)
			n_sent += (size_t)m;
		ck_assert_int_eq(stream_read(&stream), 0);
		if (n_sent < sizeof(frame))
			expect_none();
	}
	while (stream_read(&stream) == 0)
		;
	expect_request(3);
	length = FRAME_MAX + 1;
	ck_assert_int_eq(write(peer, &length, sizeof(length)), sizeof(length));
	ck_assert_int_eq(stream_read(&stream), 0);
	ck_assert_int_eq(stream_next(&stream, &message), -EMSGSIZE);
}
END_TEST

START_TEST(malformed)
{
	static const uint8_t frame[] = {2, 0, 0, 0, 0xff, 0xff};
	Pyheap__ToDaemon *message;

	ck_assert_int_eq(write(peer, frame, sizeof(frame)), sizeof(frame));
	ck_assert_int_eq(stream_read(&stream), 0);
	ck_assert_int_eq(stream_next(&stream, &message), -EBADMSG);
}
END_TEST

START_TEST(ended_by_the_peer)
{
	size_t n;
	uint8_t *bytes = frame_of(1, &n);

	ck_assert_int_eq(write(peer, bytes, n - 1), (ssize_t)n - 1);
	ck_assert_int_eq(shutdown(peer, SHUT_WR), 0);
	ck_assert_int_eq(stream_read(&stream), 0);
	expect_none();
	ck_assert_int_eq(stream_read(&stream), -ECONNRESET);
	ck_assert(stream_has_input(&stream)); /* in the middle of a frame */
	free(bytes);
}
END_TEST

START_TEST(discarded)
{
	static const uint8_t bytes[10000];

	ck_assert_int_eq(stream_discard(&stream), 0); /* nothing is there */
	ck_assert_int_eq(write(peer, bytes, sizeof(bytes)), sizeof(bytes));
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(stream_discard(&stream), 0);
	ck_assert_int_eq(stream_read(&stream), -EAGAIN);
	close(peer);
	ck_assert_int_eq(stream_discard(&stream), -ECONNRESET);
}
END_TEST

START_TEST(sent_with_descriptors)
{
	const int fds[] = {STDIN_FILENO, STDOUT_FILENO};
	struct frame_buffer buffer = {0};
	Pyheap__FromDaemon *message;

	ck_assert(!stream_has_output(&stream));
	ck_assert_int_eq(stream_flush(&stream), 0);
	ck_assert_int_eq(send_error("first", fds, 2), 0);
	ck_assert_int_eq(send_error("second", NULL, 0), 0);
	ck_assert(stream_has_output(&stream));
	ck_assert_int_eq(stream_flush(&stream), 0);
	ck_assert(!stream_has_output(&stream));
	ck_assert_int_eq(frame_receive(peer, &buffer, 0, &message), 0);
	ck_assert_str_eq(message->error->text, "first");
	ck_assert_uint_eq(buffer.n_fds, 2);
	pyheap__from_daemon__free_unpacked(message, NULL);
	ck_assert_int_eq(frame_receive(peer, &buffer, 0, &message), 0);
	ck_assert_str_eq(message->error->text, "second");
	ck_assert_uint_eq(buffer.n_fds, 2); /* no more of them */
	pyheap__from_daemon__free_unpacked(message, NULL);
	frame_buffer_deinit(&buffer);
}
END_TEST

/* What a peer does not read is kept, and comes in the right order once it reads; but there is a limit. */
START_TEST(a_peer_that_does_not_read)
{
	static char text[1000];
	struct frame_buffer buffer = {0};
	Pyheap__FromDaemon *message;
	int n_sent = 0, n_received = 0, r;

	do {
		memset(text, 'a' + n_sent % 26, sizeof(text) - 1);
		r = send_error(text, NULL, 0);
		if (r == 0)
			n_sent++;
		if (r == 0 && stream_flush(&stream) < 0)
			ck_assert_int_eq(stream_flush(&stream), -EAGAIN);
	} while (r == 0);
	ck_assert_int_eq(r, -ENOBUFS);
	ck_assert_uint_le(stream.n_out - stream.n_sent, STREAM_OUT_MAX);
	while (n_received < n_sent) {
		stream_flush(&stream);
		while (frame_receive(peer, &buffer, 0, &message) == 0) {
			ck_assert_int_eq(message->error->text[998], 'a' + n_received++ % 26);
			pyheap__from_daemon__free_unpacked(message, NULL);
		}
	}
	ck_assert(!stream_has_output(&stream));
	frame_buffer_deinit(&buffer);
}
END_TEST

START_TEST(broken)
{
	ck_assert_int_eq(send_error("nobody reads it", NULL, 0), 0);
	close(peer);
	ck_assert_int_eq(stream_flush(&stream), -EPIPE);
	stream_drop_output(&stream);
	ck_assert_int_eq(stream_flush(&stream), 0);
	ck_assert_int_eq(stream_read(&stream), -ECONNRESET);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("daemon stream");
	TCase *t = tcase_create("stream");

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, byte_by_byte);
	tcase_add_test(t, many_at_once);
	tcase_add_test(t, the_longest);
	tcase_add_test(t, malformed);
	tcase_add_test(t, ended_by_the_peer);
	tcase_add_test(t, discarded);
	tcase_add_test(t, sent_with_descriptors);
	tcase_add_test(t, a_peer_that_does_not_read);
	tcase_add_test(t, broken);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return box_main(suite);
}
