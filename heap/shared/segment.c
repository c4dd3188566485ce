// SPDX-License-Identifier: MIT
/*
 * The mappings of a heap's segments
 *
 * The control segment is mapped whole, and a unit of private memory lies over it behind the lock's word (layout.h): the
 * word is shared, and the list in which a thread has it is not. No process can write what another one's kernel and C
 * library follow there. A child that was made by fork() finds that memory empty, as none of its threads has the lock.
 *
 * Nothing is locked: in a process that called mlockall(MCL_FUTURE), mapping a sparse file would make every page of it.
 * No page is made of what cannot be accessed, and munlock() sees to the rest.
 */

#include "heap/shared/segment.h"
#include "heap/shared/layout.h"

#include <errno.h>
#include <sys/mman.h>

static void *fail(void *p, uint64_t size)
{
	int error = errno;

	munmap(p, size);
	errno = error;
	return NULL;
}

void *segment_map(uint64_t size, int fd)
{
	int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	void *p = mmap(NULL, size, PROT_NONE, flags | MAP_NORESERVE, fd, 0);

	if (p == MAP_FAILED)
		return NULL;
	munlock(p, size);
	return mprotect(p, size, PROT_READ | PROT_WRITE) < 0 ? fail(p, size) : p;
}

/* 0; or -1 and errno */
static int map_own(struct control *control)
{
	const size_t size = sizeof(control->lock.own);
	void *p = control->lock.own;

	if (mmap(p, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
		return -1;
	munlock(p, size);
	return mprotect(p, size, PROT_READ | PROT_WRITE) < 0 ? -1 : madvise(p, size, MADV_WIPEONFORK);
}

struct control *segment_map_control(uint64_t size, int fd)
{
	struct control *control = segment_map(size, fd);

	return control && map_own(control) < 0 ? fail(control, size) : control;
}

void segment_map_control_again(struct control *control, uint64_t size, int fd)
{
	if (mmap(control, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0) != MAP_FAILED)
		(void)map_own(control);
}
