// SPDX-License-Identifier: MIT
/*
 * How large a heap may be on this machine
 *
 * /dev/shm says how much it can hold; a tmpfs without a limit says 0, and memory is the limit. A memory cgroup may
 * allow less than that. The default is half of the least of them, and the log says so where it is the cgroup's.
 *
 * /dev/shm may be missing, or a plain folder of a disk (a chroot, an image without the mount). A heap works on a disk,
 * but the kernel writes it there all the time, and half of a disk is no sensible size: --size must say it.
 */
#include "daemon/room.h"

#include "daemon/cgroup.h"
#include "daemon/log.h"

#include <errno.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#define HOW_TO_MOUNT "mount one: mount -t tmpfs -o mode=1777 tmpfs " ROOM_FOLDER

/* 1 the folder is memory, 0 it is on a disk. */
static int folder_look(uint64_t *ret)
{
	struct statfs st;

	if (statfs(ROOM_FOLDER, &st) < 0) {
		int r = -errno;

		log_error("cannot look at " ROOM_FOLDER ": %s", strerror(-r));
		return r;
	}
	*ret = (uint64_t)st.f_blocks * (uint64_t)(st.f_frsize ? st.f_frsize : st.f_bsize);
	if (*ret == 0)
		*ret = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	return st.f_type == TMPFS_MAGIC || st.f_type == RAMFS_MAGIC;
}

int room_check_folder(void)
{
	struct stat st;

	if (stat(ROOM_FOLDER, &st) < 0) {
		int r = -errno;

		log_error(ROOM_FOLDER ": %s; shared memory needs a tmpfs there: " HOW_TO_MOUNT, strerror(-r));
		return r;
	}
	if (!S_ISDIR(st.st_mode)) {
		log_error(ROOM_FOLDER " is no folder; shared memory needs a tmpfs there: " HOW_TO_MOUNT);
		return -ENOTDIR;
	}
	return 0;
}

static int check_size(const struct heap_geometry *geometry, uint64_t can_hold, uint64_t allowed)
{
	if (geometry->heap_size > can_hold) {
		log_error("--size %s is more than " ROOM_FOLDER
			  " can hold, %s: give less, or make it larger (mount -o remount,size=... " ROOM_FOLDER ")",
			log_size(geometry->heap_size), log_size(can_hold));
		return -ENOSPC;
	}
	if (geometry->heap_size > allowed)
		log_warning(
			"--size %s is more than the memory cgroup of pyheapd allows, %s: what is beyond it is refused",
			log_size(geometry->heap_size), log_size(allowed));
	return 0;
}

static int choose_size(struct heap_geometry *geometry, uint64_t can_hold, uint64_t allowed)
{
	uint64_t size = (allowed < can_hold ? allowed : can_hold) / 2;

	if (size > HEAP_SIZE_MAX)
		size = HEAP_SIZE_MAX;
	size -= size % geometry->arena_size;
	if (!size) {
		log_error(ROOM_FOLDER
			" can hold %s, the memory cgroup allows %s, which is too little for one arena: make "
			"it larger",
			log_size(can_hold), allowed == UINT64_MAX ? "all of it" : log_size(allowed));
		return -ENOSPC;
	}
	if (allowed < can_hold)
		log_notice(
			"the heap may grow to %s, half of what the memory cgroup of pyheapd allows; --size changes it",
			log_size(size));
	geometry->heap_size = size;
	return 0;
}

int room_settle(struct heap_geometry *geometry)
{
	uint64_t can_hold = 0, allowed = cgroup_memory_limit();
	int is_memory = folder_look(&can_hold);

	if (is_memory < 0)
		return is_memory;
	if (!is_memory && !geometry->heap_size) {
		log_error(
			ROOM_FOLDER " is no tmpfs, but on a disk: " HOW_TO_MOUNT "; or give a --size to use the disk");
		return -EINVAL;
	}
	if (!is_memory)
		log_warning(ROOM_FOLDER " is no tmpfs, but on a disk: the heap will be slow, and is written there");
	return geometry->heap_size ? check_size(geometry, can_hold, allowed) : choose_size(geometry, can_hold, allowed);
}
