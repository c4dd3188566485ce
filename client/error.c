// SPDX-License-Identifier: MIT
/*
 * Errors in this heap's terms, and the version
 *
 * There is one sentence for each errno that pyheap.h names. It is made to follow a colon: no capital, no full
 * stop. A test takes the list from the header, so that none is forgotten. An errno with several meanings has a sentence
 * that names them; which one it is follows from the call.
 */
#include "client/session.h"
#include "version.h"

#include <assert.h>
#include <limits.h>

static_assert(PYHEAP_VERSION_MAJOR == BUILD_VERSION_MAJOR && PYHEAP_VERSION_MINOR == BUILD_VERSION_MINOR &&
		      PYHEAP_VERSION_PATCH == BUILD_VERSION_PATCH,
	"pyheap.h has another version than meson.build");

PYHEAP_PUBLIC const char *pyheap_strerror(int error)
{
	switch (error < 0 && error > INT_MIN ? -error : error) {
	case 0:
		return "no error";
	case EACCES:
		return "the daemon does not admit this user, or the user may not reach its socket; of pyheap_evict(): "
		       "the session is another user's; of pyheap_reset(): this user may not empty the heap";
	case EAGAIN:
		return "the queue is full or empty, and waiting was not asked for";
	case EBUSY:
		return "another session has the global lock at this moment; of pyheap_reset(): sessions use the heap";
	case ECHILD:
		return "the session belongs to the parent process: after fork() the child opens its own";
	case ECONNREFUSED:
		return "no daemon listens on the socket";
	case ECONNRESET:
		return "the daemon is away, and the call needs it";
	case EDEADLK:
		return "this session, or another one of this thread, has the global lock: the call would wait for "
		       "itself";
	case EDQUOT:
		return "the limit --user-types or --user-arenas of pyheapd is met: this user may have no more types, "
		       "or "
		       "no more arenas that it does not use";
	case EEXIST:
		return "a type of that name has another spec";
	case EINTR:
		return "a signal handler ran while the call waited";
	case EINVAL:
		return "an argument is NULL, or can name no object, type, slot, size or name";
	case EMFILE:
	case ENFILE:
		return "too many files are open for another session";
	case ENAMETOOLONG:
		return "the name is too long; of pyheap_open(): the path is longer than a socket's can be";
	case ENOENT:
		return "no object has that name; of pyheap_open(): there is no such socket";
	case ENOMEM:
		return "there is no room: the heap or the machine's memory is full, or a limit of the process is "
		       "reached";
	case ENOSPC:
		return "there is no room for more types; of pyheap_reset(): there is no room for a fresh heap";
	case EOPNOTSUPP:
		return "the kernel does not let this process call membarrier(2), which it needs to hold an object "
		       "whose ref "
		       "came as a bare number, and to finish a repair; of pyheap_open(): nor madvise(2) with "
		       "MADV_WIPEONFORK";
	case EOVERFLOW:
		return "the object is held more often than can be counted";
	case EPERM:
		return "this session does not hold the object, or another of its threads has the global lock; of "
		       "pyheap_open(): a user who is not trusted serves the socket; of pyheap_evict(): the daemon may "
		       "not signal the process";
	case EPIPE:
		return "the heap has ended: its daemon removed it, or emptied it";
	case EPROTO:
		return "the daemon is of another version than this library, or no pyheapd";
	case ERANGE:
		return "the index is past the end of the list";
	case ESRCH:
		return "there is no such session";
	case ESTALE:
		return "the object is gone; of pyheap_reset(): the files of the heap are gone";
	case ETIMEDOUT:
		return "it did not happen in time, or the daemon did not answer in time";
	case EUCLEAN:
		return "the heap is damaged; of pyheap_open(): what the daemon handed over is no heap";
	case EUSERS:
		return "all sessions of the heap are taken";
	default:
		return "an error that is not the heap's own";
	}
}

PYHEAP_PUBLIC const char *pyheap_version(void)
{
	return PYHEAP_VERSION;
}
