// SPDX-License-Identifier: MIT
/*
 * Peer: Boost.Interprocess
 *
 * Each contender has a managed_shared_memory of its own (its usual allocator and index, under its process-shared
 * mutex), made here and inherited by the partner; its name is removed at once, so that nothing stays behind. Refs are
 * the segment's handles. What is compared:
 *
 *   pair-48         allocate and deallocate; no count, no type
 *   hold-drop       a copy of another process's boost::interprocess::shared_ptr: an atomic count, which stays too high
 *                   for ever when a process that has a copy is killed
 *   push-pop        message_queue of handles: any number of senders and receivers, under a mutex
 *   there-and-back  two of them
 *   hand-over       boost::lockfree::spsc_queue of handles: one sender, one receiver, no lock: its fastest way
 *   name-put-1k     destroy and construct of a named object
 *   name-get-1k     find; nothing keeps the object while it is looked at
 *
 * Nothing of C++ leaves this file: what is thrown becomes -EIO.
 */
#include "partner.h"
#include "works.h"

#include <boost/interprocess/ipc/message_queue.hpp>
#include <boost/interprocess/managed_shared_memory.hpp>
#include <boost/interprocess/smart_ptr/shared_ptr.hpp>
#include <boost/lockfree/spsc_queue.hpp>
#include <boost/version.hpp>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <unistd.h>

namespace ipc = boost::interprocess;

namespace
{

using segment = ipc::managed_shared_memory;
using handle = segment::handle_t;
using ring = boost::lockfree::spsc_queue<handle, boost::lockfree::capacity<QUEUE_SIZE>>;

constexpr size_t SEGMENT_SIZE = size_t(16) << 20;

template <typename F> int guarded(F function) noexcept
{
	try {
		return function();
	} catch (const std::bad_alloc &) {
		return -ENOMEM;
	} catch (const std::exception &) {
		return -EIO;
	}
}

std::string unique_name(const char *what)
{
	return "pyheap-bench." + std::to_string(getpid()) + "." + what;
}

std::unique_ptr<segment> segment_new(void)
{
	std::string name = unique_name("segment");
	std::unique_ptr<segment> made(new segment(ipc::create_only, name.c_str(), SEGMENT_SIZE));

	ipc::shared_memory_object::remove(name.c_str());
	return made;
}

/* ---- pair-48 ---------------------------------------------------------------------------------------------------- */

struct pair_state {
	std::unique_ptr<segment> memory = segment_new();
	size_t n_free = memory->get_free_memory();
};

int pair_setup(void **ret)
{
	return guarded([&] {
		*ret = new pair_state;
		return 0;
	});
}

int pair_run(void *state, uint64_t n)
{
	segment &memory = *static_cast<pair_state *>(state)->memory;

	return guarded([&] {
		for (uint64_t i = 0; i < n; i++) {
			void *object = memory.allocate(PAIR_SIZE);

			keep(object);
			memory.deallocate(object);
		}
		return 0;
	});
}

int pair_teardown(void *state)
{
	std::unique_ptr<pair_state> pair(static_cast<pair_state *>(state));

	return guarded([&] { return pair->memory->get_free_memory() == pair->n_free ? 0 : -EBADMSG; });
}

/* ---- hold-drop -------------------------------------------------------------------------------------------------- */

struct small {
	char bytes[PAIR_SIZE];
};
using small_pointer = ipc::managed_shared_ptr<small, segment>::type;

struct hold_state {
	std::unique_ptr<segment> memory = segment_new();
	small_pointer *pointers = nullptr; /* the partner's, in the segment */
	struct partner partner = {};
	uint64_t next = 0;
};

int hold_serve(void *userdata, int fd)
{
	segment &memory = *static_cast<hold_state *>(userdata)->memory;

	return guarded([&] {
		small_pointer *pointers = memory.construct<small_pointer>("pointers")[N_SHARED]();
		uint64_t word;

		for (size_t i = 0; i < N_SHARED; i++)
			pointers[i] = ipc::make_managed_shared_ptr(
				memory.construct<small>(ipc::anonymous_instance)(), memory);
		int r = partner_say(fd, N_SHARED);
		if (r >= 0)
			r = partner_wait(fd, &word);
		return r == -ECONNRESET ? 0 : r;
	});
}

int hold_teardown(void *state)
{
	std::unique_ptr<hold_state> hold(static_cast<hold_state *>(state));
	int r = 0;

	for (size_t i = 0; hold->pointers && i < N_SHARED; i++) {
		if (hold->pointers[i].use_count() != 1)
			r = -EBADMSG;
	}
	int stopped = partner_stop(&hold->partner);
	return r < 0 ? r : stopped;
}

int hold_setup(void **ret)
{
	return guarded([&] {
		std::unique_ptr<hold_state> hold(new hold_state);
		uint64_t n_made;
		int r = partner_start(&hold->partner, hold_serve, hold.get());

		if (r >= 0)
			r = partner_hear(hold->partner.fd, &n_made);
		if (r < 0) {
			partner_stop(&hold->partner);
			return r;
		}
		hold->pointers = hold->memory->find<small_pointer>("pointers").first;
		*ret = hold.release();
		return 0;
	});
}

int hold_run(void *state, uint64_t n)
{
	hold_state *hold = static_cast<hold_state *>(state);

	return guarded([&] {
		for (uint64_t i = 0; i < n; i++) {
			small_pointer held(hold->pointers[hold->next++ % N_SHARED]);

			keep(&held);
		}
		return 0;
	});
}

/* ---- queues ----------------------------------------------------------------------------------------------------- */

struct queue_state {
	std::unique_ptr<segment> memory = segment_new();
	ring *objects = memory->construct<ring>("ring")();
	std::unique_ptr<ipc::message_queue> there = queue_new("there"), back = queue_new("back");
	size_t n_free = memory->get_free_memory();
	struct partner partner = {};

	static std::unique_ptr<ipc::message_queue> queue_new(const char *what)
	{
		std::string name = unique_name(what);
		std::unique_ptr<ipc::message_queue> made(
			new ipc::message_queue(ipc::create_only, name.c_str(), QUEUE_SIZE, sizeof(handle)));

		ipc::message_queue::remove(name.c_str());
		return made;
	}
};

/* Until `step` has succeeded. */
template <typename F> int poll_until(F step)
{
	struct spin spin = {};

	while (!step()) {
		if (spin_again(&spin) < 0)
			return -ETIMEDOUT;
	}
	return 0;
}

int send_polling(ipc::message_queue &queue, handle what)
{
	return poll_until([&] { return queue.try_send(&what, sizeof(what), 0); });
}

int receive_polling(ipc::message_queue &queue, handle &ret)
{
	ipc::message_queue::size_type size;
	unsigned int priority;

	return poll_until([&] { return queue.try_receive(&ret, sizeof(ret), size, priority); });
}

/* The partner's side: `part` as often as told. */
template <typename F> int queue_serve(int fd, F part)
{
	return guarded([&] {
		uint64_t n;
		int r;

		while ((r = partner_wait(fd, &n)) >= 0) {
			for (uint64_t i = 0; r >= 0 && i < n; i++)
				r = part();
			if (r >= 0)
				r = partner_say(fd, n);
		}
		return r == -ECONNRESET ? 0 : r;
	});
}

int queue_setup(void **ret, int (*serve)(void *userdata, int fd))
{
	return guarded([&] {
		std::unique_ptr<queue_state> queue(new queue_state);

		if (serve) {
			int r = partner_start(&queue->partner, serve, queue.get());

			if (r < 0)
				return r;
		}
		*ret = queue.release();
		return 0;
	});
}

int queue_teardown(void *state)
{
	std::unique_ptr<queue_state> queue(static_cast<queue_state *>(state));
	int r = partner_stop(&queue->partner);

	/* All that was handed over was given up there. */
	return r < 0 || queue->memory->get_free_memory() == queue->n_free ? r : -EBADMSG;
}

int push_pop_setup(void **ret)
{
	return queue_setup(ret, nullptr);
}

int push_pop_run(void *state, uint64_t n)
{
	queue_state *queue = static_cast<queue_state *>(state);

	return guarded([&] {
		ipc::message_queue::size_type size;
		unsigned int priority;

		for (uint64_t i = 0; i < n; i++) {
			handle sent = handle(i), got;

			if (!queue->there->try_send(&sent, sizeof(sent), 0))
				return -EAGAIN;
			if (!queue->there->try_receive(&got, sizeof(got), size, priority))
				return -EAGAIN;
			if (got != sent)
				return -EBADMSG;
		}
		return 0;
	});
}

int round_trip_serve(void *userdata, int fd)
{
	queue_state *queue = static_cast<queue_state *>(userdata);

	return queue_serve(fd, [&] {
		handle what;
		int r = receive_polling(*queue->there, what);

		return r < 0 ? r : send_polling(*queue->back, what);
	});
}

int round_trip_setup(void **ret)
{
	return queue_setup(ret, round_trip_serve);
}

int round_trip_run(void *state, uint64_t n)
{
	queue_state *queue = static_cast<queue_state *>(state);

	return guarded([&] {
		uint64_t n_done;
		int r = partner_say(queue->partner.fd, n);

		for (uint64_t i = 0; r >= 0 && i < n; i++) {
			handle sent = handle(i), got;

			r = send_polling(*queue->there, sent);
			if (r >= 0)
				r = receive_polling(*queue->back, got);
			if (r >= 0 && got != sent)
				r = -EBADMSG;
		}
		return r < 0 ? r : partner_hear(queue->partner.fd, &n_done);
	});
}

int hand_over_serve(void *userdata, int fd)
{
	queue_state *queue = static_cast<queue_state *>(userdata);

	return queue_serve(fd, [&] {
		handle what;
		int r = poll_until([&] { return queue->objects->pop(what); });

		if (r >= 0)
			queue->memory->deallocate(queue->memory->get_address_from_handle(what));
		return r;
	});
}

int hand_over_setup(void **ret)
{
	return queue_setup(ret, hand_over_serve);
}

int hand_over_run(void *state, uint64_t n)
{
	queue_state *queue = static_cast<queue_state *>(state);

	return guarded([&] {
		uint64_t n_done;
		int r = partner_say(queue->partner.fd, n);

		for (uint64_t i = 0; r >= 0 && i < n; i++) {
			handle what = queue->memory->get_handle_from_address(queue->memory->allocate(PAIR_SIZE));

			r = poll_until([&] { return queue->objects->push(what); });
		}
		return r < 0 ? r : partner_hear(queue->partner.fd, &n_done);
	});
}

/* ---- names ------------------------------------------------------------------------------------------------------ */

struct named {
	uint8_t bytes[NAMED_SIZE];

	explicit named(const uint8_t *from)
	{
		memcpy(bytes, from, sizeof(bytes));
	}
};

struct name_state {
	std::unique_ptr<segment> memory = segment_new();
	uint8_t bytes[NAMED_SIZE];
	uint64_t next = 0;

	name_state()
	{
		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = uint8_t(i * 7 + 1);
		for (size_t i = 0; i < N_NAMES; i++)
			memory->construct<named>(work_name(i))(bytes);
	}
};

int names_setup(void **ret)
{
	return guarded([&] {
		*ret = new name_state;
		return 0;
	});
}

int put_run(void *userdata, uint64_t n)
{
	name_state *state = static_cast<name_state *>(userdata);

	return guarded([&] {
		for (uint64_t i = 0; i < n; i++) {
			const char *name = work_name(state->next++ % N_NAMES);

			if (!state->memory->destroy<named>(name))
				return -ENOENT;
			state->memory->construct<named>(name)(state->bytes);
		}
		return 0;
	});
}

int get_run(void *userdata, uint64_t n)
{
	name_state *state = static_cast<name_state *>(userdata);

	return guarded([&] {
		for (uint64_t i = 0; i < n; i++) {
			const named *found = state->memory->find<named>(work_name(state->next++ % N_NAMES)).first;

			if (!found)
				return -ENOENT;
			if (found->bytes[0] != state->bytes[0])
				return -EBADMSG;
		}
		return 0;
	});
}

int names_teardown(void *userdata)
{
	std::unique_ptr<name_state> state(static_cast<name_state *>(userdata));

	return guarded([&] {
		for (size_t i = 0; i < N_NAMES; i++) {
			const named *found = state->memory->find<named>(work_name(i)).first;

			if (!found || memcmp(found->bytes, state->bytes, NAMED_SIZE))
				return -EBADMSG;
		}
		return 0;
	});
}

/* ----------------------------------------------------------------------------------------------------------------- */

const char *boost_version(void)
{
	static std::string version = std::to_string(BOOST_VERSION / 100000) + "." +
				     std::to_string(BOOST_VERSION / 100 % 1000) + "." +
				     std::to_string(BOOST_VERSION % 100);

	return version.c_str();
}

const struct peer_entry entries[] = {
	{WORK_PAIR_48, {"allocate, deallocate; no counts", pair_setup, pair_run, pair_teardown}},
	{WORK_HOLD_DROP, {"shared_ptr copied, destroyed", hold_setup, hold_run, hold_teardown}},
	{WORK_PUSH_POP, {"message_queue of 8-byte handles", push_pop_setup, push_pop_run, queue_teardown}},
	{WORK_THERE_AND_BACK,
		{"two message_queues, both sides polling", round_trip_setup, round_trip_run, queue_teardown}},
	{WORK_HAND_OVER,
		{"allocate | deallocate; spsc_queue, polling", hand_over_setup, hand_over_run, queue_teardown}},
	{WORK_NAME_PUT, {"destroy, construct", names_setup, put_run, names_teardown}},
	{WORK_NAME_GET, {"find; holds nothing", names_setup, get_run, names_teardown}},
};

} // namespace

extern "C" const struct peer peer_boost = {
	"Boost.Interprocess", nullptr, boost_version, entries, sizeof(entries) / sizeof(*entries)};
