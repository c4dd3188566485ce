/* SPDX-License-Identifier: MIT */
#pragma once

/* The process at the other end of a socket, and whether it still runs: see process.c. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct process {
	int pidfd;           /* owned; -1: none */
	pid_t pid;           /* 0: it has none in this pid namespace */
	uint64_t start_time; /* clock ticks since boot; 0: not known */
	uint64_t image;      /* what its Hello says: differs after each execve(); 0: not known */
	uid_t uid;
	gid_t gid;
	bool is_peer; /* it has connected to this daemon: the pidfd is its own for certain, so it may be signalled */
};

/*
 * The process that connected `socket`. -ESRCH it is gone already. Where the kernel can give no pidfd for it (it is of
 * another pid namespace and the kernel lacks SO_PEERPIDFD) *ret has none.
 */
int process_of_socket(struct process *ret, int socket);

/*
 * Find a process again by its pid and the time at which it started. -ESRCH it is certain that it is gone. Without
 * start_time (0), or a pid, nothing is certain: 0, and a pidfd only if there is a process of that pid.
 */
int process_find(struct process *ret, pid_t pid, uint64_t start_time);

/* Has it ended? False where it has no pidfd. */
bool process_ended(const struct process *process);

/* The letter by which /proc shows the state of the process, as ps(1) does; '?': it is not to be found out. */
char process_state(const struct process *process);

/* Is the thread one of its own, for certain? By their numbers in this pid namespace. */
bool process_has_thread(const struct process *process, uint32_t tid);

/* Can the thread be one of its own? False: it is not, for certain. */
bool process_may_have_thread(const struct process *process, uint32_t tid);

/*
 * Kill it, and no process that got its pid. -ESRCH it has ended or has no pidfd; -ENOTCONN it was found by its pid, and
 * has not connected to this daemon; or what the kernel says.
 */
int process_kill(const struct process *process);

/* Is the process that connected `socket` in the group? */
bool process_in_group(const struct process *process, int socket, gid_t group);

/* Close what it owns. */
void process_deinit(struct process *process);
