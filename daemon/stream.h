/* SPDX-License-Identifier: MIT */
#pragma once

/* A stream socket that carries frames, without an event loop: see stream.c. */

#include "proto/frame.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STREAM_OUT_MAX ((size_t)256 << 10) /* bytes that wait for a peer which does not read */

struct stream {
	int fd; /* owned; non-blocking */
	uint8_t *in;
	size_t n_in;       /* bytes received */
	size_t n_in_taken; /* of them, those whose messages were taken */
	size_t n_in_allocated;
	uint8_t *out;
	size_t n_out;  /* bytes to be sent */
	size_t n_sent; /* of them, those that are gone */
	size_t n_out_allocated;
	int out_fds[2]; /* to go with the next byte; not owned */
	size_t n_out_fds;
};

void stream_init(struct stream *stream, int fd);
void stream_deinit(struct stream *stream);

/* Read once. 0 there is more in the buffer, -EAGAIN, -EINTR, -ECONNRESET the peer has ended it, -ENOMEM, or what read()
 * says. */
int stream_read(struct stream *stream);

/* The next whole message: 1 and *ret, which the caller frees; 0 there is none yet; -EMSGSIZE, -EBADMSG. */
int stream_next(struct stream *stream, Pyheap__ToDaemon **ret);

/* Were bytes received of which no message was taken? */
bool stream_has_input(const struct stream *stream);

/* Read once and throw it away. 0 more may come, -ECONNRESET nothing will. */
int stream_discard(struct stream *stream);

/* Put a message behind those that wait. The n_fds descriptors stay open until it is gone. -ENOBUFS, -ENOMEM. */
int stream_add(struct stream *stream, const Pyheap__FromDaemon *message, const int *fds, size_t n_fds);

/* Send what waits. 0 all of it is gone, -EAGAIN there is no room now, or what frame_write() says. */
int stream_flush(struct stream *stream);

/* Does anything wait to be sent? */
bool stream_has_output(const struct stream *stream);

/* Forget what waits to be sent. */
void stream_drop_output(struct stream *stream);
