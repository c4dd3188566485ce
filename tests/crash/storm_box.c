// SPDX-License-Identifier: MIT
/*
 * The place of a storm: a mount namespace, a folder and a daemon, which are gone when the storm ends
 *
 * As root, the storm has a mount namespace of its own with a small tmpfs on /dev/shm, which can really be full. The
 * kernel removes it with the last process of the storm. Otherwise the heap is in the machine's /dev/shm, and only the
 * heap is filled.
 *
 * All processes are children of the first one and get SIGKILL when it ends. The folder, with the socket and the log, is
 * removed at every end but by SIGKILL.
 */
#include "storm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SHM      "/dev/shm"
#define SHM_SIZE "64M"
#define LOG_MAX  (8 << 20)

/* ---- coming and going ---- */

static bool own_shm(void)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0)
		return false;
	/* In a chroot / is not a mount point. */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 && mount(NULL, SHM, NULL, MS_PRIVATE, NULL) < 0)
		return false;
	return mount("storm", SHM, "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=" SHM_SIZE) == 0;
}

int box_open(struct box *box)
{
	*box = (struct box){.owner = getpid()};
	strcpy(box->folder, "/tmp/pyheap-storm-XXXXXX");
	if (!mkdtemp(box->folder))
		return -errno;
	snprintf(box->name, sizeof(box->name), "storm-%d", (int)getpid());
	snprintf(box->socket, sizeof(box->socket), "%s/socket", box->folder);
	snprintf(box->log, sizeof(box->log), "%s/log", box->folder);
	snprintf(box->alien, sizeof(box->alien), SHM "/somebody-else-%d", (int)getpid());
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	box->has_own_shm = own_shm();
	return 0;
}

static void path_of(const struct box *box, const char *half, char ret[96])
{
	snprintf(ret, 96, SHM "/pyheap.%s.%s", box->name, half);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(path);
}

/* SIGKILL also ends those that are stopped. */
static void kill_children(void)
{
	char path[64];
	FILE *file;
	int pid;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	file = fopen(path, "re");
	while (file && fscanf(file, "%d", &pid) == 1)
		kill(pid, SIGKILL);
	if (file)
		fclose(file);
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;
}

void box_close(struct box *box)
{
	char path[96];

	if (getpid() != box->owner)
		return;
	kill_children();
	path_of(box, "heap", path);
	unlink(path);
	path_of(box, "ctl", path);
	unlink(path);
	path_of(box, "daemon", path);
	unlink(path);
	unlink(box->alien);
	nftw(box->folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* ---- the daemon ---- */

/* A log that has grown long is kept as .old: after a fault only the latest part matters. */
static int open_log(const struct box *box)
{
	struct stat st;
	char old[96];

	snprintf(old, sizeof(old), "%s.old", box->log);
	if (stat(box->log, &st) == 0 && st.st_size > LOG_MAX)
		rename(box->log, old);
	return open(box->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

__attribute__((noreturn)) static void exec_daemon(const struct box *box, bool removes)
{
	char timeout[16], spare[16];
	int log = open_log(box);

	snprintf(timeout, sizeof(timeout), "%d", LOCK_TIMEOUT_S);
	snprintf(spare, sizeof(spare), "%d", SPARE_ARENAS);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != box->owner || log < 0 || dup2(log, STDERR_FILENO) < 0)
		_exit(125);
	if (removes)
		execl(getenv("PYHEAPD"), "pyheapd", "--name", box->name, "--remove", (char *)NULL);
	else
		execl(getenv("PYHEAPD"), "pyheapd", "--name", box->name, "--socket", box->socket, "--size", SHM_SIZE,
			"--keep", "--lock-timeout", timeout, "--spare-arenas", spare, (char *)NULL);
	_exit(126);
}

static pid_t fork_daemon(const struct box *box, bool removes)
{
	pid_t pid = fork();

	if (pid == 0)
		exec_daemon(box, removes);
	if (pid < 0)
		storm_fault("fork: %s", strerror(errno));
	return pid;
}

void box_start_daemon(struct box *box)
{
	box->daemon = fork_daemon(box, false);
}

int box_remove_heap(struct box *box)
{
	pid_t pid = fork_daemon(box, true);
	int status = -1;

	waitpid(pid, &status, 0);
	return status;
}

void box_print_log(const struct box *box)
{
	enum { TAIL = 4000 };
	FILE *file = fopen(box->log, "re");
	char line[512];

	if (!file)
		return;
	if (fseek(file, -TAIL, SEEK_END) == 0 && !fgets(line, sizeof(line), file))
		line[0] = '\0';
	fprintf(stderr, "storm: the end of the daemon's log:\n");
	while (fgets(line, sizeof(line), file))
		fprintf(stderr, "    %s", line);
	fclose(file);
}

/* ---- /dev/shm ---- */

int64_t box_heap_bytes(const struct box *box)
{
	struct stat st;
	char path[96];

	path_of(box, "heap", path);
	return stat(path, &st) < 0 ? -errno : (int64_t)st.st_blocks * 512;
}

bool box_has_segments(const struct box *box)
{
	char heap[96], control[96];

	path_of(box, "heap", heap);
	path_of(box, "ctl", control);
	return access(heap, F_OK) == 0 || access(control, F_OK) == 0;
}

void box_fill(const struct box *box)
{
	int fd = open(box->alien, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	off_t size = 0;

	if (fd < 0)
		return;
	for (off_t step = 1 << 20; step >= 4096; step /= 2)
		while (posix_fallocate(fd, size, step) == 0)
			size += step;
	close(fd);
}

void box_unfill(const struct box *box)
{
	unlink(box->alien);
}
