// SPDX-License-Identifier: MIT
/*
 * A thread that plays the daemon for one session, as the test says
 *
 * It is of the same process as the session, so a test reads what the client sent once the thread has ended or waits.
 */
#include "peer.h"

#include "heap/change/supply.h"
#include "heap/repair/recover.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define RUNS_MAX 16U

struct peer peer;
struct peer_lie peer_lie;

void peer_heap_setup(void)
{
	struct heap_geometry geometry = {PEER_HEAP_SIZE, ARENA_SIZE_DEFAULT, 4};
	struct session_identity identity = {.pid = getpid(), .program = "test"};
	int control_fd = memfd_create("control", MFD_CLOEXEC), heap_fd = memfd_create("heap", MFD_CLOEXEC);

	memset(&peer, 0, sizeof(peer));
	memset(&peer_lie, 0, sizeof(peer_lie));
	peer.n_fds = 2;
	ck_assert_int_eq(heap_create(&peer.heap, control_fd, heap_fd, "test", &geometry), 0);
	ck_assert_int_eq(session_admit(peer.heap, &identity, &peer.index), 0);
}

void peer_heap_teardown(void)
{
	heap_free(peer.heap);
}

/* The thread has it except while it waits for a message. */
static pthread_mutex_t working = PTHREAD_MUTEX_INITIALIZER;

bool peer_receive(struct peer *p, int fd)
{
	uint8_t bytes[1024]; /* a client's message comes in one piece, and is shorter */
	ssize_t l;

	pthread_mutex_unlock(&working);
	l = recv(fd, bytes, sizeof(bytes), 0);
	pthread_mutex_lock(&working);
	if (l <= 0)
		return false;
	if (p->request)
		pyheap__to_daemon__free_unpacked(p->request, NULL);
	p->request = NULL;
	return frame_unpack_to_daemon(bytes, (size_t)l, &p->request) == 0;
}

static void *peer_run(void *userdata)
{
	struct peer *p = userdata;
	int fd = accept(p->listen_fd, NULL, NULL);

	pthread_mutex_lock(&working);
	if (fd >= 0) {
		if (peer_receive(p, fd))
			p->play(p, fd);
		close(fd);
	}
	pthread_mutex_unlock(&working);
	return NULL;
}

static void peer_start(void (*play)(struct peer *peer, int fd))
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	peer.play = play;
	peer.is_over = false;
	strcpy(peer.folder, "/tmp/pyheap-unit-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(peer.folder));
	snprintf(peer.path, sizeof(peer.path), "%s/s", peer.folder);
	strcpy(address.sun_path, peer.path);
	peer.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(peer.listen_fd, 0);
	ck_assert_int_eq(bind(peer.listen_fd, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(peer.listen_fd, 1), 0);
	ck_assert_int_eq(pthread_create(&peer.thread, NULL, peer_run, &peer), 0);
}

int peer_open(void (*play)(struct peer *peer, int fd), pyheap **ret)
{
	int r;

	peer_start(play);
	r = pyheap_open(ret, peer.path);
	ck_assert_int_eq(unlink(peer.path), 0);
	ck_assert_int_eq(rmdir(peer.folder), 0);
	return r;
}

void peer_rest(void)
{
	pthread_mutex_lock(&working);
	pthread_mutex_unlock(&working);
}

void peer_wait(void)
{
	if (!peer.is_over)
		ck_assert_int_eq(pthread_join(peer.thread, NULL), 0);
	peer.is_over = true;
}

void peer_end(void)
{
	peer_wait();
	close(peer.listen_fd);
	if (peer.request)
		pyheap__to_daemon__free_unpacked(peer.request, NULL);
	peer.request = NULL;
}

void peer_send(int fd, const Pyheap__FromDaemon *message)
{
	frame_send(fd, &message->base, NULL, 0, -1);
}

void peer_send_error(int fd, int code)
{
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Error error = PYHEAP__ERROR__INIT;
	char text[] = "as the test says";

	error.code = code;
	error.text = text;
	message.body_case = PYHEAP__FROM_DAEMON__BODY_ERROR;
	message.error = &error;
	peer_send(fd, &message);
}

void peer_welcome(struct peer *p, int fd)
{
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Welcome welcome = PYHEAP__WELCOME__INIT;
	uint8_t id[HEAP_ID_SIZE], token[TOKEN_SIZE] = {0};
	int fds[2] = {p->heap->control_fd, p->heap->heap_fd};
	char version[] = "0";

	memcpy(id, p->heap->control->heap_id, sizeof(id));
	welcome.protocol = PROTO_VERSION + peer_lie.protocol;
	welcome.layout_hash = layout_hash() + peer_lie.layout_hash;
	welcome.session = p->index + peer_lie.session;
	welcome.control_size = p->heap->control_size;
	welcome.heap_size = p->heap->heap_size;
	welcome.arena_size = p->heap->arena_size;
	welcome.heap_id = (ProtobufCBinaryData){HEAP_ID_SIZE - peer_lie.id_len, id};
	welcome.token = (ProtobufCBinaryData){TOKEN_SIZE - peer_lie.token_len, token};
	welcome.version = version;
	message.body_case = PYHEAP__FROM_DAEMON__BODY_WELCOME;
	message.welcome = &welcome;
	frame_send(fd, &message.base, fds, (size_t)p->n_fds, -1);
}

void peer_grant(struct peer *p, int fd, uint32_t n)
{
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Grant grant = PYHEAP__GRANT__INIT;
	uint32_t heads[RUNS_MAX];

	ck_assert_uint_le(n, RUNS_MAX);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t n_mapped = 0;

		ck_assert_int_eq(
			supply_reserve(p->heap, p->index, p->request->grant_request->run_length, &heads[i]), 0);
		while (supply_map_step(p->heap, heads[i], 4, &n_mapped) == 0)
			;
	}
	grant.n_heads = n;
	grant.heads = heads;
	message.body_case = PYHEAP__FROM_DAEMON__BODY_GRANT;
	message.grant = &grant;
	peer_send(fd, &message);
}
