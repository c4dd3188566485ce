/* SPDX-License-Identifier: MIT */
#pragma once

/* Framing and descriptor passing: see frame.c. Knows nothing of heaps. */

#include "pyheap.pb-c.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PROTO_VERSION 1U
#define FRAME_PREFIX  4U     /* bytes of little-endian length before each message */
#define FRAME_MAX     65536U /* longest message, bytes, without its prefix */

/* The message with its prefix in a fresh buffer, which the caller frees. -EMSGSIZE, -ENOMEM. */
int frame_pack(const ProtobufCMessage *message, uint8_t **ret, size_t *ret_size);

/*
 * Look at the n bytes received so far: 0 the frame is not whole yet, else the size of the whole frame with its prefix
 * (the message is what follows the prefix); -EMSGSIZE its length is over FRAME_MAX.
 */
ssize_t frame_peek(const uint8_t *bytes, size_t n);

/*
 * Unpack the message of a whole frame, whose size with its prefix frame_peek() gave. -EBADMSG it is malformed, has no
 * body, or is not exactly one frame. *ret is freed with pyheap__{to,from}_daemon__free_unpacked().
 */
int frame_unpack_to_daemon(const uint8_t *frame, size_t size, Pyheap__ToDaemon **ret);
int frame_unpack_from_daemon(const uint8_t *frame, size_t size, Pyheap__FromDaemon **ret);

/*
 * Write one message whole to a stream socket (blocking or not), with n_fds descriptors on its first byte. Waits until
 * timeout_ms (-1: for ever) for room. Never raises SIGPIPE. -ETIMEDOUT, -EPIPE, -ECONNRESET, or what sendmsg says; then
 * a part of the message may be gone, and the stream is lost: close it.
 */
int frame_send(int fd, const ProtobufCMessage *message, const int *fds, size_t n_fds, int timeout_ms);

/*
 * One sendmsg that waits for nobody: the number of bytes that went, with n_fds (at most 4) descriptors on the first of
 * them. -EAGAIN there is no room now; else as frame_send().
 */
ssize_t frame_write(int fd, const uint8_t *bytes, size_t n, const int *fds, size_t n_fds);

/* Process-local: bytes and descriptors received and not used yet. Zero-initialised is empty. */
struct frame_buffer {
	uint8_t *bytes;
	size_t n, n_allocated;
	int fds[4];
	size_t n_fds;
};

/*
 * Receive one message from the daemon. Descriptors that came with it are in buffer->fds, close-on-exec; the caller
 * takes them (and sets n_fds to 0) or leaves them to frame_buffer_deinit(). -ETIMEDOUT: what came so far stays in the
 * buffer, and the next call goes on from there. -ECONNRESET (end of file), -EBADMSG (also: more descriptors than the
 * buffer has room for), -EMSGSIZE, or what recvmsg says: the stream is lost, close it.
 */
int frame_receive(int fd, struct frame_buffer *buffer, int timeout_ms, Pyheap__FromDaemon **ret);

/* Free the bytes, close the descriptors. */
void frame_buffer_deinit(struct frame_buffer *buffer);
