// SPDX-License-Identifier: MIT
/*
 * The second process of a work
 *
 * A socket pair carries the words: a side that dies is an end of file to the other, so neither waits for the dead. A
 * round trip over it takes tens of microseconds, so a contender says one word per run and not per operation.
 *
 * The partner goes with its parent (PR_SET_PDEATHSIG), so nothing is left when the benchmark is killed.
 */
#include "partner.h"
#include "contender.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Descriptors of other contenders' sessions must not live on here. */
static void close_others(int fd)
{
	if (fd > 3)
		close_range(3, (unsigned)fd - 1, 0);
	close_range((unsigned)fd + 1, ~0U, 0);
}

static _Noreturn void partner_main(pid_t parent, int (*serve)(void *userdata, int fd), void *userdata, int fd)
{
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	close_others(fd);
	r = cpu_pin(1);
	if (!r)
		r = serve(userdata, fd);
	if (r < 0)
		fprintf(stderr, "bench: the second process failed: %s\n", strerror(-r));
	_exit(r < 0 ? 1 : 0);
}

int partner_start(struct partner *ret, int (*serve)(void *userdata, int fd), void *userdata)
{
	pid_t parent = getpid(), pid;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		int r = -errno;

		close(fds[0]);
		close(fds[1]);
		return r;
	}
	if (pid == 0)
		partner_main(parent, serve, userdata, fds[1]);
	close(fds[1]);
	*ret = (struct partner){.pid = pid, .fd = fds[0]};
	return 0;
}

int partner_stop(struct partner *partner)
{
	uint64_t deadline = clock_now() + (uint64_t)WATCH_DOG_MS * 1000000U;
	int status = 0;
	pid_t r;

	if (!partner->pid)
		return 0;
	close(partner->fd);
	while ((r = waitpid(partner->pid, &status, WNOHANG)) == 0) {
		if (clock_now() > deadline)
			kill(partner->pid, SIGKILL);
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	partner->pid = 0;
	return r > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ECHILD;
}

int partner_say(int fd, uint64_t word)
{
	ssize_t n = send(fd, &word, sizeof(word), MSG_NOSIGNAL);

	if (n < 0)
		return -errno;
	return n == (ssize_t)sizeof(word) ? 0 : -EIO;
}

static int word_receive(int fd, uint64_t *ret, int timeout_ms)
{
	struct pollfd ready = {.fd = fd, .events = POLLIN};
	uint64_t word;
	ssize_t n;
	int r = poll(&ready, 1, timeout_ms);

	if (r <= 0)
		return r < 0 ? -errno : -ETIMEDOUT;
	n = recv(fd, &word, sizeof(word), MSG_WAITALL);
	if (n < 0)
		return -errno;
	if (n != (ssize_t)sizeof(word))
		return -ECONNRESET;
	*ret = word;
	return 0;
}

int partner_hear(int fd, uint64_t *ret)
{
	return word_receive(fd, ret, WATCH_DOG_MS);
}

int partner_wait(int fd, uint64_t *ret)
{
	return word_receive(fd, ret, -1);
}
