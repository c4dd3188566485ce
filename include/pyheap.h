/* SPDX-License-Identifier: MIT */
/*
 * pyheap: a heap of reference-counted objects shared by the processes of one machine
 *
 * This header is the manual of libpyheap, for C (C89 with long long, or later) and C++.
 *
 * Words
 *   heap     what one daemon, pyheapd, serves: shared memory full of objects
 *   session  a connection of a process with the daemon, and everything that it holds
 *   ref      a 64-bit number that names an object in every process; 0 names none
 *   hold     a session's right to an object: an object that is held stays. A session may hold an object several times.
 *   slot     a place inside an object that has a ref; a slot holds the object that it refers to
 *
 * What is true of every function, unless its own paragraph says otherwise
 *
 *   Returns  0 or more, or a negative errno, as in systemd's libraries. pyheap_strerror() explains each errno. A
 *            function that fails changes nothing and does not write to `ret`.
 *   NULL     A `heap`, `ret`, `cursor`, name or buffer that is NULL gives -EINVAL, and never a crash.
 *   Errors   Besides those that a function lists:
 *            -EINVAL   an argument is NULL, or a number that can name no object
 *            -ESTALE   the object of the ref is gone
 *            -ECHILD   the session was opened by the parent process
 *            -EPIPE    the heap has ended: its daemon removed it, or emptied it (pyheap_reset())
 *            -EUCLEAN  the heap is damaged, see pyheap_check()
 *            and where a function changes what is shared:
 *            -EPERM    another thread of the session has the global lock
 *            -EDEADLK  another session of this thread has the global lock
 *   Refs     Any 64-bit number may be given as a ref. One that names no live object gives -EINVAL or -ESTALE and
 *            never makes the library touch memory outside the heap.
 *   Owners   A function never takes over memory of the caller, and never returns memory for the caller to free. A ref
 *            that a function writes to *ret is held once more by the session; the caller drops that hold with
 *            pyheap_decref().
 *   Units    Sizes and offsets are in bytes, times in milliseconds.
 *   Threads  A session is used by one thread at a time. Several threads open a session each. All sessions of a process
 *            share one mapping of the heap, so that a pointer means the same to all its threads.
 *   Death    A process may be killed between any two instructions. Each call has then happened as a whole or not at
 *            all. The daemon drops what the dead process held; what others hold stays.
 *   fork()   A forked child cannot use the sessions of its parent: each call returns -ECHILD, or NULL with errno
 *            ECHILD. It opens its own. pyheap_close() frees the child's copy and leaves the parent's session alone.
 *   exec     A program that calls execve() takes its sessions along, as the process stays the same, and cannot use them
 *            any more. What they hold stays until the process opens a session again, or ends. pyheap_close() first
 *            gives it back at once.
 *   Cancel   A thread is not cancelled (pthread_cancel()) inside the library: that takes effect after the call.
 *   Signals  No function raises SIGPIPE or installs a handler. None may be called from a signal handler.
 *
 * About the whole
 *
 *   Daemon   Without its daemon a session goes on with the memory that it has. Only a call that needs fresh memory
 *            waits for the daemon to come back, see pyheap_set_timeout(), and resumes the session there. When no
 *            daemon comes, the call returns -ECONNRESET.
 *   Trust    The programs of one heap map it for writing, so a stray write of one can damage it for all. Damage is
 *            noticed (-EUCLEAN) and not followed. Admit only programs that may trust each other.
 *   Speed    A session makes objects in pools of its own. Making, holding, reading and dropping these takes no lock,
 *            no system call and no atomic read-modify-write as long as no other session knows them. Handing an object
 *            over by a queue takes one compare-and-swap on each side. So does the first or last hold of another
 *            session's object while one session comes and goes; where two take turns, every second of these takes the
 *            global lock. Changing slots and names takes the global lock, and so does freeing an object with slots.
 *            Getting a name, and reading a slot of what the session holds, takes no lock, and neither does dropping
 *            what was read, unless the slot or name has lost it meanwhile. Then any number of sessions hold and drop
 *            one object side by side, and wait for nobody, not for a process that was stopped with the lock either.
 *   Numbers  A ref that came by a slot, a queue or a name is held by pyheap_incref() as described. A ref that came as
 *            a bare number (through a pipe, for example) may name an object that its maker has shared in no other way.
 *            The first hold of such an object costs a membarrier(2), which takes some microseconds. Where a kernel or
 *            a sandbox forbids that call to this process, and the maker relies on it, the hold fails with -EOPNOTSUPP.
 */
#ifndef PYHEAP_H
#define PYHEAP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header. pyheap_version() is that of the library. */
#define PYHEAP_VERSION_MAJOR 0
#define PYHEAP_VERSION_MINOR 1
#define PYHEAP_VERSION_PATCH 0

typedef struct pyheap pyheap; /* a session */
typedef uint64_t pyheap_ref;  /* names an object in every process; 0: none */
typedef uint32_t pyheap_type; /* one of the three below, or what pyheap_type_register() gave */

#define PYHEAP_BYTES 1U /* plain bytes, no slots */
#define PYHEAP_LIST  2U /* slots only, 8 bytes each */
#define PYHEAP_QUEUE 3U /* a bounded queue of refs */

#define PYHEAP_NAME_MAX       255 /* longest name of an object, bytes without the NUL */
#define PYHEAP_TYPE_NAME_MAX  63  /* longest name of a type, bytes without the NUL */
#define PYHEAP_TYPE_SLOTS_MAX 256 /* most slots of a registered type */
#define PYHEAP_CLASSES        128 /* size classes; those that are not used have size 0 */

/*
 * Sessions
 */

/*
 * Open a session with the daemon that listens on `socket`. The caller owns *ret and ends it with pyheap_close().
 *
 * Socket  NULL: $PYHEAP_SOCKET. Without it root uses /run/pyheap/pyheap.sock; others use $XDG_RUNTIME_DIR/pyheap.sock
 *         if it exists, and else /run/pyheap/pyheap.sock, which members of the group pyheap may open. A relative path
 *         is made absolute now, for when the daemon is restarted.
 * Server  The process that serves the socket must be root's, this user's, or belong to the owner of the socket's
 *         folder: another user's daemon with a socket directly in /tmp is refused. $PYHEAP_TRUST_SERVER names one more
 *         user by its number, and `any` trusts all.
 * Limits  The whole heap is mapped, as many bytes as the daemon's --size says, which counts for RLIMIT_AS. No page is
 *         made by that, also where mlockall(MCL_FUTURE) was called before. mlockall(MCL_CURRENT) in a process that has
 *         a session makes every page of the heap; the daemon gives those back that are nobody's, within a second. Add
 *         MCL_ONFAULT to make none. Where the process locks its memory, the mapping counts for RLIMIT_MEMLOCK.
 * Dumps   The mapping is left out of core dumps, unless $PYHEAP_DUMP is 1.
 *
 * Programs with more rights than their user (set-user-ID) do not read the environment. pyheap_open_error() says more
 * about these:
 *
 * -ENOENT        there is no such socket; or `socket` is empty; or it is NULL, and there is no default
 * -ECONNREFUSED  no daemon listens on it
 * -EACCES        the daemon does not admit this user, or the user may not reach the socket
 * -EPERM         a user who is not trusted serves the socket
 * -ENAMETOOLONG  the path is longer than a socket's address can be (107 bytes)
 * -EUSERS        all sessions of the heap are taken
 * -EPROTO        the daemon is of another version than this library
 * -ETIMEDOUT     it does not answer
 * -ECONNRESET    it went away meanwhile
 * -EUCLEAN       what it handed over is no heap
 * -ENOMEM        the heap cannot be mapped: a limit of the process, or no address space
 * -EOPNOTSUPP    the kernel, or a sandbox, does not let this process call madvise(2) with MADV_WIPEONFORK (Linux 4.14)
 * -EMFILE        too many files are open (also -ENFILE)
 * or what connect(2) says of the path.
 */
int pyheap_open(pyheap **ret, const char *socket);

/*
 * Why the last pyheap_open() of this thread failed, in one sentence that says more than the errno: which limit, which
 * two versions, what the daemon said. "" where nothing more is known, and after success. The same of the last resuming
 * of a session. The string is the thread's, and good until its next call of the library. Never NULL.
 */
const char *pyheap_open_error(void);

/*
 * Drop every hold of the session and end it. Takes NULL. Always returns NULL, so that `heap = pyheap_close(heap);`
 * leaves no dangling pointer (as the unref functions of systemd do).
 *
 * Pointers of pyheap_data() end with the last session of the process: using one later is SIGSEGV. Where
 * $PYHEAP_KEEP_MAPPED is 1, as bindings of other languages set it, a heap stays mapped as long as the process lives,
 * and such a pointer reads some bytes, though not those of the object.
 *
 * The global lock is given back if this thread took it; for another thread's see pyheap_lock(). A process that dies in
 * the middle has closed the session: the daemon drops the rest. A session that lost its daemon tells the one that is
 * there now, which may take a second.
 */
pyheap *pyheap_close(pyheap *heap);

/*
 * The session's descriptor, for poll(2) and every event loop. It is readable when the daemon has something to say, most
 * often that it went away: call pyheap_dispatch() then. One descriptor to embed, as in Wayland's and varlink's client
 * libraries.
 *
 * It belongs to the session: do not read, write or close it. Its number stays when the daemon is restarted, but the
 * socket behind the number changes, so add it to an epoll set again. A program that closes all descriptors that it
 * does not know does no harm: the next call that needs the daemon connects again, and leaves alone what has the number
 * by then. The session may have another number afterwards, so ask again.
 */
int pyheap_fd(pyheap *heap);

/*
 * Take in what the daemon said, without waiting for more. Where the daemon is gone, wait for its successor (see
 * pyheap_set_timeout()) and resume the session there. 0: the session has its daemon.
 *
 * -ECONNRESET  no daemon came, or the one that came does not know the session
 * -EPERM       the daemon is gone, and another thread of the session has the global lock
 * or what pyheap_open() returns. After all but -ECONNRESET of an unknown session and -EPROTO, the next call that needs
 * the daemon tries again.
 */
int pyheap_dispatch(pyheap *heap);

/*
 * How long a call of this session waits for the daemon: for its answer and for its return when it is restarted, both
 * together, whatever signals come meanwhile. 0: not at all; -1: for ever; at first 10000. A session that has the global
 * lock never waits for a restart.
 *
 * -EINVAL  less than -1
 */
int pyheap_set_timeout(pyheap *heap, int timeout_ms);

/*
 * What an errno means in this heap's terms: one sentence in English, without a capital or a full stop. Takes the
 * negative errno as returned, or the positive one. Some errnos have one meaning per call: of -ENOENT the sentence names
 * both, "no object has that name" for names and "there is no such socket" for pyheap_open(). The string is static.
 * Thread-safe, never NULL, also for numbers that are no errno.
 */
const char *pyheap_strerror(int error);

/*
 * The version of the library, "MAJOR.MINOR.PATCH". It may be newer than the header that a program was compiled with:
 * the numbers of that are PYHEAP_VERSION_MAJOR, _MINOR and _PATCH. The string is static. Thread-safe.
 */
const char *pyheap_version(void);

/*
 * Objects
 */

/*
 * Make an object of `size` bytes, held once by this session. Its slots are empty; its other bytes are not cleared, as
 * malloc()'s. The payload is aligned to 8 bytes, to 16 where the size is a multiple of 16, to 64 above 512 bytes, or
 * to what its type asks for. Above 32,704 bytes it begins on a page. Blocks, pools and the classes up to 512 bytes are
 * CPython's (Objects/obmalloc.c).
 *
 * The size of a PYHEAP_LIST is 8 times the number of its slots. Of a registered type it is the type's size, or more
 * where a flexible array follows; 0 means the type's size. Queues are made by pyheap_queue_new().
 *
 * -EINVAL      there is no such type, or it cannot have that size
 * -ENOMEM      the heap, or the machine's shared memory, is full
 * -EDQUOT      this user's sessions have arenas that they do not use, as many as it may (pyheapd --user-arenas)
 * -ECONNRESET  fresh memory was needed, and there is no daemon
 * -ETIMEDOUT   fresh memory was needed, and the daemon did not answer
 *
 * Every function below that lists -ENOMEM may return the last three as well.
 */
int pyheap_new(pyheap *heap, pyheap_type type, size_t size, pyheap_ref *ret);

/*
 * Make a PYHEAP_BYTES object with a copy of the `size` bytes at `data`, held once. `data` may be NULL where size is 0.
 * Errors as pyheap_new().
 */
int pyheap_put(pyheap *heap, const void *data, size_t size, pyheap_ref *ret);

/*
 * The object's payload in this process; aligned as pyheap_new() says. The pointer is good as long as something keeps
 * the object: a hold of this session, a name, or a slot of an object that is kept.
 *
 * The heap does not order reads and writes of the bytes: that is the programs' affair. Slots that lie in the payload
 * may be read there, but are changed by pyheap_list_set() and pyheap_slot_set() alone.
 *
 * NULL with errno on failure. EINVAL: also for a queue, which has no payload for its users.
 */
void *pyheap_data(pyheap *heap, pyheap_ref ref);

/* The size of the payload in bytes, as it was asked for. Of a list 8 times its slots, of a queue 8 times its n. */
ssize_t pyheap_size(pyheap *heap, pyheap_ref ref);

/* The type of the object. */
int pyheap_typeof(pyheap *heap, pyheap_ref ref, pyheap_type *ret);

/*
 * Hold the object once more, as Py_INCREF(). This is also how a ref that came from elsewhere (through a pipe, or read
 * in a payload) is held for the first time; that fails with -ESTALE when the object is gone by then.
 *
 * -ENOMEM      no memory to write the hold down
 * -EOVERFLOW   it is held 2^32 - 1 times
 * -EOPNOTSUPP  see "Numbers" above
 */
int pyheap_incref(pyheap *heap, pyheap_ref ref);

/*
 * Drop one of this session's holds, as Py_DECREF(). When nothing holds the object any more, it is freed: what its slots
 * hold is dropped, too, in a loop and not by recursion, and its memory is free for others. A process that dies in the
 * middle of freeing leaves the rest to the daemon.
 *
 * -EPERM  the object lives, but this session does not hold it
 */
int pyheap_decref(pyheap *heap, pyheap_ref ref);

/*
 * How many holds the object has now: those of all sessions, each counted as often as it was taken, and one for each
 * slot, cell of a queue and name that refers to it. As sys.getrefcount(), without that call's own temporary reference.
 */
int64_t pyheap_refcount(pyheap *heap, pyheap_ref ref);

/*
 * Lists
 */

/* Make a list of n empty slots, held once. Errors as pyheap_new(). */
int pyheap_list_new(pyheap *heap, size_t n, pyheap_ref *ret);

/*
 * Make slot i refer to `ref`; 0 empties it. The slot gets a hold of its own, and the session keeps its holds (unlike
 * PyList_SetItem(), which takes over the caller's). What the slot held before is dropped.
 *
 * -EINVAL     it is not a list
 * -ERANGE     i is past the end
 * -EOVERFLOW  the object is held too often
 */
int pyheap_list_set(pyheap *heap, pyheap_ref list, size_t i, pyheap_ref ref);

/*
 * Hold what slot i refers to. *ret is 0 where the slot is empty.
 *
 * Speed  Hold the list while you read it: then the call takes no lock, and waits for nobody.
 *
 * -EINVAL  it is not a list
 * -ERANGE  i is past the end
 * -ENOMEM  no memory to write the hold down
 */
int pyheap_list_get(pyheap *heap, pyheap_ref list, size_t i, pyheap_ref *ret);

/*
 * Types
 */

/* Owned by the caller; pyheap_type_register() copies it. */
typedef struct pyheap_type_spec {
	const char *name;    /* 1 to PYHEAP_TYPE_NAME_MAX bytes of UTF-8; names the type in every process */
	size_t size;         /* of the fixed part, in bytes; at least 1 */
	size_t alignment;    /* a power of two up to 4096; 0: as pyheap_new() aligns without a type's wish */
	size_t n_slots;      /* at most PYHEAP_TYPE_SLOTS_MAX */
	const size_t *slots; /* offsets of the slots: multiples of 8, ascending, within size; may be NULL for none */
} pyheap_type_spec;

/*
 * Make a struct type known to the heap, or find it: the same spec gives the same type in every process. A type is data,
 * not code (as PyType_FromSpec()'s specs, without the functions), so that any process can drop what an object of a dead
 * process held. A type stays as long as the heap.
 *
 * -EEXIST        a type of that name has another spec
 * -EINVAL        the spec is wrong
 * -ENAMETOOLONG  the name is longer than PYHEAP_TYPE_NAME_MAX
 * -ENOSPC        the heap has no room for more types
 * -EDQUOT        this user has registered as many as it may (pyheapd --user-types)
 */
int pyheap_type_register(pyheap *heap, const pyheap_type_spec *spec, pyheap_type *ret);

/*
 * Copy the name of a type into `ret`, with its NUL: "bytes", "list", "queue", or that of a registered one.
 *
 * -EINVAL  there is no such type
 */
int pyheap_type_name(pyheap *heap, pyheap_type type, char ret[PYHEAP_TYPE_NAME_MAX + 1]);

/*
 * As pyheap_list_set(), for the slot at `offset` of a struct.
 *
 * -EINVAL  the type has no slot there
 */
int pyheap_slot_set(pyheap *heap, pyheap_ref obj, size_t offset, pyheap_ref ref);

/*
 * As pyheap_list_get(), for the slot at `offset` of a struct.
 *
 * -EINVAL  the type has no slot there
 */
int pyheap_slot_get(pyheap *heap, pyheap_ref obj, size_t offset, pyheap_ref *ret);

/*
 * Queues
 */

/*
 * Make a queue of at most n refs, held once. Many sessions may push and many may pop; what goes in first comes out
 * first.
 *
 * -EINVAL  n is 0
 * Others as pyheap_new().
 */
int pyheap_queue_new(pyheap *heap, size_t n, pyheap_ref *ret);

/*
 * Hand an object over: one of the caller's holds becomes the queue's (CPython calls that stealing a reference). At
 * every moment exactly one of sender, queue and receiver has that hold, the process that is killed when. Where the call
 * fails, the caller keeps it.
 *
 * Waiting  timeout_ms: negative waits for ever, 0 not at all, else that long. While somebody waits for an object or for
 *          room, a sender or receiver that is stopped in the middle of its own call delays it by a second at most.
 *          Each push wakes one of those who sleep for an object, each pop one of those who sleep for room.
 * Signals  A signal handler that runs while the call waits ends it with -EINTR, whenever the signal comes, and with
 *          SA_RESTART too. A wait delays handlers: by no longer than it has taken so far, and by 100 ms at most.
 * Speed    Hold the queue while you use it, and hold `ref` once or have made it: then the call takes no lock, waits for
 *          nobody, and makes no system call unless somebody sleeps. A call on a queue that the session does not hold
 *          holds it for the length of the call. A `ref` that the session holds several times is moved under the global
 *          lock.
 *
 * -EINVAL     it is not a queue
 * -EPERM      the session does not hold `ref`
 * -EAGAIN     the queue is full, and timeout_ms is 0
 * -ETIMEDOUT  the queue was full for that long
 * -EDEADLK    it would have to wait while this session has the global lock
 * -EINTR      a signal handler ran while it waited
 * -ESTALE     the queue, or the object, is gone
 * -ENOMEM     no memory for the hold of the queue
 */
int pyheap_queue_push(pyheap *heap, pyheap_ref queue, pyheap_ref ref, int timeout_ms);

/*
 * Receive: the queue's hold becomes the caller's. Waiting, speed and errors are as of pyheap_queue_push(), of a queue
 * that is empty instead of full; receiving an object that the session holds already takes the global lock.
 *
 * -ENOMEM     no memory to write the hold down
 * -EOVERFLOW  the session holds the object too often
 */
int pyheap_queue_pop(pyheap *heap, pyheap_ref queue, pyheap_ref *ret, int timeout_ms);

/*
 * Names
 */

/*
 * Give an object a name, by which every process finds it. The name has a hold of its own, and outlives the session.
 * What had the name before is dropped, after the name has the new object: for that moment the heap has room for both. A
 * name is 1 to PYHEAP_NAME_MAX bytes of UTF-8, NUL-terminated.
 *
 * -EINVAL        the name is empty or not UTF-8
 * -ENAMETOOLONG  it is longer than PYHEAP_NAME_MAX
 * -EOVERFLOW     the object is held too often
 * -ENOMEM        no memory for the name
 */
int pyheap_name_set(pyheap *heap, const char *name, pyheap_ref ref);

/*
 * Hold the object of that name.
 *
 * Speed  The call takes no lock, and waits for nobody.
 *
 * -ENOENT  no object has that name
 * -ENOMEM  no memory to write the hold down
 * -EINVAL, -ENAMETOOLONG  no object can have that name
 */
int pyheap_name_get(pyheap *heap, const char *name, pyheap_ref *ret);

/*
 * Remove the name, and drop its hold.
 *
 * -ENOENT  no object has that name
 * -EINVAL, -ENAMETOOLONG  no object can have that name
 */
int pyheap_name_del(pyheap *heap, const char *name);

/*
 * Walk the names, as PyDict_Next() walks a dict: set *cursor to 0 and call until the result is 0. Each 1 writes a name
 * and its object's ref, which is *not* held for the caller. Names that others set or remove meanwhile may be seen or
 * not; every other name is seen once.
 */
int pyheap_name_next(pyheap *heap, uint64_t *cursor, char name[PYHEAP_NAME_MAX + 1], pyheap_ref *ret);

/*
 * The global lock
 */

/*
 * Take the global lock, for a change that is made of several calls. Calls of this session under the lock work as
 * always. The lock is the counterpart of CPython's, but a session takes it by itself for each call that needs it; a
 * program takes it only to keep others out between its calls.
 *
 * Others      Every other session that changes something shared waits: slots, queues, names, holds of objects that
 *             others made. So keep it short. Sessions go on with objects that no other session knows, and read slots
 *             and names: they see each call's change when that call has made it. For a change of several places that
 *             readers see as one, make a new object, and set the one slot or name that leads to it. A process that is
 *             stopped in the middle of a push or pop is waited for some milliseconds only; it finishes its call when
 *             it goes on.
 * Owner       The session has the lock, and the thread that took it. That thread gives it back with pyheap_unlock().
 *             Until then a call of the session in another thread returns -EPERM where it needs the lock.
 * Death       When the process dies, finished calls stay, the unfinished one is taken back, and the lock is free. When
 *             only the thread ends, the lock is free, and the session has it no more.
 * Closing     pyheap_close() in the thread that took the lock gives it back. In another thread it cannot: the lock
 *             becomes free when the thread that took it ends, or next makes a call of another session of this heap
 *             that needs the lock or closes that session.
 * Namespaces  The kernel cannot tell the threads of a process in another pid namespace than the heap's. There any
 *             thread of the session works under the lock and gives it back.
 *
 * -EDEADLK  this session has the lock, or another session of this thread has it
 */
int pyheap_lock(pyheap *heap);

/*
 * Give the global lock back.
 *
 * -EPERM  this session does not have it, or another thread of the session took it
 */
int pyheap_unlock(pyheap *heap);

/*
 * The heap as a whole
 */

typedef struct pyheap_class_stats {
	uint32_t size;        /* bytes of a block of this class */
	uint32_t pool_blocks; /* blocks in a pool of this class, or in a span of pools */
	uint64_t n_pools;     /* pools, or spans, of this class */
	uint64_t n_used;      /* their blocks that are an object */
	uint64_t n_available; /* their other blocks */
} pyheap_class_stats;

typedef struct pyheap_stats {
	uint64_t heap_size;  /* bytes that the heap may grow to */
	uint64_t arena_size; /* bytes of an arena */
	uint64_t pool_size;  /* bytes of a pool */
	pyheap_class_stats classes[PYHEAP_CLASSES];

	uint64_t n_arenas_allocated; /* arenas ever taken into use */
	uint64_t n_arenas_reclaimed; /* arenas ever given back */
	uint64_t n_arenas_highwater; /* most in use at one time */
	uint64_t n_arenas_current;   /* in use now */

	/* Every byte of the current arenas is in one of these eight; bytes_total is their exact sum. */
	uint64_t bytes_allocated_blocks; /* blocks that are objects */
	uint64_t bytes_available_blocks; /* the other blocks of pools that are in use */
	uint64_t bytes_unused_pools;     /* pools that are wholly free */
	uint64_t bytes_pool_headers;     /* the headers of the pools' blocks */
	uint64_t bytes_quantization;     /* ends of pools and runs: no block fits there, or the object is shorter */
	uint64_t bytes_medium_objects;   /* objects of whole pools, which are too large for the classes */
	uint64_t bytes_large_objects;    /* objects of whole arenas */
	uint64_t bytes_records;          /* the heap's own records: hold tables and names */
	uint64_t bytes_total;            /* n_arenas_current * arena_size */

	uint64_t n_medium_objects;
	uint64_t n_large_objects;
	uint64_t n_names;
	uint64_t n_types;      /* registered types */
	uint64_t n_sessions;   /* sessions that are open now */
	uint64_t max_sessions; /* sessions that the heap has room for */

	uint64_t n_lock_acquisitions; /* times that the global lock was taken */
	uint64_t n_lock_recoveries;   /* times that its owner was found dead, and its change was taken back */
	uint64_t n_lock_waits;        /* times that a session waited for it */
	uint64_t lock_wait_ns;        /* nanoseconds of all waits together */
	uint64_t lock_wait_max_ns;    /* nanoseconds of the longest wait */
	uint64_t n_locks_timed;       /* times that it was measured how long it was held: one in 64 */
	uint64_t lock_held_ns;        /* nanoseconds of these together */
	uint64_t lock_held_max_ns;    /* nanoseconds of the longest of these */

	uint64_t n_pools_claimed;   /* pools, and runs of pools, that became a session's own */
	uint64_t n_blocks_returned; /* blocks that another session than their pool's owner freed */
} pyheap_stats;

/*
 * Read the figures of the heap, as sys._debugmallocstats() prints CPython's. They are counted without the lock while
 * others go on: each pool as what it is at that moment, so that the eight figures of bytes always add up. It takes some
 * 0.2 ms per million small objects.
 *
 * In C, `pyheap_stats(heap, &stats)` is another way to write this call; it is a macro. C++ has the call by the name
 * pyheap_get_stats() alone, since there `pyheap_stats` is the type.
 */
int pyheap_get_stats(pyheap *heap, pyheap_stats *ret);
#ifndef __cplusplus
#define pyheap_stats(heap, ret) pyheap_get_stats((heap), (ret))
#endif

typedef struct pyheap_client_info {
	uint32_t session; /* index in the session table */
	int32_t pid;      /* as the daemon saw it when it connected; 0: of another pid namespace */
	uint32_t uid;
	uint32_t gid;
	uint64_t n_holds;    /* objects that it holds, each counted once */
	uint64_t start_time; /* of the process, in clock ticks since boot, as in /proc/PID/stat */
	uint8_t self;        /* 1: the session that asks */
	uint8_t has_lock;    /* 1: it has the global lock at this moment */
	uint8_t dead;        /* 1: it is gone and being reclaimed */
	char program[40];    /* the name of the process when it connected, cut to fit, NUL-terminated */
} pyheap_client_info;

/* Walk the sessions: set *cursor to 0 and call until the result is 0. Each 1 fills *ret. Takes no lock. */
int pyheap_client_next(pyheap *heap, uint64_t *cursor, pyheap_client_info *ret);

#define PYHEAP_SESSIONS_MAX 4096 /* most sessions that a heap can have */

typedef struct pyheap_usage {
	uint32_t session; /* index in the session table */
	uint32_t reserved;
	uint64_t n_arenas; /* arenas that were granted to it and are there, whichever session uses them now */
	uint64_t n_bytes;  /* bytes of the pools and runs that it owns, those included that it keeps free */
} pyheap_usage;

/*
 * Ask the daemon what memory each session has, sorted by their indices. Fills the first n entries of `ret` and returns
 * how many sessions there are. The arenas are those of the daemon's own file, where no client can write. The bytes are
 * counted while others go on.
 *
 * -ECONNRESET  there is no daemon
 * -ETIMEDOUT   the daemon did not answer
 */
int pyheap_get_usage(pyheap *heap, pyheap_usage *ret, size_t n);

/*
 * Ask the daemon to kill the process of a session, by its index. Root, the daemon's user and the session's own user
 * may. What the session held is dropped once the process has ended.
 *
 * -ESRCH      there is no such session
 * -EACCES     this user may not
 * -EPERM      the daemon may not signal that process; it has closed the session's connection
 * -EINVAL     it is this session
 */
int pyheap_evict(pyheap *heap, uint32_t session);

/*
 * Empty the heap that the daemon at `socket` (as pyheap_open()) serves: it ends the heap for all its sessions, to which
 * every call says -EPIPE from then on, and makes a fresh one, for those that are opened next. What was in the heap is
 * gone. Root and the daemon's user may. It needs no session, and works whatever is damaged. Returns the number of
 * sessions that were ended; pyheap_open_error() says more about errors, which are those of pyheap_open() and:
 *
 * -EBUSY   sessions use the heap, and with_sessions is 0; nothing was changed
 * -EACCES  this user may not
 * -ENOSPC  there is no room for a fresh heap beside the one that is there; nothing was changed (also -ENOMEM)
 * -ESTALE  somebody has removed the heap's files; nothing was changed
 */
int pyheap_reset(const char *socket, int with_sessions);

/*
 * Compare everything that is derived (free lists, bitmaps, counters, order of arenas, counts) with what it is derived
 * from (headers, hold tables, slots, names), in the whole heap. Returns the number of faults, and calls `report` with
 * one line for each of the first 1000. `report` may be NULL; `userdata` is handed to it; `fault` is good during the
 * call.
 *
 * Takes the global lock for the length of the walk, some 0.2 s per million objects: changes of others wait.
 *
 * -ENOMEM  the process has no memory for the walk
 */
int64_t pyheap_check(pyheap *heap, void (*report)(void *userdata, const char *fault), void *userdata);

/*
 * As pyheap_check(), and mend what is found. What is derived is made anew, counts become what hold tables, slots,
 * queues and names say, rights to objects that are not alive are removed, and objects that nothing holds are dropped.
 * Clients may go on working; their changes wait. Returns the number of faults that there were, when all are mended.
 *
 * A repair that a death cuts short is finished by the next call that needs the global lock. In a process that may not
 * use membarrier(2) such a call waits a second for another process that may, and then returns -EOPNOTSUPP.
 *
 * -EUCLEAN  faults are left; they are reported once more at the end
 * -ENOMEM   the process has no memory for the walk; nothing was mended
 */
int64_t pyheap_repair(pyheap *heap, void (*report)(void *userdata, const char *fault), void *userdata);

#ifdef __cplusplus
}
#endif

#include "pyheap-inline.h"

#endif
