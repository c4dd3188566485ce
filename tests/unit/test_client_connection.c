// SPDX-License-Identifier: MIT
/*
 * The client's side of the socket, against a daemon that is a thread and does as the test says
 *
 * Which socket is chosen, and what pyheap_open() makes of every answer that a good, an old, a broken or a hostile
 * daemon could give, descriptors of something else included.
 */
#include "client/session.h"
#include "heap/repair/recover.h"

#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAP_SIZE (UINT64_C(16) << 20)

/* ---- which socket ----------------------------------------------------------------------------------------------- */

START_TEST(test_address)
{
	char exact[sizeof(((struct sockaddr_un *)0)->sun_path)], longer[sizeof(exact) + 1];
	struct sockaddr_un address;

	setenv("PYHEAP_SOCKET", "/from/environment", 1);
	ck_assert_int_eq(connection_address("/given", &address), 0);
	ck_assert_str_eq(address.sun_path, "/given");
	ck_assert_int_eq(address.sun_family, AF_UNIX);
	ck_assert_int_eq(connection_address(NULL, &address), 0);
	ck_assert_str_eq(address.sun_path, "/from/environment");
	ck_assert_int_eq(connection_address("", &address), -ENOENT);
	setenv("PYHEAP_SOCKET", "", 1);
	ck_assert_int_eq(connection_address(NULL, &address), -ENOENT);

	memset(exact, 'x', sizeof(exact) - 1);
	exact[sizeof(exact) - 1] = '\0';
	ck_assert_int_eq(connection_address(exact, &address), 0);
	ck_assert_str_eq(address.sun_path, exact);
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	ck_assert_int_eq(connection_address(longer, &address), -ENAMETOOLONG);
}
END_TEST

START_TEST(test_address_default)
{
	struct sockaddr_un address;

	unsetenv("PYHEAP_SOCKET");
	setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
	if (geteuid() == 0) {
		ck_assert_int_eq(connection_address(NULL, &address), 0);
		ck_assert_str_eq(address.sun_path, "/run/pyheap/pyheap.sock");
		ck_assert_int_eq(seteuid(65534), 0);
	}
	ck_assert_int_eq(connection_address(NULL, &address), 0);
	ck_assert_str_eq(address.sun_path, "/run/user/7/pyheap.sock");
	unsetenv("XDG_RUNTIME_DIR");
	ck_assert_int_eq(connection_address(NULL, &address), -ENOENT);
	if (getuid() == 0) { /* a leak checker traces this process at its end, which who changed his user denies */
		ck_assert_int_eq(seteuid(0), 0);
		ck_assert_int_eq(prctl(PR_SET_DUMPABLE, 1), 0);
	}
}
END_TEST

/* ---- a daemon that does as it is told --------------------------------------------------------------------------- */

struct peer {
	char folder[32];
	char path[48];
	int listen_fd;
	pthread_t thread;
	void (*play)(struct peer *peer, int fd);
	struct heap *heap; /* what a good one serves */
	uint32_t index;
	Pyheap__Hello *hello; /* what the client said */
	Pyheap__ToDaemon *request;
	int n_fds; /* descriptors that a Welcome carries */
};

static struct peer peer;

static Pyheap__ToDaemon *peer_receive(int fd)
{
	Pyheap__ToDaemon *message = NULL;
	uint8_t bytes[1024];
	ssize_t l;

	l = recv(fd, bytes, sizeof(bytes), 0);
	if (l > 0)
		frame_unpack_to_daemon(bytes, (size_t)l, &message);
	return message;
}

static void *peer_run(void *userdata)
{
	struct peer *p = userdata;
	int fd = accept(p->listen_fd, NULL, NULL);

	if (fd >= 0) {
		p->request = peer_receive(fd);
		p->play(p, fd);
		close(fd);
	}
	return NULL;
}

static void peer_start(void (*play)(struct peer *peer, int fd))
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	peer.play = play;
	strcpy(peer.folder, "/tmp/pyheap-unit-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(peer.folder));
	snprintf(peer.path, sizeof(peer.path), "%s/s", peer.folder);
	strcpy(address.sun_path, peer.path);
	peer.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(peer.listen_fd, 0);
	ck_assert_int_eq(bind(peer.listen_fd, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(peer.listen_fd, 1), 0);
	/* From here on connections wait; nobody needs the path to be there once they do. */
	ck_assert_int_eq(pthread_create(&peer.thread, NULL, peer_run, &peer), 0);
}

/* Open against a peer; both are over afterwards but for the session. */
static int open_against(void (*play)(struct peer *peer, int fd), pyheap **ret)
{
	int r;

	peer_start(play);
	r = pyheap_open(ret, peer.path);
	ck_assert_int_eq(unlink(peer.path), 0);
	ck_assert_int_eq(rmdir(peer.folder), 0);
	return r;
}

static void peer_end(void)
{
	pthread_join(peer.thread, NULL);
	close(peer.listen_fd);
	if (peer.request)
		pyheap__to_daemon__free_unpacked(peer.request, NULL);
	peer.request = NULL;
}

static void ck_refused(void (*play)(struct peer *peer, int fd), int code)
{
	pyheap *heap = NULL;

	ck_assert_int_eq(open_against(play, &heap), -code);
	ck_assert_ptr_null(heap);
	peer_end();
}

static void play_error(int fd, int code)
{
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Error error = PYHEAP__ERROR__INIT;
	char text[] = "as the test says";

	error.code = code;
	error.text = text;
	message.body_case = PYHEAP__FROM_DAEMON__BODY_ERROR;
	message.error = &error;
	frame_send(fd, &message.base, NULL, 0, -1);
}

static void play_users(struct peer *p, int fd)
{
	(void)p;
	play_error(fd, EUSERS);
}

static void play_access(struct peer *p, int fd)
{
	(void)p;
	play_error(fd, EACCES);
}

static void play_no_errno(struct peer *p, int fd)
{
	(void)p;
	play_error(fd, -5);
}

static void play_silence(struct peer *p, int fd)
{
	(void)p, (void)fd; /* and the end of the connection */
}

static void play_goodbye(struct peer *p, int fd)
{
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Goodbye goodbye = PYHEAP__GOODBYE__INIT;

	(void)p;
	message.body_case = PYHEAP__FROM_DAEMON__BODY_GOODBYE;
	message.goodbye = &goodbye;
	frame_send(fd, &message.base, NULL, 0, -1);
}

static void play_out_of_order(struct peer *p, int fd)
{
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Grant grant = PYHEAP__GRANT__INIT;

	(void)p;
	message.body_case = PYHEAP__FROM_DAEMON__BODY_GRANT;
	message.grant = &grant;
	frame_send(fd, &message.base, NULL, 0, -1);
}

static void play_too_long(struct peer *p, int fd)
{
	(void)p;
	ck_assert_int_eq(send(fd, "\xff\xff\xff\xff", 4, MSG_NOSIGNAL), 4);
}

static void play_rubbish(struct peer *p, int fd)
{
	(void)p;
	ck_assert_int_eq(send(fd, "\x04\0\0\0\xff\xff\xff\xff", 8, MSG_NOSIGNAL), 8);
}

static void play_cut(struct peer *p, int fd)
{
	(void)p;
	ck_assert_int_eq(send(fd, "\x20\0\0\0\x01", 5, MSG_NOSIGNAL), 5);
}

/* What a test changes about a Welcome that is right. */
static struct {
	uint32_t protocol;
	uint64_t layout_hash;
	uint32_t session;
	size_t id_len, token_len;
} lie;

static void play_welcome(struct peer *p, int fd)
{
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Welcome welcome = PYHEAP__WELCOME__INIT;
	uint8_t id[HEAP_ID_SIZE], token[TOKEN_SIZE] = {0};
	int fds[2] = {p->heap->control_fd, p->heap->heap_fd};
	char version[] = "0";

	memcpy(id, p->heap->control->heap_id, sizeof(id));
	welcome.protocol = PROTO_VERSION + lie.protocol;
	welcome.layout_hash = layout_hash() + lie.layout_hash;
	welcome.session = p->index + lie.session;
	welcome.control_size = p->heap->control_size;
	welcome.heap_size = p->heap->heap_size;
	welcome.arena_size = p->heap->arena_size;
	welcome.heap_id = (ProtobufCBinaryData){HEAP_ID_SIZE - lie.id_len, id};
	welcome.token = (ProtobufCBinaryData){TOKEN_SIZE - lie.token_len, token};
	welcome.version = version;
	message.body_case = PYHEAP__FROM_DAEMON__BODY_WELCOME;
	message.welcome = &welcome;
	frame_send(fd, &message.base, fds, (size_t)p->n_fds, -1);
}

/* Good, but the second descriptor is not a heap's. */
static void play_other_files(struct peer *p, int fd)
{
	int control_fd = p->heap->control_fd;

	p->heap->control_fd = p->heap->heap_fd;
	play_welcome(p, fd);
	p->heap->control_fd = control_fd;
}

/* Good, and then away at the first request. */
static void play_welcome_and_go(struct peer *p, int fd)
{
	play_welcome(p, fd);
	pyheap__to_daemon__free_unpacked(p->request, NULL);
	p->request = peer_receive(fd);
}

/* Good, and there is no memory. */
static void play_welcome_and_no_memory(struct peer *p, int fd)
{
	play_welcome_and_go(p, fd);
	play_error(fd, ENOMEM);
	while (recv(fd, (char[64]){0}, 64, 0) > 0)
		;
}

static void heap_setup(void)
{
	struct heap_geometry geometry = {HEAP_SIZE, ARENA_SIZE_DEFAULT, 4};
	struct session_identity claim = {.pid = getpid(), .program = "test"};
	int control_fd = memfd_create("control", MFD_CLOEXEC), heap_fd = memfd_create("heap", MFD_CLOEXEC);

	memset(&peer, 0, sizeof(peer));
	memset(&lie, 0, sizeof(lie));
	peer.n_fds = 2;
	ck_assert_int_eq(heap_create(&peer.heap, control_fd, heap_fd, "test", &geometry), 0);
	ck_assert_int_eq(session_admit(peer.heap, &claim, &peer.index), 0);
}

static void heap_teardown(void)
{
	heap_free(peer.heap);
}

START_TEST(test_refusals)
{
	ck_refused(play_users, EUSERS);
	ck_refused(play_access, EACCES);
	ck_refused(play_no_errno, EPROTO);
	ck_refused(play_silence, ECONNRESET);
	ck_refused(play_goodbye, ECONNRESET);
	ck_refused(play_out_of_order, EPROTO);
	ck_refused(play_too_long, EPROTO);
	ck_refused(play_rubbish, EPROTO);
	ck_refused(play_cut, ECONNRESET);
}
END_TEST

START_TEST(test_welcomes_that_are_wrong)
{
	lie.protocol = 1;
	ck_refused(play_welcome, EPROTO);
	lie.protocol = 0, lie.layout_hash = 1;
	ck_refused(play_welcome, EPROTO);
	lie.layout_hash = 0, lie.session = 4;
	ck_refused(play_welcome, EUCLEAN);
	lie.session = UINT32_MAX - 1;
	ck_refused(play_welcome, EUCLEAN);
	lie.session = 0, lie.id_len = 1;
	ck_refused(play_welcome, EPROTO);
	lie.id_len = 0, lie.token_len = 1;
	ck_refused(play_welcome, EPROTO);
	lie.token_len = 0, peer.n_fds = 1;
	ck_refused(play_welcome, EPROTO);
	peer.n_fds = 0;
	ck_refused(play_welcome, EPROTO);
	peer.n_fds = 2;
	ck_refused(play_other_files, EUCLEAN);
}
END_TEST

START_TEST(test_hello_says_who)
{
	pyheap *heap;

	ck_assert_int_eq(open_against(play_welcome, &heap), 0);
	pthread_join(peer.thread, NULL);
	ck_assert_int_eq(peer.request->body_case, PYHEAP__TO_DAEMON__BODY_HELLO);
	ck_assert_uint_eq(peer.request->hello->protocol, PROTO_VERSION);
	ck_assert_uint_eq(peer.request->hello->layout_hash, layout_hash());
	ck_assert_str_eq(peer.request->hello->program, program_invocation_short_name);
	ck_assert_uint_eq(peer.request->hello->resume_token.len, 0);
	ck_assert_int_ge(pyheap_fd(heap), 0);
	pyheap_close(heap);
	peer_end();
}
END_TEST

/* A daemon that is gone when memory is wanted; one that ended; both sessions can still be closed. */
START_TEST(test_daemon_goes)
{
	pyheap_ref ref = 77;
	pyheap *heap;

	ck_assert_int_eq(open_against(play_welcome_and_go, &heap), 0);
	ck_assert_int_eq(pyheap_set_timeout(heap, 200), 0); /* no other daemon will come */
	ck_assert_int_eq(pyheap_new(heap, PYHEAP_BYTES, 48, &ref), -ECONNRESET);
	ck_assert_int_eq(peer.request->body_case, PYHEAP__TO_DAEMON__BODY_GRANT_REQUEST);
	ck_assert_uint_eq(peer.request->grant_request->run_length, 1);
	ck_assert_uint_eq(peer.request->grant_request->n_runs, 1);
	ck_assert_uint_eq(ref, 77);
	ck_assert_int_eq(pyheap_new(heap, PYHEAP_BYTES, 48, &ref), -ECONNRESET);
	ck_assert_int_eq(pyheap_refcount(heap, 12345), -EINVAL);

	peer.heap->control->ended = HEAP_ENDED;
	ck_assert_int_eq(pyheap_new(heap, PYHEAP_BYTES, 48, &ref), -EPIPE);
	ck_assert_ptr_null(pyheap_close(heap));
	peer_end();
}
END_TEST

START_TEST(test_no_memory)
{
	pyheap_ref ref;
	pyheap *heap;

	ck_assert_int_eq(open_against(play_welcome_and_no_memory, &heap), 0);
	ck_assert_int_eq(pyheap_new(heap, PYHEAP_BYTES, 5 * ARENA_SIZE_DEFAULT, &ref), -ENOMEM);
	ck_assert_uint_eq(peer.request->grant_request->run_length, 5);
	ck_assert_uint_eq(peer.request->grant_request->n_runs, 1);
	pyheap_close(heap);
	peer_end();
}
END_TEST

static Suite *connection_suite(void)
{
	Suite *suite = suite_create("client_connection");
	TCase *address = tcase_create("address"), *answers = tcase_create("answers");

	tcase_add_test(address, test_address);
	tcase_add_test(address, test_address_default);
	suite_add_tcase(suite, address);
	tcase_add_checked_fixture(answers, heap_setup, heap_teardown);
	tcase_add_test(answers, test_refusals);
	tcase_add_test(answers, test_welcomes_that_are_wrong);
	tcase_add_test(answers, test_hello_says_who);
	tcase_add_test(answers, test_daemon_goes);
	tcase_add_test(answers, test_no_memory);
	suite_add_tcase(suite, answers);
	return suite;
}

int main(void)
{
	SRunner *runner = srunner_create(connection_suite());
	int n_failed;

	srunner_run_all(runner, CK_ENV);
	n_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
