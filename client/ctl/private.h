/* SPDX-License-Identifier: MIT */
#pragma once

/* A pyheapd of one command's own: see private.c. */

#include <stdbool.h>
#include <sys/types.h>

struct private_daemon {
	const char *size; /* as --size; NULL: pyheapd's default */
	pid_t until;      /* the daemon ends with this process */
	char name[49];
	char socket[108];
	char until_text[16];
	char notify[32];         /* $NOTIFY_SOCKET of the daemon */
	int notify_fd;           /* readable when a daemon may have something to say */
	pid_t pid;               /* 0: none runs */
	int pidfd;               /* readable when the daemon has ended; -1: none */
	bool is_ready;           /* it serves */
	bool is_left;            /* a daemon was killed: its heap is there until another one ends well */
	unsigned int n_failures; /* daemons in a row that ended before they served */
};

/* Choose names, and start the daemon. Negative errno. */
int private_init(struct private_daemon *daemon, const char *size, pid_t until);

/* The daemon is not there, or not any more: start it, which adopts the heap. Negative errno. */
int private_start(struct private_daemon *daemon);

/* notify_fd is readable: sets is_ready once the daemon serves. */
void private_heard(struct private_daemon *daemon);

/* pidfd is readable: the daemon has ended. Returns its status as waitpid() has it. */
int private_reap(struct private_daemon *daemon);

/* End the daemon and remove the heap, whatever has become of it. */
void private_end(struct private_daemon *daemon);
