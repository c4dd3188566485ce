/* SPDX-License-Identifier: MIT */
#pragma once

/* The second process of a work, pinned to another CPU; the two say 64-bit words to each other. See partner.c. */

#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct partner {
	pid_t pid;
	int fd; /* to say words to it and hear its own */
};

/*
 * Fork a process that calls serve(userdata, fd) and ends. It inherits the mappings but no descriptor save standard ones
 * and fd. Its serve() should return when it hears -ECONNRESET: the measuring process is done with it.
 */
int partner_start(struct partner *ret, int (*serve)(void *userdata, int fd), void *userdata);

/* Let it end; kill it after WATCH_DOG_MS. -ECHILD when its serve() failed or it died. Does nothing where pid is 0. */
int partner_stop(struct partner *partner);

/* Both sides. -EPIPE or -ECONNRESET the other one is gone, -ETIMEDOUT it said nothing for WATCH_DOG_MS. */
int partner_say(int fd, uint64_t word);
int partner_hear(int fd, uint64_t *ret);

/* As partner_hear(), but without an end: for the next order, which may be long in coming. */
int partner_wait(int fd, uint64_t *ret);

#ifdef __cplusplus
}
#endif
