// SPDX-License-Identifier: MIT
/*
 * Framing and descriptor passing on a Unix stream socket
 *
 * A frame is a prefix of four bytes, the length of the message in little-endian order, and the message. A length over
 * FRAME_MAX is refused as soon as the prefix is there, so that no peer can make the other one allocate more.
 *
 * Descriptors travel on the first byte of the frame that they belong to. So the receiver never reads beyond the end of
 * the frame that it is at. The descriptors in a buffer then belong to the message in it, nothing is left over in the
 * process when a message is complete, and poll() on the socket tells whether there is another.
 *
 * Each system call is made without waiting (MSG_DONTWAIT), whatever the mode of the socket. The client waits between
 * them in frame_wait(), up to a deadline, so that a peer that sends a byte now and then cannot hold it for ever. The
 * daemon never waits: it uses frame_write() and frame_peek() on buffers of its own.
 */
#include "proto/frame.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define N_FDS_MAX (sizeof(((struct frame_buffer *)0)->fds) / sizeof(int))

union control_buffer {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(N_FDS_MAX * sizeof(int))];
};

static size_t prefix_get(const uint8_t *bytes)
{
	return (size_t)bytes[0] | (size_t)bytes[1] << 8 | (size_t)bytes[2] << 16 | (size_t)bytes[3] << 24;
}

static void prefix_put(uint8_t *bytes, size_t n)
{
	for (unsigned int i = 0; i < FRAME_PREFIX; i++)
		bytes[i] = (uint8_t)(n >> (8 * i));
}

int frame_pack(const ProtobufCMessage *message, uint8_t **ret, size_t *ret_size)
{
	size_t n = protobuf_c_message_get_packed_size(message);
	uint8_t *bytes;

	if (n > FRAME_MAX)
		return -EMSGSIZE;
	bytes = malloc(FRAME_PREFIX + n);
	if (!bytes)
		return -ENOMEM;
	prefix_put(bytes, n);
	protobuf_c_message_pack(message, bytes + FRAME_PREFIX);
	*ret = bytes;
	*ret_size = FRAME_PREFIX + n;
	return 0;
}

ssize_t frame_peek(const uint8_t *bytes, size_t n)
{
	size_t n_message;

	if (n < FRAME_PREFIX)
		return 0;
	n_message = prefix_get(bytes);
	if (n_message > FRAME_MAX)
		return -EMSGSIZE;
	return n - FRAME_PREFIX < n_message ? 0 : (ssize_t)(FRAME_PREFIX + n_message);
}

int frame_unpack_to_daemon(const uint8_t *frame, size_t size, Pyheap__ToDaemon **ret)
{
	Pyheap__ToDaemon *message;

	if (size < FRAME_PREFIX || frame_peek(frame, size) != (ssize_t)size)
		return -EBADMSG;
	message = pyheap__to_daemon__unpack(NULL, size - FRAME_PREFIX, frame + FRAME_PREFIX);
	if (!message)
		return -EBADMSG;
	if (message->body_case == PYHEAP__TO_DAEMON__BODY__NOT_SET) {
		pyheap__to_daemon__free_unpacked(message, NULL);
		return -EBADMSG;
	}
	*ret = message;
	return 0;
}

int frame_unpack_from_daemon(const uint8_t *frame, size_t size, Pyheap__FromDaemon **ret)
{
	Pyheap__FromDaemon *message;

	if (size < FRAME_PREFIX || frame_peek(frame, size) != (ssize_t)size)
		return -EBADMSG;
	message = pyheap__from_daemon__unpack(NULL, size - FRAME_PREFIX, frame + FRAME_PREFIX);
	if (!message)
		return -EBADMSG;
	if (message->body_case == PYHEAP__FROM_DAEMON__BODY__NOT_SET) {
		pyheap__from_daemon__free_unpacked(message, NULL);
		return -EBADMSG;
	}
	*ret = message;
	return 0;
}

/* Waiting */

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* The time at which a wait of timeout_ms ends that begins now. -1: never. */
static int64_t deadline_from(int timeout_ms)
{
	return timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
}

/* Wait until fd is ready for `events`, or broken: then the next call on it tells how. */
static int frame_wait(int fd, short events, int64_t deadline)
{
	struct pollfd pollfd = {.fd = fd, .events = events};
	int r;

	do {
		int64_t left = deadline < 0 ? -1 : deadline - now_ms();

		if (deadline >= 0 && left < 0)
			left = 0;
		r = poll(&pollfd, 1, left > INT_MAX ? INT_MAX : (int)left);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	return r ? 0 : -ETIMEDOUT;
}

/* Sending */

ssize_t frame_write(int fd, const uint8_t *bytes, size_t n, const int *fds, size_t n_fds)
{
	struct iovec iov = {.iov_base = (void *)bytes, .iov_len = n};
	struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
	union control_buffer control = {0};
	ssize_t r;

	if (n_fds > N_FDS_MAX)
		return -EINVAL;
	if (n_fds) {
		struct cmsghdr *cmsg;

		header.msg_control = control.bytes;
		header.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&header);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, n_fds * sizeof(int));
	}
	do {
		r = sendmsg(fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

int frame_send(int fd, const ProtobufCMessage *message, const int *fds, size_t n_fds, int timeout_ms)
{
	int64_t deadline = deadline_from(timeout_ms);
	uint8_t *bytes;
	size_t n, n_sent = 0;
	int r;

	r = frame_pack(message, &bytes, &n);
	if (r < 0)
		return r;
	while (n_sent < n) {
		ssize_t l = frame_write(fd, bytes + n_sent, n - n_sent, fds, n_sent ? 0 : n_fds);

		if (l >= 0) {
			n_sent += (size_t)l;
			continue;
		}
		r = l == -EAGAIN ? frame_wait(fd, POLLOUT, deadline) : (int)l;
		if (r < 0)
			break;
	}
	free(bytes);
	return r;
}

/* Receiving */

/*
 * Keep the descriptors that came with `header`. -EBADMSG: there were too many, and the rest was closed. -EMFILE: the
 * kernel left some out though there was room for them, as the process may open no more files.
 */
static int buffer_take_fds(struct frame_buffer *buffer, struct msghdr *header)
{
	size_t n_before = buffer->n_fds;
	int r = 0;

	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(header); cmsg; cmsg = CMSG_NXTHDR(header, cmsg)) {
		size_t n;

		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(fd));
			if (buffer->n_fds < N_FDS_MAX) {
				buffer->fds[buffer->n_fds++] = fd;
			} else {
				close(fd);
				r = -EBADMSG;
			}
		}
	}
	if (r == 0 && header->msg_flags & MSG_CTRUNC)
		r = buffer->n_fds - n_before < N_FDS_MAX ? -EMFILE : -EBADMSG;
	return r;
}

/* Receive up to n bytes. Returns their number. -EAGAIN: there are none now; -ECONNRESET: end of file. */
static ssize_t buffer_read(int fd, struct frame_buffer *buffer, size_t n)
{
	union control_buffer control;
	struct iovec iov = {.iov_base = buffer->bytes + buffer->n, .iov_len = n};
	struct msghdr header = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	ssize_t l;
	int r;

	do {
		l = recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (l < 0 && errno == EINTR);
	if (l < 0)
		return -errno;
	r = buffer_take_fds(buffer, &header);
	if (r < 0)
		return r;
	if (l == 0)
		return -ECONNRESET;
	buffer->n += (size_t)l;
	return l;
}

static int buffer_reserve(struct frame_buffer *buffer, size_t n)
{
	uint8_t *bytes;

	if (n <= buffer->n_allocated)
		return 0;
	bytes = realloc(buffer->bytes, n);
	if (!bytes)
		return -ENOMEM;
	buffer->bytes = bytes;
	buffer->n_allocated = n;
	return 0;
}

/* Receive until the buffer has n bytes. Bytes that an earlier call left there when its time was over count. */
static int buffer_fill(int fd, struct frame_buffer *buffer, size_t n, int64_t deadline)
{
	int r = buffer_reserve(buffer, n);

	while (r == 0 && buffer->n < n) {
		ssize_t l = buffer_read(fd, buffer, n - buffer->n);

		if (l == -EAGAIN)
			r = frame_wait(fd, POLLIN, deadline);
		else if (l < 0)
			r = (int)l;
	}
	return r;
}

int frame_receive(int fd, struct frame_buffer *buffer, int timeout_ms, Pyheap__FromDaemon **ret)
{
	int64_t deadline = deadline_from(timeout_ms);
	size_t n_message;
	int r;

	r = buffer_fill(fd, buffer, FRAME_PREFIX, deadline);
	if (r < 0)
		return r;
	n_message = prefix_get(buffer->bytes);
	if (n_message > FRAME_MAX)
		return -EMSGSIZE;
	r = buffer_fill(fd, buffer, FRAME_PREFIX + n_message, deadline);
	if (r < 0)
		return r;
	r = frame_unpack_from_daemon(buffer->bytes, buffer->n, ret);
	buffer->n = 0;
	return r;
}

void frame_buffer_deinit(struct frame_buffer *buffer)
{
	for (size_t i = 0; i < buffer->n_fds; i++)
		close(buffer->fds[i]);
	free(buffer->bytes);
	*buffer = (struct frame_buffer){0};
}
