// SPDX-License-Identifier: MIT
/*
 * A pyheapd of the benchmark's own
 *
 * Name, folder and socket have the process's id in them, so that any number of benchmarks run beside each other. The
 * daemon gets SIGTERM when its parent dies however it may, and takes its heap down then; server_stop() removes the
 * rest, and after a daemon that crashed its shared memory too. Where the benchmark itself is killed (SIGKILL), its
 * empty folder is all that stays. What the daemon says goes to a file and is shown when something failed.
 */
#include "server.h"
#include "harness.h"
#include <pyheap.h>

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static _Noreturn void server_exec(const struct server *server, pid_t parent, const char *program, uint64_t size)
{
	char size_text[24];
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(1);
	dup2(server->log, STDOUT_FILENO);
	dup2(server->log, STDERR_FILENO);
	snprintf(size_text, sizeof(size_text), "%llu", (unsigned long long)size);
	execl(program, program, "--socket", server->socket, "--name", server->name, "--size", size_text, (char *)NULL);
	fprintf(stderr, "bench: cannot start %s: %s\n", program, strerror(errno));
	_exit(127);
}

/* Until a session can be opened. What a daemon that is still starting answers is no error yet. */
static int server_wait(struct server *server)
{
	uint64_t deadline = clock_now() + (uint64_t)WATCH_DOG_MS * 1000000U;
	pyheap *heap;
	int status, r;

	for (;;) {
		r = pyheap_open(&heap, server->socket);
		if (r >= 0) {
			pyheap_close(heap);
			return 0;
		}
		if (waitpid(server->pid, &status, WNOHANG) == server->pid) {
			server->pid = 0;
			return -ESRCH;
		}
		if ((r != -ENOENT && r != -ECONNREFUSED) || clock_now() > deadline)
			return r;
		nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	}
}

int server_start(struct server *ret, const char *program, uint64_t size)
{
	const char *temporary = getenv("TMPDIR");
	pid_t parent = getpid();

	*ret = (struct server){.log = memfd_create("pyheapd log", MFD_CLOEXEC)};
	if (ret->log < 0)
		return -errno;
	/* A socket's path must be short, whatever $TMPDIR is. */
	if (!temporary || strlen(temporary) > 32)
		temporary = "/tmp";
	snprintf(ret->folder, sizeof(ret->folder), "%s/pyheap-bench.XXXXXX", temporary);
	if (!mkdtemp(ret->folder)) {
		ret->folder[0] = '\0';
		return -errno;
	}
	snprintf(ret->socket, sizeof(ret->socket), "%s/socket", ret->folder);
	snprintf(ret->name, sizeof(ret->name), "bench-%ld", (long)parent);

	ret->pid = fork();
	if (ret->pid < 0) {
		ret->pid = 0;
		return -errno;
	}
	if (ret->pid == 0)
		server_exec(ret, parent, program, size);
	if (setenv("PYHEAP_SOCKET", ret->socket, 1) < 0)
		return -errno;
	return server_wait(ret);
}

static int server_end(struct server *server)
{
	uint64_t deadline = clock_now() + (uint64_t)WATCH_DOG_MS * 1000000U;
	int status = 0;
	pid_t r;

	kill(server->pid, SIGTERM);
	while ((r = waitpid(server->pid, &status, WNOHANG)) == 0) {
		if (clock_now() > deadline)
			kill(server->pid, SIGKILL);
		nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	}
	server->pid = 0;
	return r > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ECHILD;
}

/* The daemon writes at the end of the file, this reads from its beginning. */
static void log_show(const struct server *server)
{
	char bytes[4096];
	off_t offset = 0;
	ssize_t n;

	while ((n = pread(server->log, bytes, sizeof(bytes), offset)) > 0) {
		fwrite(bytes, 1, (size_t)n, stderr);
		offset += n;
	}
}

/* Remove the folder with whatever the daemon left in it. */
static void folder_remove(const char *path)
{
	DIR *folder = opendir(path);
	struct dirent *entry;

	while (folder && (entry = readdir(folder)))
		unlinkat(dirfd(folder), entry->d_name, 0);
	if (folder)
		closedir(folder);
	rmdir(path);
}

int server_stop(struct server *server, bool show_log)
{
	char segment[48];
	int r = 0;

	if (server->pid)
		r = server_end(server);
	if (r < 0 || show_log)
		log_show(server);
	if (server->name[0]) {
		snprintf(segment, sizeof(segment), "/pyheap.%s.ctl", server->name);
		shm_unlink(segment);
		snprintf(segment, sizeof(segment), "/pyheap.%s.heap", server->name);
		shm_unlink(segment);
	}
	if (server->folder[0])
		folder_remove(server->folder);
	if (server->log >= 0)
		close(server->log);
	*server = (struct server){.log = -1};
	return r;
}
