/* SPDX-License-Identifier: MIT */
#pragma once

/* The end of another process, with which the daemon ends, too (--until): see until.c. */

#include <event2/event.h>
#include <sys/types.h>

struct until {
	int pidfd; /* -1: none */
	struct event *event;
	void (*ended)(void *owner);
	void *owner;
};

/*
 * Call ended() in a turn of the loop once the process has ended; also where it has already. -ENOMEM, or what the kernel
 * says of the pid.
 */
int until_start(struct until *until, struct event_base *base, pid_t pid, void (*ended)(void *owner), void *owner);

void until_stop(struct until *until);
