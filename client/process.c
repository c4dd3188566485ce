// SPDX-License-Identifier: MIT
/*
 * Knowing a forked child from its parent, by a number
 *
 * What was found out of a thread is not true of the one that a forked child has in its place. One page of memory says
 * which process this is: the kernel empties it in every child (MADV_WIPEONFORK), whatever made the child, and a child
 * that opens sessions of its own gets the next number.
 *
 * A child that shares its parent's memory (vfork, CLONE_VM) is the same process here, as it is for every other
 * variable.
 */
#include "client/process.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t *page;
static uint64_t last_number; /* survives fork(): no number is used twice down a line of processes */

const uint64_t *process_page;

static int page_new(uint64_t **ret)
{
	size_t size = (size_t)sysconf(_SC_PAGESIZE);
	void *p;
	int r;

	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	if (madvise(p, size, MADV_WIPEONFORK) < 0) {
		r = -errno;
		munmap(p, size);
		return r;
	}
	*ret = p;
	return 0;
}

int process_identify(void)
{
	int r;

	if (!page) {
		r = page_new(&page);
		if (r < 0)
			return r;
		process_page = page;
	}
	if (*page == 0)
		__atomic_store_n(page, ++last_number, __ATOMIC_RELAXED);
	return 0;
}
