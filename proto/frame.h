/* SPDX-License-Identifier: MIT */
#pragma once

/* Framing and descriptor passing. See frame.c. Knows nothing of heaps. */

#include "pyheap.pb-c.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PROTO_VERSION 1U
#define FRAME_PREFIX  4U     /* bytes of little-endian length before each message */
#define FRAME_MAX     65536U /* longest message, bytes, without its prefix */

/* Write the message with its prefix into a fresh buffer, which the caller frees. -EMSGSIZE, -ENOMEM. */
int frame_pack(const ProtobufCMessage *message, uint8_t **ret, size_t *ret_size);

/*
 * Is there a whole frame in the n bytes received so far? 0: not yet. Else the size of the frame with its prefix; the
 * message follows the prefix. -EMSGSIZE: the message is longer than FRAME_MAX.
 */
ssize_t frame_peek(const uint8_t *bytes, size_t n);

/*
 * Unpack the message of a whole frame; `size` is what frame_peek() returned. -EBADMSG: it is malformed, has no body, or
 * is not exactly one frame. The caller frees *ret with pyheap__{to,from}_daemon__free_unpacked().
 */
int frame_unpack_to_daemon(const uint8_t *frame, size_t size, Pyheap__ToDaemon **ret);
int frame_unpack_from_daemon(const uint8_t *frame, size_t size, Pyheap__FromDaemon **ret);

/*
 * Send one whole message on a stream socket, blocking or not, with n_fds descriptors on its first byte. Waits up to
 * timeout_ms for room (-1: for ever). Never raises SIGPIPE. -ETIMEDOUT, -EPIPE, -ECONNRESET, or what sendmsg() says.
 * After an error a part of the message may have been sent: close the socket.
 */
int frame_send(int fd, const ProtobufCMessage *message, const int *fds, size_t n_fds, int timeout_ms);

/*
 * Send as many of the n bytes as there is room for, with n_fds descriptors (at most 4) on the first of them. Never
 * waits. Returns the number of bytes sent. -EAGAIN: there is no room now; other errors as frame_send().
 */
ssize_t frame_write(int fd, const uint8_t *bytes, size_t n, const int *fds, size_t n_fds);

/* Bytes and descriptors that were received and are not used yet. All zero is empty. */
struct frame_buffer {
	uint8_t *bytes;
	size_t n, n_allocated;
	int fds[4];
	size_t n_fds;
};

/*
 * Receive one message from the daemon; the caller frees *ret. Its descriptors are in buffer->fds, close-on-exec. The
 * caller takes them and sets n_fds to 0, or leaves them to frame_buffer_deinit().
 *
 * -ETIMEDOUT and -ENOMEM: what came so far stays in the buffer, and the next call goes on from there. After any other
 * error close the socket. -ECONNRESET: end of file; -EBADMSG: no message, or more descriptors than there is room for;
 * -EMSGSIZE; -EMFILE: the process may not open the descriptors that came; or what recvmsg() says.
 */
int frame_receive(int fd, struct frame_buffer *buffer, int timeout_ms, Pyheap__FromDaemon **ret);

/* Free the bytes, close the descriptors. */
void frame_buffer_deinit(struct frame_buffer *buffer);
