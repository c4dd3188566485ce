/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What lies in shared memory, and who writes it
 *
 * Two POSIX shared memory objects make a heap. The *control* segment has the manager's records of fixed place: this
 * header, the global lock with its undo log, the counters, the sessions, types, name buckets, arenas and pools. The
 * *heap* segment is a sparse file: arena i lies at i * arena_size, pool p at p * 4 KiB.
 *
 * Only offsets, indices and positions are kept, never pointers. An index or position that may be none is kept plus one,
 * so that 0, what fresh memory has, means none; such members end in 1 (`next1`).
 *
 * Who writes: "locked" means whoever has the global lock, through the undo log (heap_set(), see lock.h). "daemon" means
 * the daemon alone, without the lock. "owner" means the session that owns the pool, by plain stores within one of its
 * calls (see gate.c), or whoever has the lock while that session is kept out or dead, through the log. A member without
 * any is written once, before the segment is handed out.
 *
 * A ref is a position and a generation: bits 0..35 are the payload's offset in the heap segment in units of 8 bytes (so
 * 512 GiB can be named), bits 36..63 the generation, which is never 0. Each pool counts its generations in the control
 * segment, where they outlive the arena's memory; every block it hands out gets the next one. A ref that is not of this
 * very object thus differs from it, whatever became of the block, until its pool has made 2^28 objects more.
 *
 * The one truth of whether a block is alive is its header word. The headers of a pool's blocks stand together at the
 * start of its page: a page of them is read fast when blocks are gathered, and a client that writes past its object's
 * end hits its neighbour's payload first, not a header. An object of whole pools or arenas has its header in the
 * control segment, in the entry of its first pool, so that its payload starts on a page and wastes none.
 */

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LAYOUT_MAGIC   UINT64_C(0x0070616568797001) /* "\1pyheap\0" */
#define LAYOUT_VERSION 7U

#define ARENA_SIZE_DEFAULT (UINT32_C(256) << 10)
#define ARENA_SIZE_MIN     (UINT32_C(64) << 10)
#define ARENA_SIZE_MAX     (UINT32_C(4) << 20)
#define HEAP_SIZE_MAX      (UINT64_C(512) << 30) /* what 36 bits in units of 8 bytes can name */

#define POOL_SIZE           4096U
#define POOL_SHIFT          12U
#define POOLS_PER_ARENA_MAX (ARENA_SIZE_MAX / POOL_SIZE)

#define BLOCK_ALIGNMENT 8U
#define BLOCK_SIZE_MAX  512U /* larger objects are runs of pools or of arenas */
#define N_CLASSES       64U
#define CLASS_NONE      255U

#define REF_POSITION_BITS 36U
#define REF_POSITION_MASK ((UINT64_C(1) << REF_POSITION_BITS) - 1)
#define GENERATION_MAX    ((UINT32_C(1) << 28) - 1)

#define SESSIONS_MAX     4096U
#define SESSIONS_DEFAULT 512U
#define TYPES_MAX        1024U
#define TYPE_SLOTS_MAX   16384U /* offsets of all registered types together */
#define LOG_CAPACITY     8192U
#define HOLDS_INLINE     64U              /* holds of a session before its table needs a run of pools */
#define SPARE_RUN_MAX    16U              /* pools of the longest run that a session keeps for its next object */
#define SESSION_DAEMON   (UINT32_MAX - 1) /* in place of a session's index: the daemon itself */

/* ---- header of an object ---------------------------------------------------------------------------------------- */

/*
 * word:   bits 0..6 how often the session that owns its pool holds it, 7..9 the state, 10..19 the payload's size where
 *         it is a block (the run's entry has it otherwise), 20..35 the type, 36..63 the generation. Of a free block
 *         20..35 are the link instead, the next of its pool's free list plus one, and 0..19 are 0. A pool's headers
 *         are zeroed when it takes a class, so 0 is a block never carved, or the last of those that were carved
 *         together and never handed out.
 * rights: how many others have a right to it: sessions by their hold tables, slots, queue places, names. It is the sum
 *         of two, modulo 2^30: rights_counted, bits 2..31, which may be less than 0, and those that the pool's owner
 *         gave away. biased1 is the session, plus one, that may change rights_counted without the lock; 0: each may,
 *         and becomes it. Once RIGHTS_SHARED is set it stays for the object's life: others may look at it at any time;
 *         RIGHTS_LOCKED: whoever has the lock is changing it. See count.c. All 0 where it is not alive; of a dying
 *         object the position of the next dying one of its session, plus one, times 4.
 *
 * An object is alive while its state is LIVE and one of the two counts is not 0.
 */
struct object_header {
	uint64_t word; /* owner while it holds it; else locked, claimed; from LIVE to RETURNED also by who drops it
			  last. The truth about the object */
	union {
		struct {
			uint32_t rights_counted; /* locked, claimed; or who it is biased to, with the word */
			uint16_t biased1;        /* the same, not logged */
			uint16_t rights_given;   /* owner while it holds it; else locked, claimed */
		};
		uint64_t rights; /* the three */
	};
};

#define OWN_HOLDS_MAX    UINT64_C(127) /* what the word can count; more go into the hold table */
#define RIGHTS_LOCKED    UINT32_C(1)
#define RIGHTS_SHARED    UINT32_C(2)
#define RIGHTS_ONE       UINT32_C(4)
#define RIGHTS_MAX       (UINT32_MAX / RIGHTS_ONE)
#define RIGHTS_GIVEN_MAX UINT16_MAX

enum object_state {
	STATE_FREE = 0,
	STATE_LIVE = 1,
	STATE_DYING = 2,       /* nobody has a right to it: on the dying list of a session that takes it down */
	STATE_MAKING = 3,      /* allocated for a session that has not finished its slots: the session's `making` */
	STATE_REMOTE_FREE = 4, /* freed by somebody else than the pool's owner, who has not gathered it yet */
};

/* Types of the heap's own records; no ref of one is ever good outside. */
enum record_type {
	TYPE_NONE = 0,
	TYPE_BYTES = 1,
	TYPE_LIST = 2,
	TYPE_QUEUE = 3,
	TYPE_HOLDS = 4, /* the hold table of a session */
	TYPE_NAME = 5,  /* a name entry */
	TYPE_FIRST_REGISTERED = 16,
};

/* ---- lists ----------------------------------------------------------------------------------------------------- */

/* An entry's neighbours in a doubly linked list, see list.h. */
union list_links {
	struct {
		uint32_t next1;
		uint32_t prev1;
	};
	uint64_t both;
};

/* ---- pools ------------------------------------------------------------------------------------------------------ */

enum pool_kind {
	POOL_FREE = 0,   /* or, in a run, any pool but its first */
	POOL_BLOCKS = 1, /* blocks of one class */
	POOL_RUN = 2,    /* first pool of an object of whole pools or arenas */
};

/*
 * An entry per pool of the heap segment. A pool that no session owns (owner1 is 0) is changed under the lock alone.
 * Members that stand in one word are logged together, and where several change mostly changed by one store to it.
 */
struct pool_entry {
	union {
		struct {
			uint8_t kind;       /* locked: enum pool_kind */
			uint8_t size_class; /* locked: that its headers and free list are of; kept while POOL_FREE, as
					       CPython's szidx */
			uint16_t owner1;    /* locked: the session that makes objects in it, plus one */
		};
		uint32_t identity; /* the three, read at once */
	};
	uint32_t generation; /* owner: the last one handed out, 1..GENERATION_MAX; survives everything */

	union {
		struct {
			uint16_t n_used;   /* owner: blocks that are not free */
			uint16_t n_carved; /* owner: nextoffset, in blocks: those from here on are on no list yet */
			uint16_t reserved1;
			uint16_t freeblock1; /* owner: the block freed last; the top bits of counts: one shift */
		};
		uint64_t counts; /* the three, which its owner reads and mostly stores at once */
	};

	struct object_header header; /* of the run that starts here */

	union {
		struct {
			uint32_t next1; /* owner: in usedpools[class], its owner's or that of pools nobody owns */
			uint32_t prev1; /* owner */
		};
		union list_links links; /* both */
	};
	union {
		struct {                        /* of a run */
			uint64_t run_size;      /* owner: its payload, bytes */
			uint32_t run_n_pools;   /* locked: its pools, all arenas' together */
			uint32_t run_n_dropped; /* locked: its slots dropped so far, while it is dying */
		};
		struct { /* of a pool of blocks that a session owns; all locked */
			union {
				struct {
					uint32_t remote_next1; /* in its owner's remote_pools */
					uint32_t remote_prev1;
				};
				union list_links remote_links; /* both */
			};
			union {
				struct {
					uint16_t is_on_remote_list; /* it is on that list */
					uint16_t is_notified; /* not logged: who returns a block need not put it there;
							     see count.c */
					uint32_t reserved2;
				};
				uint64_t remote_flags; /* all of them */
			};
		};
	};
	union {
		struct {
			uint32_t owned_next1; /* locked: in its owner's owned_pools, of all classes and runs */
			uint32_t owned_prev1; /* locked */
		};
		union list_links owned_links; /* both */
	};
};

/* ---- arenas ----------------------------------------------------------------------------------------------------- */

/*
 *            daemon            session          any session          daemon
 *   HOLE --> MAPPING --> GRANTED --> POOLS ---------------------> RETURNING --> HOLE
 *                                \-> RUN --> RETURNABLE --------/
 *                                     ^----------/
 * A run of n arenas has its state at its head; the others are BODY from MAPPING to the end of RETURNING.
 */
enum arena_state {
	ARENA_HOLE = 0,       /* not there: no memory, not mapped */
	ARENA_MAPPING = 1,    /* daemon: is being allocated and mapped, for `session1` */
	ARENA_GRANTED = 2,    /* daemon: it is there and `session1` may take it into use */
	ARENA_POOLS = 3,      /* locked: on usable_arenas, or all its pools are taken */
	ARENA_RUN = 4,        /* locked: one large object */
	ARENA_RETURNABLE = 5, /* locked: a large object that is gone; on the list returnable_arenas */
	ARENA_RETURNING = 6,  /* locked to get there, then daemon: is being unmapped and punched */
	ARENA_BODY = 7,       /* daemon: belongs to the run at whose head n_arenas counts it */
};

struct arena_entry {
	uint32_t state;        /* enum arena_state; see there who writes it */
	uint32_t session1;     /* daemon: whom it was granted to */
	uint32_t n_arenas;     /* daemon: length of the run whose head this is */
	uint32_t space;        /* locked: enum space_kind whose pools it has */
	uint32_t n_free_pools; /* locked: nfreepools */
	uint32_t reserved0;
	union {
		struct {
			uint32_t next1; /* locked: in usable_arenas or returnable_arenas */
			uint32_t prev1; /* locked */
		};
		union list_links links; /* both */
	};
	uint64_t reserved1[4];
};

/* How free an arena of pools is: 0 none of them are, 1 to 8 by eighths, RANK_FREE all are; see arena_rank(). */
#define RANK_FREE 9U
#define N_RANKS   (RANK_FREE + 1)

/* ---- spaces ----------------------------------------------------------------------------------------------------- */

/* Memory for the manager's own records is kept apart from memory for objects: each has its pools and arenas. */
enum space_kind {
	SPACE_OBJECTS = 0,
	SPACE_RECORDS = 1,
	N_SPACES = 2,
};

struct space {
	uint32_t usedpools1[N_CLASSES]; /* locked: the first pool with room of each class, of those nobody owns */
	uint32_t usable_arenas1;        /* locked: arenas with free pools, ascending by their rank */
	uint32_t n_free_arenas;         /* locked: of them, those of which every pool is free */
	uint32_t rank2lasta1[N_RANKS];  /* locked: the last usable arena of that rank */
};

/* ---- sessions --------------------------------------------------------------------------------------------------- */

enum session_state {
	SESSION_FREE = 0,
	SESSION_ACTIVE = 1,
	SESSION_DEAD = 2, /* its process is known to be gone, or it said goodbye: being reclaimed */
};

/*
 * The low two bits of `attachment`; the others are of the session's token, so that an offer is of one admission and no
 * other. By compare-and-swap from OFFERED, by the session or the daemon, whoever is first.
 */
enum attachment {
	ATTACHMENT_OFFERED = 0, /* daemon: admitted; whether the client got to know of it is not known */
	ATTACHMENT_TAKEN = 1,   /* session: it is in use, until its process ends or it is closed */
	ATTACHMENT_CLOSED = 2,  /* session: it has dropped everything and goes; daemon: nobody took it */
	ATTACHMENT_MASK = 3,
};

/* An entry of a hold table; linear probing. */
struct hold {
	uint64_t ref;   /* locked, or the session alone with an intent: what is held, or HOLD_EMPTY */
	uint32_t count; /* locked, or the session alone from 1 up: how often it holds it; without a ref it says nothing
			 */
	uint32_t reserved;
};

#define HOLD_EMPTY UINT64_C(0)

/* What a session is to look after before its next call that needs no lock. Bits. */
enum request {
	REQUEST_BLOCK = 1,    /* wait for the lock: its owner keeps the session out */
	REQUEST_STRANGER = 2, /* somebody has come to an object that the session had told nobody of */
	REQUEST_COLLECT = 4,  /* gather the blocks that were returned */
	REQUEST_ENDED = 8,    /* the heap was taken down; stays */
	REQUEST_REBUILD = 16, /* make what is its own anew: a rebuild had perhaps begun with it; see rebuild.c */
};

/* Calls that need no lock; see gate.c. */
enum activity {
	ACTIVITY_NONE = 0,   /* daemon, from ACTIVITY_DONE: the session has made none since */
	ACTIVITY_ACTIVE = 1, /* session: it is in the middle of one */
	ACTIVITY_DONE = 2,   /* session: it is not */
};

/*
 * What a session is about to do without the lock, or in steps that are committed one by one. It is complete before the
 * session goes inside (activity), and is the truth about one right: see queue.c and, for holding and dropping, count.c.
 */
enum intent_kind {
	INTENT_NONE = 0,
	INTENT_RIGHT = 1,      /* it has a right to ref itself */
	INTENT_PUSH = 2,       /* the right is the hold table's, then the intent's, then the place's */
	INTENT_PUSH_RIGHT = 3, /* the intent's, then the place's */
	INTENT_PUSH_OWN = 4,   /* the owner's, by the header's word; then given: the intent's, then the place's */
	INTENT_POP = 5,        /* the place's, then the intent's, then the hold table's */
	INTENT_POP_RIGHT = 6,  /* the place's, then the intent's */
	INTENT_HOLD = 7,       /* nobody's, then counted and the intent's, then the hold table's */
	INTENT_DROP = 8,       /* the hold table's, then counted no more, with no right to it in the table */
};

/* The session writes it; once it is dead, whoever has the lock. */
struct intent {
	uint64_t ref;
	uint64_t queue;    /* a ref, which the session holds */
	uint64_t position; /* in the queue; to hold or drop: rights_counted as it was, or INTENT_UNKNOWN */
	uint64_t word;     /* bits 0..3 enum intent_kind, stored last; 4..63 its number, which moves before all else */
};

struct session_entry {
	uint32_t state;      /* daemon: enum session_state */
	int32_t pid;         /* daemon: of the process, in the daemon's pid namespace; 0 where it has none there */
	uint64_t start_time; /* daemon: of that process, clock ticks since boot: pid and this name it for good */
	uint32_t uid;        /* daemon */
	uint32_t gid;        /* daemon */
	uint64_t token[2];   /* daemon: what the client shows to be this session again */
	char program[40];    /* daemon: what the process calls itself, NUL-terminated */

	uint64_t holds_position1;     /* locked: of the hold table's run, plus one; 0: holds_inline */
	uint64_t new_holds_position1; /* locked: of the table that is being filled to replace it, plus one */
	uint32_t holds_shift;         /* locked: log2 of the table's entries */
	uint32_t attachment;          /* enum attachment; see there who writes it */
	uint64_t n_holds;             /* as they: entries that are holds: different objects held */
	uint64_t dying1;        /* locked: position of the first object that this session has to take down, plus one */
	uint64_t making1;       /* locked: position of the object that it is making, plus one */
	uint64_t pid_namespace; /* daemon: inode of its own when it admitted the session: what pid is a number of */

	uint64_t intent_before;   /* session, with its intent: n_holds, or what it gives away, as they were; or: */
#define INTENT_UNKNOWN UINT64_MAX /* nothing was changed yet */
	uint64_t reserved0[6];

	uint64_t n_own_holds; /* owner: objects in its own pools that it holds; for reports */
	uint32_t requests;    /* whoever has the lock, without the log, and the daemon: enum request; see gate.c */
	uint32_t is_fenced;   /* the session: its calls need no barrier of others; see gate.c */
	uint32_t activity;    /* enum activity; see there who writes it */
	uint32_t reserved1;
	uint64_t n_blocks_returned; /* session: of others, without the lock; for reports, in figures once it is over */
	struct intent intent;

	uint32_t usedpools1[N_CLASSES];      /* owner: its first pool with room of each class */
	uint32_t spare_runs1[SPARE_RUN_MAX]; /* owner: a free run of 1, 2, ... pools that it keeps */

	uint32_t owned_pools1;   /* locked: all pools and runs that it owns */
	uint32_t remote_pools1;  /* locked: those of them that have blocks in STATE_REMOTE_FREE */
	uint32_t n_remote_frees; /* whoever has the lock, not logged: moves when a block is returned to it */
	uint32_t reserved2;
	uint64_t done;          /* locked: that number's intent has taken place, should nothing else tell any more */
	uint64_t done_counting; /* whoever has the lock, not logged: the same of holding and dropping */
	uint64_t reserved3[4];

	struct hold holds_inline[HOLDS_INLINE]; /* locked */
};

/* ---- types and names -------------------------------------------------------------------------------------------- */

struct type_entry {
	char name[64]; /* locked, and never changed once n_types counts it */
	uint64_t size;
	uint32_t alignment;
	uint32_t n_slots;
	uint32_t first_slot; /* into type_slots */
	uint32_t reserved0;
	uint64_t reserved1[5];
};

/* A block of SPACE_RECORDS, as large as the name needs. */
struct name_entry {
	uint64_t next; /* locked: position of the next of its bucket; 0, where no block lies: none */
	uint64_t ref;  /* locked: the object it names */
	uint64_t hash; /* as the rest: written before the entry is linked; a bucket's entries ascend by it */
	uint16_t length;
	char name[6]; /* `length` bytes; six of them fill the struct */
};

/* ---- queues ----------------------------------------------------------------------------------------------------- */

/*
 * A place of a queue; both words change by one compare-and-swap. Positions count all that was ever pushed, from 0;
 * place i has those that are i modulo the queue's n.
 *
 * stamp: bits 0..39 the position that is in it or, while it is empty, that it waits for, less i (so that zeroed memory
 * is an empty queue); 40..51 the session that filled it last, 52..63 the one that emptied it last.
 */
struct cell {
	uint64_t ref; /* any session: the queue's right; 0: empty */
	uint64_t stamp;
};

#define CELL_LAP_BITS   40U
#define CELL_LAP_MASK   ((UINT64_C(1) << CELL_LAP_BITS) - 1)
#define CELL_SESSION    UINT64_C(0xfff)
#define CELL_FILLED_BY  40U /* shifts */
#define CELL_EMPTIED_BY 52U

/* The payload of a PYHEAP_QUEUE. What both sides write lies in cache lines apart. */
struct queue {
	uint64_t n;            /* places: fixed when it is made */
	uint32_t pop_seq;      /* any session: a futex, moves when who waits on it is woken, for an empty place */
	uint32_t push_seq;     /* the same, for a filled one */
	uint32_t pop_waiting;  /* any session: somebody may wait on push_seq */
	uint32_t push_waiting; /* the same: on pop_seq */
	uint64_t reserved0[5];
	uint64_t head; /* any session, a hint: no position before it is in a place */
	uint64_t reserved1[7];
	uint64_t tail; /* the same: all before it were pushed */
	uint64_t reserved2[7];
	struct cell cells[];
};

/* ---- lock and log ----------------------------------------------------------------------------------------------- */

struct log_entry {
	uint64_t where; /* bit 63: in the heap segment, else in control; bit 0: a claim; the rest: its offset */
	uint64_t old;   /* what the aligned word of 8 bytes held; of a claim: of 4, a header's rights_counted */
};

#define LOG_WHERE_HEAP        (UINT64_C(1) << 63)
#define LOG_WHERE_HEADER_LOCK UINT64_C(1)

struct global_lock {
	pthread_mutex_t mutex; /* robust, process-shared */
	uint8_t pad[64 - sizeof(pthread_mutex_t)];
	uint32_t owner1; /* whoever has the lock: its session (or SESSION_DAEMON) plus one; 0: nobody. For reports only
			  */
	uint32_t n_entries;      /* whoever has the lock: entries of the log; storing 0 is the commit */
	uint64_t n_acquisitions; /* whoever has the lock */
	uint64_t n_recoveries;   /* whoever has the lock */
	uint32_t overflowed;     /* whoever has the lock: the log was full, the change must be taken back */
	uint32_t n_unlocking;    /* whoever has the lock: of so many entries the claims are to be let go of */
	uint64_t reserved1[4];
	struct log_entry entries[LOG_CAPACITY]; /* whoever has the lock */
};

/* ---- counters --------------------------------------------------------------------------------------------------- */

/* All locked, all derived: check.c counts them anew. What pools and blocks are is counted when somebody asks: stats.c.
 */
struct counters {
	uint64_t n_arenas_allocated;
	uint64_t n_arenas_reclaimed;
	uint64_t n_arenas_highwater;
	uint64_t n_arenas_current;
	uint64_t n_names;
	uint64_t reserved[3];
};

/* ---- figures ----------------------------------------------------------------------------------------------------- */

/* For reports only. Whoever has the lock writes them, without the log: those of a change that is taken back count, too.
 */
struct figures {
	uint64_t n_lock_waits;      /* times that somebody waited for the lock */
	uint64_t lock_wait_ns;      /* how long, all together */
	uint64_t lock_wait_max_ns;  /* the longest */
	uint64_t n_locks_timed;     /* times that it was looked how long the lock was held: one in LOCK_TIMED_ONE_IN */
	uint64_t lock_held_ns;      /* how long, all together */
	uint64_t lock_held_max_ns;  /* the longest */
	uint64_t n_pools_claimed;   /* pools and runs that came to a session */
	uint64_t n_blocks_returned; /* blocks freed by somebody else than the pool's owner */
};

/* ---- the control segment ---------------------------------------------------------------------------------------- */

/* What `ended` is then. Above every address and number: by one comparison those are known to be good, and a heap to be
 * there still. */
#define HEAP_ENDED UINT64_MAX

struct control {
	uint64_t magic;
	uint32_t version;
	uint32_t reserved0;
	uint64_t layout_hash; /* of the version, and the sizes and offsets of everything here: a new meaning is a new
				 version */
	uint64_t control_size;
	uint64_t heap_size;
	uint32_t arena_size;
	uint32_t n_arenas;
	uint32_t pools_per_arena;
	uint32_t n_sessions;
	uint32_t n_name_buckets; /* a power of two */
	uint32_t reserved4;
	uint8_t heap_id[16];  /* random, made with the heap */
	uint8_t name_key[16]; /* random: keys the hash of names */
	char heap_name[64];

	/* Offsets in this segment. */
	uint64_t sessions_off;
	uint64_t types_off;
	uint64_t type_slots_off;
	uint64_t name_buckets_off;
	uint64_t arenas_off;
	uint64_t freepools_off; /* a bitmap per arena: freepools, a set bit is a free pool; locked */
	uint64_t pools_off;

	uint64_t geometry_hash; /* of heap_size, arena_size and n_sessions, from which all else here follows */
	uint64_t pid_namespace; /* inode of the daemon's that made the heap: thread ids of it alone own the lock, see
				   lock.c */
	uint64_t reserved1[2];

	uint64_t ended;           /* daemon: HEAP_ENDED once the heap was taken down on purpose, else 0 */
	uint32_t n_arenas_known;  /* daemon: arenas from here on were never anything but HOLE */
	uint32_t n_arenas_mapped; /* daemon: the pool entries of those before it are there: at most n_arenas_known */
	uint32_t n_repairs;       /* whoever has the lock, without the log: moves when what is derived was made anew */
	uint32_t queues_paused_by1; /* whoever has the lock between calls: its session, plus one; see
				       critical_pause_queues() */
	uint64_t reserved2[6];

	struct global_lock lock;
	struct counters counters;
	struct space spaces[N_SPACES];
	struct figures figures;
	uint32_t returnable_arenas1; /* locked: large objects' arenas that wait to be used again or returned */
	uint32_t n_types;            /* whoever has the lock, without the log: see type.c */
	uint32_t n_type_slots;       /* locked */
	uint32_t rebuilding;         /* whoever has the lock: what is derived is being made anew, see rebuild.c */
};

static_assert(sizeof(struct object_header) == 16, "headers are packed at a pool's start");
static_assert(sizeof(struct pool_entry) == 64, "one cache line");
static_assert(offsetof(struct pool_entry, n_used) == 8, "words that are logged together");
static_assert(offsetof(struct pool_entry, header) % 16 == 0, "changed as a whole");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "counts");
static_assert(offsetof(struct pool_entry, owned_next1) == 56, "");
static_assert(SESSIONS_MAX < UINT16_MAX, "owner1");
static_assert(sizeof(struct arena_entry) == 64, "one cache line");
static_assert(sizeof(struct hold) == 16, "");
static_assert(sizeof(struct session_entry) == 640 + HOLDS_INLINE * sizeof(struct hold), "");
static_assert(offsetof(struct session_entry, n_own_holds) == 192, "what its calls write has cache lines of its own");
static_assert(offsetof(struct session_entry, usedpools1) == 256, "");
static_assert(offsetof(struct session_entry, owned_pools1) == 576, "so has what others write while it works");
static_assert(offsetof(struct session_entry, holds_position1) % 8 == 0, "");
static_assert(offsetof(struct session_entry, attachment) == 100, "clients in other languages store to it");
static_assert(sizeof(struct type_entry) == 128, "");
static_assert(offsetof(struct name_entry, name) == 26, "");
static_assert(sizeof(struct queue) == 192 && offsetof(struct queue, cells) == 192, "places are aligned");
static_assert(sizeof(struct cell) == 16 && SESSIONS_MAX <= CELL_SESSION + 1, "");
static_assert(sizeof(struct log_entry) == 16, "");
static_assert(offsetof(struct global_lock, entries) == 128, "");
static_assert(offsetof(struct control, lock) % 64 == 0, "the lock has cache lines of its own");
static_assert(sizeof(pthread_mutex_t) <= 64, "");
static_assert(sizeof(struct space) % 8 == 0, "");
static_assert(BLOCK_SIZE_MAX / BLOCK_ALIGNMENT == N_CLASSES, "");
