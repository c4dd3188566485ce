/* SPDX-License-Identifier: MIT */
#pragma once

/* A pyheapd of the benchmark's own. See server.c. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct server {
	pid_t pid;
	char folder[64];
	char socket[80];
	int log; /* a file without a name, with what it says; -1: none */
	char name[32];
};

/*
 * Start `program` with a fresh name, folder and socket and a heap of `size` bytes; wait until it admits sessions. Its
 * socket is $PYHEAP_SOCKET from then on, so that pyheap_open(.., NULL) finds it. Call server_stop() even when it
 * fails. -ESRCH it ended at once.
 */
int server_start(struct server *ret, const char *program, uint64_t size);

/*
 * End it (SIGTERM, or SIGKILL after WATCH_DOG_MS) and remove what is left of it. -ECHILD it did not end cleanly. Its
 * log goes to stderr before, where that is so or `show_log` asks for it.
 */
int server_stop(struct server *server, bool show_log);
