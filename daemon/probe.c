// SPDX-License-Identifier: MIT
/*
 * What pyheapd needs of the kernel
 *
 * It is asked for at the start: what only some client's call finds missing is an error that nobody understands.
 *
 *   pidfd_open, pidfd_send_signal    The end of a process is seen by its pidfd, also after a restart, when no
 *                                    connection has one to give. There is no other way that is certain, so there is no
 *                                    heap without. Linux 5.3 has them; seccomp profiles that are older forbid them.
 *   madvise with MADV_WIPEONFORK     A mapping of a heap has a page that no forked child may take for its own. Linux
 *                                    4.14 has it; a kernel that only resembles Linux may not. There is no heap without.
 *   membarrier                       The slower way without it is that each session executes its barriers itself
 *                                    (heap/shared/critical.c). It is only said.
 */
#include "daemon/probe.h"

#include "daemon/log.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int refuse(const char *call, int error)
{
	log_error("the kernel does not let pyheapd call %s: %s; it needs Linux 5.3 or later, and a container whose "
		  "seccomp "
		  "profile allows this call",
		call, strerror(error));
	return -EOPNOTSUPP;
}

/* A pidfd of this process, which must be of use, too. */
static int probe_pidfd(void)
{
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0U), r = 0;

	if (fd < 0)
		return refuse("pidfd_open(2)", errno);
	if (syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0U) < 0)
		r = refuse("pidfd_send_signal(2)", errno);
	close(fd);
	return r;
}

static int probe_wipe_on_fork(void)
{
	const size_t size = (size_t)sysconf(_SC_PAGESIZE);
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int r;

	if (p == MAP_FAILED)
		return -errno;
	r = madvise(p, size, MADV_WIPEONFORK) < 0 ? refuse("madvise(2) with MADV_WIPEONFORK", errno) : 0;
	munmap(p, size);
	return r;
}

static bool has_membarrier(void)
{
	long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);

	return commands > 0 && (commands & MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED);
}

int probe_kernel(void)
{
	int r = probe_pidfd();

	if (r == 0)
		r = probe_wipe_on_fork();
	if (r == 0 && !has_membarrier())
		log_warning(
			"the kernel does not let pyheapd call membarrier(2), as gVisor and some containers do not: it "
			"goes on without, but each call of a session that may not either is slower, and a heap that is "
			"damaged may have to wait for its repair until no session is left");
	return r;
}
