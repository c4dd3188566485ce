/* SPDX-License-Identifier: MIT */
#pragma once

/* The socket that clients connect to: see listener.c. */

#include <stdbool.h>
#include <sys/types.h>

struct listener {
	int fd;       /* non-blocking; -1: none */
	int guard_fd; /* -1: systemd passed the socket */
	dev_t device; /* of the socket file that was bound here, with inode */
	ino_t inode;
	char path[112];
	char guard_path[120];
};

struct listener_options {
	const char *path;
	bool make_folder; /* the default path's, where it is missing */
	bool has_group;
	gid_t group; /* its members may connect, too */
};

/*
 * Take over the socket that systemd passed, or bind one. Says in the log what is wrong: -EADDRINUSE another daemon
 * serves it, -ENAMETOOLONG, -ENOENT the folder is missing, -EACCES it is not writable, and what the kernel says.
 */
int listener_open(struct listener *listener, const struct listener_options *options);

/* Stop listening; a socket file that was bound here is removed. */
void listener_close(struct listener *listener);

/* The next connection: a non-blocking descriptor, -EAGAIN there is none, or another negative errno. */
int listener_accept(const struct listener *listener);
