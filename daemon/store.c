// SPDX-License-Identifier: MIT
/*
 * The shared memory objects of a named heap
 *
 * They are /dev/shm/pyheap.NAME.ctl and /dev/shm/pyheap.NAME.heap, the files that shm_open() would open. Their mode is
 * 0600: clients get descriptors from the daemon. Of the third, /dev/shm/pyheap.NAME.daemon, no client gets one: there
 * the daemon has what it goes by after a restart (heap/shared/truth.c).
 *
 * One daemon serves a name: it keeps a lock on /dev/shm/pyheap.NAME.daemon, a file of which no client ever gets a
 * descriptor. A lock on one of the other two would keep the next daemon away for as long as a client likes. Daemons of
 * older builds look for a lock on .ctl all the same (older.c).
 *
 * The name stays this daemon's while its heap is emptied: then the other two files are made anew, and .daemon gets new
 * content. It says first that the heap has ended, so a daemon that is killed on the way is followed by one that makes a
 * heap.
 *
 * What is there when a daemon starts      what it does
 *   nothing, or an empty .ctl               makes a heap
 *   a .ctl without its magic                its daemon died while it made the heap: makes it anew
 *   a heap marked as ended                  its daemon died while it removed the heap: makes it anew
 *   a heap                                  adopts it, by what its .daemon says and nothing else; a file that was cut
 *                                           gets its size again
 *   a heap without a .daemon of its own     an older daemon made it: adopts it by what it says itself
 *   anything else                           refuses it, and says how it can be removed
 */
#include "daemon/store.h"

#include "daemon/guard.h"
#include "daemon/log.h"
#include "daemon/older.h"
#include "daemon/room.h"
#include "heap/repair/recover.h"
#include "heap/shared/critical.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER ROOM_FOLDER

static int fail(int error, const char *what, const char *path)
{
	log_error("%s %s: %s", what, path, strerror(-error));
	return error;
}

/* ---- the files ------------------------------------------------------------------------------------------------- */

static void store_init(struct store *store, const char *name)
{
	snprintf(store->control_path, sizeof(store->control_path), FOLDER "/pyheap.%s.ctl", name);
	snprintf(store->heap_path, sizeof(store->heap_path), FOLDER "/pyheap.%s.heap", name);
	snprintf(store->truth_path, sizeof(store->truth_path), FOLDER "/pyheap.%s.daemon", name);
	store->guard_fd = -1;
	store->older_fd = -1;
	store->inode = 0;
}

static void unlink_own(const char *path)
{
	struct stat st;

	if (lstat(path, &st) == 0 && st.st_uid == geteuid())
		unlink(path);
}

/* Anybody may put a file into /dev/shm. It is not believed, and its owner is named. */
static bool is_squatted(const char *path)
{
	struct stat st;

	if (lstat(path, &st) < 0 || (S_ISREG(st.st_mode) && st.st_uid == geteuid()))
		return false;
	log_error("%s is in the way: it is %s of user %u; ask that user or root to remove it, or give another --name",
		path,
		S_ISREG(st.st_mode)   ? "a file"
		: S_ISLNK(st.st_mode) ? "a link"
				      : "something else than a file,",
		st.st_uid);
	return true;
}

/* Open one of the two. */
static int file_open(const char *path, int flags, int *ret)
{
	struct stat st;
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | flags, 0600), r;

	if (fd < 0) {
		r = -errno;
		return r != -ENOENT && is_squatted(path) ? -EPERM : r;
	}
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid()) {
		close(fd);
		is_squatted(path);
		return -EPERM;
	}
	*ret = fd;
	return 0;
}

/* A process that has the name may replace both files. So only what lies under a name that is still ours is ours for
 * certain.
 */
void store_unlink(const struct store *store)
{
	bool has_name = guard_leads_to(store->truth_path, store->guard_fd);
	struct stat st;

	if (!has_name && access(store->truth_path, F_OK) == 0) {
		log_warning("%s is another daemon's by now: it is left alone", store->truth_path);
		return;
	}
	if (has_name || (store->inode && lstat(store->heap_path, &st) == 0 && st.st_dev == store->device &&
				st.st_ino == store->inode))
		unlink_own(store->heap_path);
	if (has_name) {
		unlink_own(store->control_path);
		unlink_own(store->truth_path); /* last: it is the lock */
	}
}

/* Remember which file the heap's is. */
static void note_heap(struct store *store, const struct heap *heap)
{
	struct stat st;

	if (fstat(heap->heap_fd, &st) < 0)
		return;
	store->device = st.st_dev;
	store->inode = st.st_ino;
}

void store_close(struct store *store)
{
	if (store->older_fd >= 0)
		close(store->older_fd);
	store->older_fd = -1;
	if (store->guard_fd >= 0)
		close(store->guard_fd);
	store->guard_fd = -1;
}

/* A daemon of an older build is known by its lock on the control segment, and looks for this one's there. */
static int guard_from_older(struct store *store, const char *name, int control_fd)
{
	pid_t pid;
	int r = older_lock(control_fd, &pid);

	if (r < 0) {
		log_error(
			"a pyheapd of an older build, process %d, serves the heap \"%s\": give another --name, or end "
			"it first",
			(int)pid, name);
		close(control_fd);
		return r;
	}
	if (r == 0)
		log_info("process %d, which is no pyheapd, has a lock on %s: that does not matter", (int)pid,
			store->control_path);
	if (store->older_fd >= 0)
		close(store->older_fd);
	store->older_fd = control_fd;
	return 0;
}

/* Give the name up; .daemon goes, if it was only made to be locked. */
static void unguard(struct store *store)
{
	struct stat st;

	if (fstat(store->guard_fd, &st) == 0 && st.st_size == 0)
		unlink_own(store->truth_path);
	store_close(store);
}

/* With O_CREAT there is a .ctl afterwards, which is empty if there was none. */
static int store_guard(struct store *store, const char *name, int flags)
{
	int control_fd = -1, r;

	if (access(store->control_path, F_OK) == 0)
		flags |= O_CREAT; /* the daemon of before died as it removed the heap, or had no .daemon */
	store->guard_fd = guard_take(store->truth_path, flags);
	if (store->guard_fd != -ENOENT && is_squatted(store->truth_path)) {
		store_close(store);
		return -EPERM;
	}
	if (store->guard_fd == -EADDRINUSE)
		log_error("another pyheapd serves the heap \"%s\": give another --name, or end it first", name);
	else if (store->guard_fd < 0 && store->guard_fd != -ENOENT)
		fail(store->guard_fd, "cannot open", store->truth_path);
	if (store->guard_fd < 0 || !(flags & O_CREAT))
		return store->guard_fd < 0 ? store->guard_fd : 0;
	r = file_open(store->control_path, O_CREAT, &control_fd);
	if (r < 0) {
		if (r != -EPERM)
			fail(r, "cannot open", store->control_path);
	} else {
		r = guard_from_older(store, name, control_fd);
	}
	if (r < 0)
		unguard(store);
	return r;
}

/* ---- making and adopting --------------------------------------------------------------------------------------- */

static const char *refusal(int error)
{
	switch (error) {
	case -EMEDIUMTYPE:
		return "it is no heap";
	case -EPROTONOSUPPORT:
		return "it is of another version of pyheap";
	case -EUCLEAN:
		return "it is damaged or cut short";
	case -ENOENT:
		return "its other half is missing";
	default:
		return strerror(-error);
	}
}

static int refuse(const struct store *store, const char *name, int error)
{
	if (error == -EPERM) /* said by is_squatted() */
		return -EUCLEAN;
	log_error("cannot use the heap in %s: %s; end the programs that still use it, and remove it by pyheapd --name "
		  "%s --remove",
		store->control_path, refusal(error), name);
	return error == -ENOENT ? -EUCLEAN : error;
}

/* The three files. */
struct files {
	int control, heap, truth; /* -1: not open */
};

static void files_close(struct files *files)
{
	if (files->control >= 0)
		close(files->control);
	if (files->heap >= 0)
		close(files->heap);
	if (files->truth >= 0)
		close(files->truth);
}

/* By the daemon's own file, or, where it has none of this heap, as it was left by a daemon that had no such file. */
static int heap_adopt_files(const struct files *files, struct heap **ret)
{
	int r = heap_adopt_kept(ret, files->control, files->heap, files->truth);

	if (r != -ENODATA)
		return r;
	r = heap_adopt_older(ret, files->control, files->heap, files->truth);
	if (r == 0)
		log_notice(
			"no daemon has left its own file beside the heap, as those before it had none: what the heap "
			"says of itself is believed this once");
	return r;
}

/* Was the heap being removed? Its .heap is gone already. */
static bool is_leftover(const struct files *files)
{
	struct truth_head head;

	if (pread(files->truth, &head, sizeof(head), 0) == sizeof(head) && head.magic == TRUTH_MAGIC && head.ended)
		return true;
	return control_is_leftover(files->control);
}

/* -ENODATA: there is none, or none that was ever finished. */
static int store_adopt(const struct store *store, struct heap **ret)
{
	struct files files = {-1, -1, -1};
	struct heap *heap = NULL;
	struct stat st;
	int r;

	r = file_open(store->control_path, 0, &files.control);
	if (r < 0)
		return r;
	if (fstat(files.control, &st) == 0 && st.st_size == 0)
		r = -ENODATA;
	if (r == 0)
		r = file_open(store->truth_path, O_CREAT, &files.truth);
	if (r == 0)
		r = file_open(store->heap_path, 0, &files.heap);
	if (r == -ENOENT && is_leftover(&files)) /* its daemon died between the unlinks */
		r = -ENODATA;
	if (r == 0)
		r = heap_adopt_files(&files, &heap);
	if (r != 0) {
		files_close(&files);
		return r;
	}
	if (heap_is_ended(heap)) {
		critical_end(heap); /* the daemon before may have died on the way */
		heap_free(heap);
		return -ENODATA;
	}
	*ret = heap;
	return 0;
}

static const char *why_not_made(int error)
{
	switch (error) {
	case -ENOMEM:
	case -ENOSPC:
		return "; " FOLDER " is full, or too small";
	case -EFBIG:
		return "; files of that size are not allowed (ulimit -f, LimitFSIZE=): raise that, or give a smaller "
		       "--size";
	default:
		return "";
	}
}

static int store_create(const struct store *store, const struct options *options, struct heap **ret)
{
	struct heap_geometry geometry = options->geometry;
	struct files files = {-1, -1, -1};
	int r;

	r = room_settle(&geometry);
	if (r < 0)
		return r;
	r = file_open(store->control_path, 0, &files.control);
	if (r == 0)
		r = file_open(store->heap_path, O_CREAT, &files.heap);
	if (r == 0)
		r = file_open(store->truth_path, O_CREAT, &files.truth);
	if (r == -EPERM) { /* said by is_squatted() */
		files_close(&files);
		return r;
	}
	if (r == 0)
		r = heap_create_kept(ret, files.control, files.heap, files.truth, options->name, &geometry);
	if (r == 0)
		return 0;
	log_error("cannot make the heap in %s: %s%s", store->control_path, strerror(-r), why_not_made(r));
	files_close(&files);
	return r;
}

/* A heap that its daemon was just removing: clients that have the old files mapped must keep them, so the new heap gets
 * new files. */
static int store_renew(struct store *store, const char *name)
{
	store_unlink(store);
	store_close(store);
	return store_guard(store, name, O_RDWR | O_CREAT);
}

/* What was asked for and the heap that is there does not have. */
static void warn_of_differences(const struct heap *heap, const struct heap_geometry *asked)
{
	if (asked->heap_size && asked->heap_size != heap->heap_size)
		log_warning("the heap that is there stays at %s: --size %s is for a new one", log_size(heap->heap_size),
			log_size(asked->heap_size));
	if (asked->arena_size != ARENA_SIZE_DEFAULT && asked->arena_size != heap->arena_size)
		log_warning("the heap that is there has arenas of %s: --arena-size %s is for a new one",
			log_size(heap->arena_size), log_size(asked->arena_size));
	if (asked->n_sessions != SESSIONS_DEFAULT && asked->n_sessions != heap->n_sessions)
		log_warning("the heap that is there has room for %u sessions: --max-sessions %u is for a new one",
			heap->n_sessions, asked->n_sessions);
}

int store_open(struct store *store, const struct options *options, struct heap **ret_heap, bool *ret_adopted)
{
	int r;

	store_init(store, options->name);
	r = room_check_folder();
	if (r == 0)
		r = store_guard(store, options->name, O_RDWR | O_CREAT);
	if (r < 0)
		return r;
	r = store_adopt(store, ret_heap);
	*ret_adopted = r == 0;
	if (r == 0 && (*ret_heap)->was_cut)
		log_error(
			"the heap's files were cut or stretched by a client: they have their sizes again, but what was "
			"cut off is lost; pyheapctl check --repair mends what can be mended, or pyheapctl reset "
			"empties "
			"the heap");
	if (r == 0)
		warn_of_differences(*ret_heap, &options->geometry);
	if (r == -ENODATA) {
		r = store_renew(store, options->name);
		if (r == 0) {
			r = store_create(store, options, ret_heap);
			if (r < 0)
				store_unlink(store);
		}
	} else if (r < 0) {
		r = refuse(store, options->name, r);
	}
	if (r < 0)
		store_close(store);
	else
		note_heap(store, *ret_heap);
	return r;
}

/* Memory for the records of a heap, without a name. A kernel or folder that knows no such files says nothing. */
static int probe_room(const struct heap_geometry *geometry)
{
	struct sections s;
	int fd, r;

	geometry_sections(&s, geometry);
	fd = open(FOLDER, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return 0;
	r = ftruncate(fd, (off_t)s.arenas_off) < 0 ? -errno : file_allocate(fd, 0, s.arenas_off);
	close(fd);
	return r;
}

int store_can_reset(const struct store *store, const struct options *options)
{
	struct heap_geometry geometry = options->geometry;
	int r;

	if (!guard_leads_to(store->truth_path, store->guard_fd)) {
		log_error("the heap cannot be emptied: %s is not this daemon's any more", store->truth_path);
		return -ESTALE;
	}
	r = room_settle(&geometry);
	if (r == 0)
		r = probe_room(&geometry);
	if (r < 0)
		log_error("the heap cannot be emptied: there is no room for another one: %s%s", strerror(-r),
			why_not_made(r));
	return r;
}

int store_reset(struct store *store, const struct options *options, struct heap **ret_heap)
{
	int control_fd = -1, r;

	unlink_own(store->heap_path);
	unlink_own(store->control_path);
	r = file_open(store->control_path, O_CREAT, &control_fd);
	if (r == 0) {
		r = guard_from_older(store, options->name, control_fd);
		if (r == 0)
			r = store_create(store, options, ret_heap);
	} else {
		fail(r, "cannot open", store->control_path);
	}
	if (r < 0)
		store_unlink(store);
	else
		note_heap(store, *ret_heap);
	return r;
}

int store_remove(const struct options *options)
{
	struct store store;
	int r;

	store_init(&store, options->name);
	r = store_guard(&store, options->name, O_RDWR);
	if (r == -ENOENT) /* what is left of one that died between the two unlinks */
		r = access(store.heap_path, F_OK) == 0 || access(store.truth_path, F_OK) == 0
			    ? store_guard(&store, options->name, O_RDWR | O_CREAT)
			    : 0;
	if (r < 0)
		return r;
	if (store.guard_fd < 0) {
		log_notice("there is no heap \"%s\"", options->name);
		return 0;
	}
	store_unlink(&store);
	if (access(store.control_path, F_OK) == 0 || access(store.heap_path, F_OK) == 0 ||
		access(store.truth_path, F_OK) == 0) {
		log_error("cannot remove %s, .heap and .daemon: they belong to another user", store.control_path);
		r = -EPERM;
	} else {
		log_notice("removed the heap \"%s\"", options->name);
	}
	store_close(&store);
	return r;
}
