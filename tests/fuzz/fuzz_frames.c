// SPDX-License-Identifier: MIT
/*
 * Fuzzer: whatever comes over sockets
 *
 * Four clients of a daemon (inside.c) connect, send, say the right thing at the wrong moment, and vanish, as the input
 * says: see take_step(). Afterwards all of them are gone, and so must be everything that the daemon had for them: their
 * connections, their sessions, and the memory that was granted to them. The heap must be whole, and empty.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/inside.h"

#include "daemon/answer.h"
#include "heap/repair/check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define N_CLIENTS 4U
#define STEPS_MAX 256U
#define RESTS_MAX 100U

enum step {
	STEP_BYTES,   /* n bytes as they are */
	STEP_MESSAGE, /* n bytes as a message, behind its length */
	STEP_SPLIT,   /* the same, byte by byte, and the daemon looks in between */
	STEP_HELLO,
	STEP_RESUME, /* a session, by its right token */
	STEP_GRANT,
	STEP_STATS,
	STEP_USAGE,
	STEP_RESET,
	STEP_EVICT,
	STEP_GOODBYE,
	STEP_MANY, /* n times a request for figures, at once */
	STEP_READ, /* what the daemon has said */
	STEP_SHUT, /* nothing more is sent */
	STEP_CLOSE,
	STEP_REST, /* the daemon works until it would sleep */
	STEP_TICK,
	N_STEPS,
};

static struct inside inside;
static struct heap *heap;
static int fds[N_CLIENTS];

static void set_up(void)
{
	struct heap_geometry geometry = inside_geometry();
	int control_fd = memfd_create("control", MFD_CLOEXEC), heap_fd = memfd_create("heap", MFD_CLOEXEC);

	if (heap_create(&heap, control_fd, heap_fd, "fuzz", &geometry) < 0)
		INSIDE_FAULT("no heap");
	inside_open(&inside, heap);
	memset(fds, -1, sizeof(fds));
}

static void vanish(uint32_t i)
{
	if (fds[i] >= 0)
		close(fds[i]);
	fds[i] = -1;
}

/* What does not fit into the socket is lost, as with a client that does not wait. */
static void say(uint32_t i, const void *bytes, size_t n)
{
	if (send(fds[i], bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN)
		vanish(i);
}

static void say_message(uint32_t i, const Pyheap__ToDaemon *message, uint64_t n_times)
{
	uint8_t *frame;
	size_t size;

	if (frame_pack(&message->base, &frame, &size) < 0)
		return;
	while (n_times-- > 0 && fds[i] >= 0)
		say(i, frame, size);
	free(frame);
}

static void say_bytes(uint32_t i, enum step step, struct fuzz_input *input)
{
	size_t n = fuzz_take(input, 1), size = FRAME_PREFIX + n;
	uint8_t frame[FRAME_PREFIX + 256] = {(uint8_t)n};

	for (size_t k = 0; k < n; k++)
		frame[FRAME_PREFIX + k] = (uint8_t)fuzz_take(input, 1);
	if (step == STEP_BYTES)
		say(i, frame + FRAME_PREFIX, n);
	else if (step == STEP_MESSAGE)
		say(i, frame, size);
	else
		for (size_t k = 0; k < size && fds[i] >= 0; k++) {
			say(i, frame + k, 1);
			event_base_loop(inside.base, EVLOOP_NONBLOCK);
		}
}

static void say_hello(uint32_t i, enum step step, struct fuzz_input *input)
{
	Pyheap__ToDaemon message = PYHEAP__TO_DAEMON__INIT;
	Pyheap__Hello body = PYHEAP__HELLO__INIT;

	body.protocol = PROTO_VERSION;
	body.layout_hash = layout_hash();
	body.program = (char *)"fuzz";
	if (step == STEP_RESUME) {
		uint64_t word = fuzz_take(input, 1);

		body.resume_session = (uint32_t)(word % INSIDE_SESSIONS);
		body.has_lock = word & 0x80;
		body.resume_token =
			(ProtobufCBinaryData){16, (uint8_t *)heap->truth->sessions[body.resume_session].token};
	}
	message.body_case = PYHEAP__TO_DAEMON__BODY_HELLO;
	message.hello = &body;
	say_message(i, &message, 1);
}

static void say_request(uint32_t i, enum step step, struct fuzz_input *input)
{
	Pyheap__ToDaemon message = PYHEAP__TO_DAEMON__INIT;
	Pyheap__GrantRequest grant = PYHEAP__GRANT_REQUEST__INIT;
	Pyheap__StatsRequest stats = PYHEAP__STATS_REQUEST__INIT;
	Pyheap__UsageRequest usage = PYHEAP__USAGE_REQUEST__INIT;
	Pyheap__ResetRequest reset = PYHEAP__RESET_REQUEST__INIT;
	Pyheap__EvictRequest evict = PYHEAP__EVICT_REQUEST__INIT;
	Pyheap__Goodbye goodbye = PYHEAP__GOODBYE__INIT;
	uint64_t n_times = 1;

	switch (step) {
	case STEP_GRANT:
		grant.run_length = (uint32_t)fuzz_take(input, 1);
		grant.n_runs = (uint32_t)fuzz_take(input, 1);
		message.body_case = PYHEAP__TO_DAEMON__BODY_GRANT_REQUEST;
		message.grant_request = &grant;
		break;
	case STEP_USAGE:
		usage.first = (uint32_t)fuzz_take(input, 1);
		message.body_case = PYHEAP__TO_DAEMON__BODY_USAGE_REQUEST;
		message.usage_request = &usage;
		break;
	case STEP_RESET:
		reset.with_sessions = fuzz_take(input, 1) & 1;
		message.body_case = PYHEAP__TO_DAEMON__BODY_RESET_REQUEST;
		message.reset_request = &reset;
		break;
	case STEP_EVICT:
		evict.session = (uint32_t)fuzz_take(input, 1);
		message.body_case = PYHEAP__TO_DAEMON__BODY_EVICT_REQUEST;
		message.evict_request = &evict;
		break;
	case STEP_GOODBYE:
		message.body_case = PYHEAP__TO_DAEMON__BODY_GOODBYE;
		message.goodbye = &goodbye;
		break;
	default:
		if (step == STEP_MANY)
			n_times = fuzz_take(input, 1);
		message.body_case = PYHEAP__TO_DAEMON__BODY_STATS_REQUEST;
		message.stats_request = &stats;
	}
	say_message(i, &message, n_times);
}

static void take_step(struct fuzz_input *input)
{
	uint64_t word = fuzz_take(input, 1);
	uint32_t i = (uint32_t)(word / N_STEPS % N_CLIENTS);
	enum step step = (enum step)(word % N_STEPS);
	char heard[4096];

	if (fds[i] < 0 && step < STEP_CLOSE)
		inside_connect(&inside, &fds[i]);
	switch (step) {
	case STEP_BYTES:
	case STEP_MESSAGE:
	case STEP_SPLIT:
		say_bytes(i, step, input);
		break;
	case STEP_HELLO:
	case STEP_RESUME:
		say_hello(i, step, input);
		break;
	case STEP_READ:
		if (recv(fds[i], heard, sizeof(heard), MSG_DONTWAIT) == 0) /* its descriptors are closed: no room */
			vanish(i);
		break;
	case STEP_SHUT:
		shutdown(fds[i], SHUT_WR);
		break;
	case STEP_CLOSE:
		vanish(i);
		break;
	case STEP_REST:
		inside_rest(&inside);
		break;
	case STEP_TICK:
		inside_tick(&inside);
		break;
	default:
		say_request(i, step, input);
	}
	event_base_loop(inside.base, EVLOOP_NONBLOCK);
}

/* All clients have gone: nothing of them may be left. */
static void expect_nothing(void)
{
	struct session view;

	for (uint32_t n = 0; n < RESTS_MAX && (inside.sessions.n_used || !TAILQ_EMPTY(&inside.connections.list)); n++) {
		inside_tick(&inside);
		inside_rest(&inside);
	}
	if (!TAILQ_EMPTY(&inside.connections.list) || inside.connections.n_open || inside.connections.n_closing)
		INSIDE_FAULT("connections are left: %u open, %u closing", inside.connections.n_open,
			inside.connections.n_closing);
	if (inside.sessions.n_used)
		INSIDE_FAULT("%u sessions are left", inside.sessions.n_used);
	for (uint32_t n = 0; n < 2 * INSIDE_HEAP_SIZE / INSIDE_ARENA_SIZE; n++) {
		inside_tick(&inside);
		inside_rest(&inside);
	}
	for (uint32_t i = 0; i < heap->n_arenas; i++)
		if (truth_arena_state(heap->truth, i) != TRUTH_HOLE || heap->is_mapped[i])
			INSIDE_FAULT("arena %u is left", i);
	session_init(&view, heap, SESSION_DAEMON);
	if (heap_check(&view, NULL, NULL) != 0)
		INSIDE_FAULT("the heap is damaged");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};

	if (!heap)
		set_up();
	for (uint32_t n = 0; n < STEPS_MAX && input.size > 0; n++)
		take_step(&input);
	for (uint32_t i = 0; i < N_CLIENTS; i++)
		vanish(i);
	expect_nothing();
	return 0;
}

/* A step of one client. */
#define STEP(client, step) (uint8_t)((client)*N_STEPS + (step))

bool fuzz_write_seeds(const char *folder)
{
	static const uint8_t life[] = {STEP(0, STEP_HELLO), STEP(0, STEP_REST), STEP(0, STEP_GRANT), 1, 2,
		STEP(0, STEP_REST), STEP(0, STEP_STATS), STEP(0, STEP_REST), STEP(0, STEP_READ), STEP(0, STEP_GOODBYE)};
	static const uint8_t pipelined[] = {STEP(0, STEP_HELLO), STEP(0, STEP_GRANT), 3, 1, STEP(0, STEP_MANY), 200,
		STEP(0, STEP_GOODBYE), STEP(0, STEP_REST)};
	static const uint8_t resumed[] = {STEP(0, STEP_HELLO), STEP(0, STEP_GRANT), 1, 1, STEP(0, STEP_REST),
		STEP(1, STEP_RESUME), 0, STEP(1, STEP_REST), STEP(1, STEP_RESUME), 0x80, STEP(1, STEP_TICK),
		STEP(1, STEP_CLOSE), STEP(2, STEP_RESUME), 0, STEP(0, STEP_STATS), STEP(2, STEP_SHUT)};
	static const uint8_t crowd[] = {STEP(0, STEP_HELLO), STEP(1, STEP_HELLO), STEP(2, STEP_HELLO),
		STEP(3, STEP_HELLO), STEP(3, STEP_REST), STEP(0, STEP_EVICT), 1, STEP(2, STEP_EVICT), 2,
		STEP(1, STEP_USAGE), 0, STEP(2, STEP_CLOSE), STEP(2, STEP_RESET), 1, STEP(1, STEP_GRANT), 20, 1,
		STEP(3, STEP_GRANT), 16, 1, STEP(3, STEP_REST), STEP(3, STEP_CLOSE)};
	static const uint8_t raw[] = {STEP(0, STEP_SPLIT), 23, 0x0a, 21, 0x08, 1, 0x11, 1, 2, 3, 4, 5, 6, 7, 8, 0x1a, 4,
		'f', 'u', 'z', 'z', 0x2a, 2, 9, 9, STEP(1, STEP_MESSAGE), 2, 0x1a, 0, STEP(2, STEP_BYTES), 4, 0, 0, 1,
		0, STEP(2, STEP_TICK), STEP(0, STEP_REST)};

	return fuzz_write_seed(folder, "life", life, sizeof(life)) &&
	       fuzz_write_seed(folder, "pipelined", pipelined, sizeof(pipelined)) &&
	       fuzz_write_seed(folder, "resumed", resumed, sizeof(resumed)) &&
	       fuzz_write_seed(folder, "crowd", crowd, sizeof(crowd)) &&
	       fuzz_write_seed(folder, "raw", raw, sizeof(raw));
}
