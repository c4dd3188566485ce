// SPDX-License-Identifier: MIT
/*
 * Frames over a stream socket that never blocks
 *
 * Bytes are read as they come and cut into frames; each whole frame is one message. Descriptors that a peer sends are
 * never received: a plain read() makes the kernel drop them.
 *
 * What the peer does not read is kept for it, up to STREAM_OUT_MAX bytes.
 */
#include "daemon/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IN_MIN ((size_t)1024)

void stream_init(struct stream *stream, int fd)
{
	*stream = (struct stream){.fd = fd};
}

void stream_deinit(struct stream *stream)
{
	if (stream->fd >= 0)
		close(stream->fd);
	free(stream->in);
	free(stream->out);
	*stream = (struct stream){.fd = -1};
}

/* ---- receiving ------------------------------------------------------------------------------------------------- */

/* Room for the rest of the frame that has begun; it is not longer than a frame can be, since stream_next() looked. */
static int reserve_input(struct stream *stream)
{
	size_t n = stream->n_in_allocated;
	uint8_t *in;

	if (stream->n_in_taken) {
		stream->n_in -= stream->n_in_taken;
		memmove(stream->in, stream->in + stream->n_in_taken, stream->n_in);
		stream->n_in_taken = 0;
	}
	if (stream->n_in < n)
		return 0;
	n = n ? 2 * n : IN_MIN;
	if (n > FRAME_PREFIX + FRAME_MAX)
		n = FRAME_PREFIX + FRAME_MAX;
	in = realloc(stream->in, n);
	if (!in)
		return -ENOMEM;
	stream->in = in;
	stream->n_in_allocated = n;
	return 0;
}

int stream_read(struct stream *stream)
{
	ssize_t n;
	int r = reserve_input(stream);

	if (r < 0)
		return r;
	n = read(stream->fd, stream->in + stream->n_in, stream->n_in_allocated - stream->n_in);
	if (n < 0)
		return -errno;
	if (n == 0)
		return -ECONNRESET;
	stream->n_in += (size_t)n;
	return 0;
}

int stream_next(struct stream *stream, Pyheap__ToDaemon **ret)
{
	ssize_t n;

	if (!stream_has_input(stream))
		return 0; /* there may be no buffer yet */
	n = frame_peek(stream->in + stream->n_in_taken, stream->n_in - stream->n_in_taken);
	if (n <= 0)
		return (int)n;
	if (frame_unpack_to_daemon(stream->in + stream->n_in_taken, (size_t)n, ret) < 0)
		return -EBADMSG;
	stream->n_in_taken += (size_t)n;
	return 1;
}

bool stream_has_input(const struct stream *stream)
{
	return stream->n_in > stream->n_in_taken;
}

int stream_discard(struct stream *stream)
{
	uint8_t bytes[4096];
	ssize_t n = read(stream->fd, bytes, sizeof(bytes));

	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)) ? 0 : -ECONNRESET;
}

/* ---- sending --------------------------------------------------------------------------------------------------- */

static int append(struct stream *stream, const uint8_t *bytes, size_t n)
{
	if (stream->n_sent) {
		memmove(stream->out, stream->out + stream->n_sent, stream->n_out - stream->n_sent);
		stream->n_out -= stream->n_sent;
		stream->n_sent = 0;
	}
	if (stream->n_out + n > STREAM_OUT_MAX)
		return -ENOBUFS;
	if (stream->n_out + n > stream->n_out_allocated) {
		uint8_t *out = realloc(stream->out, stream->n_out + n);

		if (!out)
			return -ENOMEM;
		stream->out = out;
		stream->n_out_allocated = stream->n_out + n;
	}
	memcpy(stream->out + stream->n_out, bytes, n);
	stream->n_out += n;
	return 0;
}

int stream_add(struct stream *stream, const Pyheap__FromDaemon *message, const int *fds, size_t n_fds)
{
	uint8_t *bytes;
	size_t n;
	int r = frame_pack(&message->base, &bytes, &n);

	if (r < 0)
		return r;
	r = append(stream, bytes, n);
	free(bytes);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n_fds; i++) /* only Welcome has any, and nothing is sent before it */
		stream->out_fds[i] = fds[i];
	stream->n_out_fds += n_fds;
	return 0;
}

int stream_flush(struct stream *stream)
{
	while (stream_has_output(stream)) {
		ssize_t n = frame_write(stream->fd, stream->out + stream->n_sent, stream->n_out - stream->n_sent,
			stream->out_fds, stream->n_out_fds);

		if (n < 0)
			return (int)n;
		stream->n_sent += (size_t)n;
		stream->n_out_fds = 0;
	}
	stream_drop_output(stream);
	return 0;
}

bool stream_has_output(const struct stream *stream)
{
	return stream->n_out > stream->n_sent;
}

void stream_drop_output(struct stream *stream)
{
	stream->n_out = stream->n_sent = 0;
	stream->n_out_fds = 0;
}
