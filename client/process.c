// SPDX-License-Identifier: MIT
/*
 * Telling a forked child from its parent, and a process from what it was before execve()
 *
 * Memory that is mapped with MADV_WIPEONFORK is emptied by the kernel in every child, whatever made the child. So no
 * handler has to run, and no system call is needed to ask whose memory it is. Each session keeps its cache in such
 * memory; one page more has the number of this process.
 *
 * The number is for what is true of a thread: in a forked child another thread has its place. A child that opens
 * sessions of its own gets the next number.
 *
 * A child that shares its parent's memory (vfork, CLONE_VM) is the same process here, as it is for every other
 * variable.
 *
 * execve() keeps the process and empties its memory. The kernel then gives it 16 random bytes (AT_RANDOM), which every
 * copy of this library in the process finds. Their halves are secrets of the C library; their exclusive or tells of
 * neither.
 */
#include "client/process.h"

#include "client/why.h"

#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

static uint64_t *page;
static uint64_t last_number; /* is inherited by fork(): no number is used twice down a line of processes */

const uint64_t *process_page;

int process_map(void **ret, size_t size)
{
	void *p;
	int r;

	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	if (madvise(p, size, MADV_WIPEONFORK) < 0) {
		r = errno == ENOMEM ? -ENOMEM : -EOPNOTSUPP;
		why_set("the kernel, or a sandbox, does not let this process call madvise(2) with MADV_WIPEONFORK "
			"(Linux "
			"4.14), by which a forked child is told from its parent: %s",
			strerror(errno));
		munmap(p, size);
		return r;
	}
	*ret = p;
	return 0;
}

int process_identify(void)
{
	void *memory;
	int r;

	if (!page) {
		r = process_map(&memory, sizeof(*page));
		if (r < 0)
			return r;
		page = memory;
		process_page = page;
	}
	if (*page == 0)
		__atomic_store_n(page, ++last_number, __ATOMIC_RELAXED);
	return 0;
}

uint64_t process_image(void)
{
	const void *random = (const void *)(uintptr_t)getauxval(AT_RANDOM);
	uint64_t halves[2] = {0};

	if (random)
		memcpy(halves, random, sizeof(halves));
	return halves[0] ^ halves[1];
}
