// SPDX-License-Identifier: MIT
/*
 * Sessions in every state: resumed, closed and dead at moments that a client over a socket cannot choose
 *
 * All parts of the daemon between a socket and the heap are here, but for the loop: the test makes the turns of work
 * and reads the connections itself. A thread keeps the global lock where a session is to stay RESUMING, as what was
 * granted to it cannot be taken back then.
 */
#include "tests/unit/daemon/box.h"

#include "daemon/answer.h"
#include "daemon/dispatch.h"
#include "heap/change/lock.h"
#include "heap/repair/recover.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define MIB        (UINT64_C(1) << 20)
#define N_SESSIONS 2U

static struct event_base *base;
static struct heap *heap;
static struct session self;
static struct work work;
static struct trim trim;
static struct users users;
static struct connections connections;
static struct dsessions sessions;
static struct admission admission;
static uint32_t n_freed;

/* The other end of a connection. */
struct client {
	int fd;
	struct frame_buffer buffer;
	struct connection *connection; /* the daemon's end; dangling once that is freed */
	uint32_t session;
	uint8_t token[16];
};

static void started(void *owner)
{
	(void)owner;
}

static void freed(void *owner)
{
	n_freed++;
	admit_waiting(owner);
}

static void set_up(void)
{
	const struct heap_geometry geometry = {
		.heap_size = 4 * MIB, .arena_size = ARENA_SIZE_DEFAULT, .n_sessions = N_SESSIONS};
	int control_fd = memfd_create("control", MFD_CLOEXEC), heap_fd = memfd_create("heap", MFD_CLOEXEC);

	box_catch_log();
	base = event_base_new();
	ck_assert_ptr_nonnull(base);
	ck_assert_int_eq(heap_create(&heap, control_fd, heap_fd, "unit", &geometry), 0);
	session_init(&self, heap, SESSION_DAEMON);
	ck_assert_int_eq(work_init(&work, base), 0);
	trim_init(&trim, &self, &work, 1, 0);
	users_init(&users);
	sessions = (struct dsessions){
		.self = &self,
		.base = base,
		.work = &work,
		.trim = &trim,
		.users = &users,
		.started = started,
		.freed = freed,
		.owner = &admission,
	};
	ck_assert_int_eq(dsessions_init(&sessions), 0);
	admission = (struct admission){.connections = &connections, .sessions = &sessions};
	connections_init(&connections, base, &work, &users, &dispatch_handlers, &admission);
	n_freed = 0;
}

static void tear_down(void)
{
	connections_deinit(&connections);
	dsessions_deinit(&sessions);
	users_deinit(&users);
	work_deinit(&work);
	event_base_free(base);
	heap = heap_free(heap);
}

/* ---- the daemon's turns ------------------------------------------------------------------------------------------ */

/* Make turns until nothing is left, or all that is left waits for the lock. */
static int work_all(void)
{
	int r;

	do
		r = work_turn(&work);
	while (r > 0);
	return r;
}

/* The loop frees what is closed, and nothing else: it never waits. */
static void free_closed(void)
{
	event_base_loop(base, EVLOOP_NONBLOCK);
}

/* ---- a client ---------------------------------------------------------------------------------------------------- */

static void client_connect(struct client *client)
{
	int fds[2];

	*client = (struct client){.fd = -1};
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	client->fd = fds[1];
	ck_assert_int_eq(connection_new(&connections, fds[0]), 0);
	client->connection = TAILQ_LAST(&connections.list, connection_list);
}

static void client_send(struct client *client, Pyheap__ToDaemon *message)
{
	ck_assert_int_eq(frame_send(client->fd, &message->base, NULL, 0, 0), 0);
	connection_read(client->connection);
}

static void client_hello(struct client *client, const struct client *before)
{
	Pyheap__ToDaemon message = PYHEAP__TO_DAEMON__INIT;
	Pyheap__Hello body = PYHEAP__HELLO__INIT;

	body.protocol = PROTO_VERSION;
	body.layout_hash = layout_hash();
	body.program = (char *)"unit";
	if (before) {
		body.resume_session = before->session;
		body.resume_token = (ProtobufCBinaryData){sizeof(before->token), (uint8_t *)before->token};
	}
	message.body_case = PYHEAP__TO_DAEMON__BODY_HELLO;
	message.hello = &body;
	client_send(client, &message);
}

static void client_goodbye(struct client *client)
{
	Pyheap__ToDaemon message = PYHEAP__TO_DAEMON__INIT;
	Pyheap__Goodbye body = PYHEAP__GOODBYE__INIT;

	message.body_case = PYHEAP__TO_DAEMON__BODY_GOODBYE;
	message.goodbye = &body;
	client_send(client, &message);
}

static void client_ask_memory(struct client *client, uint32_t run_length)
{
	Pyheap__ToDaemon message = PYHEAP__TO_DAEMON__INIT;
	Pyheap__GrantRequest body = PYHEAP__GRANT_REQUEST__INIT;

	body.run_length = run_length;
	body.n_runs = 1;
	message.body_case = PYHEAP__TO_DAEMON__BODY_GRANT_REQUEST;
	message.grant_request = &body;
	client_send(client, &message);
}

/* What the daemon has said: a body_case; 0 nothing, -1 it has ended the connection. *ret may be NULL. */
static int client_hear(struct client *client, Pyheap__FromDaemon **ret)
{
	Pyheap__FromDaemon *message;
	int r = frame_receive(client->fd, &client->buffer, 0, &message);

	if (r < 0)
		return r == -ETIMEDOUT ? 0 : -1;
	r = (int)message->body_case;
	if (ret)
		*ret = message;
	else
		pyheap__from_daemon__free_unpacked(message, NULL);
	return r;
}

static void expect_welcome(struct client *client)
{
	Pyheap__FromDaemon *message;

	ck_assert_int_eq(client_hear(client, &message), PYHEAP__FROM_DAEMON__BODY_WELCOME);
	client->session = message->welcome->session;
	memcpy(client->token, message->welcome->token.data, sizeof(client->token));
	pyheap__from_daemon__free_unpacked(message, NULL);
}

static void expect_error(struct client *client, int code)
{
	Pyheap__FromDaemon *message;

	ck_assert_int_eq(client_hear(client, &message), PYHEAP__FROM_DAEMON__BODY_ERROR);
	ck_assert_int_eq(message->error->code, code);
	pyheap__from_daemon__free_unpacked(message, NULL);
}

static void client_close(struct client *client)
{
	frame_buffer_deinit(&client->buffer);
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
}

/* A session that is offered, with its first connection. */
static void client_open(struct client *client)
{
	client_connect(client);
	client_hello(client, NULL);
	expect_welcome(client);
}

static void client_take(const struct client *client)
{
	struct session view;
	uint64_t token[2];

	memcpy(token, client->token, sizeof(token));
	session_init(&view, heap, client->session);
	ck_assert(session_take(&view, token));
}

/* The session closes itself in the table, and says nothing. */
static void client_detach(const struct client *client)
{
	struct session view;

	session_init(&view, heap, client->session);
	session_detach(&view);
}

/* ---- the lock ---------------------------------------------------------------------------------------------------- */

static pthread_t keeper;
static pthread_barrier_t barrier;

static void *keep_lock(void *userdata)
{
	struct heap *mapping;
	struct session view;
	int control_fd = dup(heap->control_fd), heap_fd = dup(heap->heap_fd);

	ck_assert_int_eq(heap_attach(&mapping, control_fd, heap_fd), 0);
	session_init(&view, mapping, SESSION_DAEMON);
	ck_assert_int_eq(change_begin(&view), 0);
	pthread_barrier_wait(&barrier); /* it is taken */
	pthread_barrier_wait(&barrier); /* it is to be free again */
	change_end(&view, 0);
	heap_free(mapping);
	return userdata;
}

static void lock_take(void)
{
	pthread_barrier_init(&barrier, NULL, 2);
	ck_assert_int_eq(pthread_create(&keeper, NULL, keep_lock, NULL), 0);
	pthread_barrier_wait(&barrier);
}

static void lock_release(void)
{
	pthread_barrier_wait(&barrier);
	pthread_join(keeper, NULL);
	pthread_barrier_destroy(&barrier);
}

/* ---- what is expected -------------------------------------------------------------------------------------------- */

static struct dsession *entry(void)
{
	return &sessions.entries[0];
}

static uint32_t table_state(void)
{
	struct session_record record;

	session_read(heap, 0, &record);
	return record.state;
}

/* It works: the table says so, its process is watched, the connection is its own, and a request is answered. */
static void expect_served(struct client *client)
{
	ck_assert_int_eq(entry()->state, DSESSION_LIVE);
	ck_assert_uint_eq(table_state(), SESSION_ACTIVE);
	ck_assert_ptr_eq(entry()->connection, client->connection);
	ck_assert_uint_eq(client->connection->session1, 1);
	ck_assert_ptr_nonnull(entry()->process_ended);
	ck_assert(event_pending(entry()->process_ended, EV_READ, NULL));
	client_ask_memory(client, 1);
	ck_assert_int_eq(work_all(), 0);
	ck_assert_int_eq(client_hear(client, NULL), PYHEAP__FROM_DAEMON__BODY_GRANT);
	client_goodbye(client);
	ck_assert_int_eq(work_all(), 0);
	ck_assert_uint_eq(table_state(), SESSION_FREE);
	ck_assert_uint_eq(n_freed, 1);
}

static void expect_reclaimed(void)
{
	ck_assert_int_eq(work_all(), 0);
	ck_assert_uint_eq(table_state(), SESSION_FREE);
	ck_assert_int_eq(entry()->state, DSESSION_NONE);
	ck_assert_uint_eq(sessions.n_used, 0);
	ck_assert_uint_eq(n_freed, 1);
}

/* ---- the tests --------------------------------------------------------------------------------------------------- */

START_TEST(resumed_while_it_is_offered)
{
	struct client a, b;

	client_open(&a);
	client_connect(&b);
	client_hello(&b, &a);
	ck_assert_int_eq(entry()->state, DSESSION_RESUMING);
	ck_assert_uint_eq(table_state(), SESSION_ACTIVE);
	ck_assert_uint_eq(a.connection->session1, 0);
	free_closed();
	ck_assert_int_eq(client_hear(&a, NULL), -1);
	ck_assert_int_eq(work_all(), 0);
	expect_welcome(&b);
	ck_assert_uint_eq(b.session, a.session);
	client_take(&b);
	expect_served(&b);
	client_close(&a);
	client_close(&b);
}
END_TEST

/* The last of those that resume it has it; what the others still say or do is nothing to the session. */
START_TEST(resumed_while_it_is_resumed)
{
	struct client a, b, c;

	client_open(&a);
	lock_take();
	client_connect(&b);
	client_hello(&b, &a);
	ck_assert_int_eq(work_all(), -EBUSY);
	client_connect(&c);
	client_hello(&c, &a);
	ck_assert_int_eq(work_all(), -EBUSY);
	ck_assert_int_eq(entry()->state, DSESSION_RESUMING);
	ck_assert_ptr_eq(entry()->connection, c.connection);
	client_goodbye(&a); /* into a connection that is closing */
	client_goodbye(&b);
	free_closed();
	ck_assert_int_eq(client_hear(&a, NULL), -1);
	ck_assert_int_eq(client_hear(&b, NULL), -1);
	ck_assert_int_eq(client_hear(&c, NULL), 0);
	lock_release();
	ck_assert_int_eq(work_all(), 0);
	expect_welcome(&c);
	client_take(&c);
	expect_served(&c);
	client_close(&a);
	client_close(&b);
	client_close(&c);
}
END_TEST

/* It waits too long, and is given up before its Welcome: a session that nobody took is over then, another one is not.
 */
START_TEST(given_up_while_it_is_resumed)
{
	for (int is_taken = 0; is_taken < 2; is_taken++) {
		struct client a, b, c;

		n_freed = 0;
		client_open(&a);
		if (is_taken)
			client_take(&a);
		lock_take();
		client_connect(&b);
		client_hello(&b, &a);
		ck_assert_int_eq(connection_expire(b.connection), -ETIMEDOUT);
		expect_error(&b, ETIMEDOUT);
		ck_assert_ptr_null(entry()->connection);
		ck_assert_int_eq(work_all(), -EBUSY);
		ck_assert_int_eq(entry()->state, DSESSION_RESUMING);
		lock_release();
		if (is_taken) {
			ck_assert_int_eq(work_all(), 0);
			ck_assert_int_eq(entry()->state, DSESSION_LIVE);
			client_connect(&c);
			client_hello(&c, &a);
			ck_assert_int_eq(work_all(), 0);
			expect_welcome(&c);
			expect_served(&c);
			client_close(&c);
		} else {
			expect_reclaimed();
		}
		client_close(&a);
		client_close(&b);
		free_closed();
	}
}
END_TEST

START_TEST(closed_before_it_is_resumed)
{
	struct client a, b;

	client_open(&a);
	client_take(&a);
	client_detach(&a);
	client_connect(&b);
	client_hello(&b, &a);
	expect_error(&b, ESTALE);
	ck_assert_uint_eq(table_state(), SESSION_DEAD);
	free_closed();
	ck_assert_int_eq(client_hear(&a, NULL), -1);
	expect_reclaimed();
	client_close(&a);
	client_close(&b);
}
END_TEST

START_TEST(closed_while_it_is_resumed)
{
	struct client a, b;

	client_open(&a);
	client_take(&a);
	lock_take();
	client_connect(&b);
	client_hello(&b, &a);
	client_detach(&a);
	lock_release();
	ck_assert_int_eq(work_all(), 0);
	expect_welcome(&b); /* its client has to know what it did */
	client_close(&b);
	connection_read(b.connection);
	expect_reclaimed();
	client_close(&a);
}
END_TEST

/* Its process ends at that moment. It ends once, and is not resumed again. */
START_TEST(dead_while_it_is_resumed)
{
	struct client a, b, c;

	client_open(&a);
	client_take(&a);
	lock_take();
	client_connect(&b);
	client_hello(&b, &a);
	dsession_end(entry(), "its process ended");
	ck_assert_int_eq(entry()->state, DSESSION_DEAD);
	ck_assert_uint_eq(b.connection->session1, 0);
	ck_assert(!event_pending(entry()->process_ended, EV_READ, NULL));
	ck_assert_int_eq(work_all(), -EBUSY);
	dsession_end(entry(), "it said goodbye");
	ck_assert(!box_logged("it said goodbye"));
	client_connect(&c);
	client_hello(&c, &a);
	expect_error(&c, ESTALE);
	ck_assert_int_eq(entry()->state, DSESSION_DEAD);
	ck_assert_uint_eq(table_state(), SESSION_DEAD);
	lock_release();
	expect_reclaimed();
	free_closed();
	ck_assert_int_eq(client_hear(&b, NULL), -1); /* without a Welcome */
	client_close(&a);
	client_close(&b);
	client_close(&c);
}
END_TEST

/* A connection that failed is still there, as its client may be sending; the session may have another one meanwhile. */
START_TEST(resumed_while_its_connection_is_closing)
{
	struct client a, b;

	client_open(&a);
	client_take(&a);
	client_ask_memory(&a, 0);
	ck_assert_int_eq(a.connection->state, CONNECTION_CLOSING);
	ck_assert_ptr_null(entry()->connection);
	client_connect(&b);
	client_hello(&b, &a);
	ck_assert_int_eq(work_all(), 0);
	expect_welcome(&b);
	expect_error(&a, EBADMSG);
	client_close(&a);
	connection_read(a.connection); /* its end is its own */
	free_closed();
	expect_served(&b);
	client_close(&b);
}
END_TEST

/* A grant under way when its connection is replaced: what was mapped is unmapped, and the new one may ask again. */
START_TEST(resumed_while_it_is_granted_memory)
{
	struct client a, b;

	client_open(&a);
	client_take(&a);
	client_ask_memory(&a, 15);
	ck_assert(grant_is_active(&entry()->grant));
	client_connect(&b);
	client_hello(&b, &a);
	ck_assert(!grant_is_active(&entry()->grant));
	ck_assert_int_eq(work_all(), 0);
	expect_welcome(&b);
	client_ask_memory(&b, 15);
	ck_assert_int_eq(work_all(), 0);
	ck_assert_int_eq(client_hear(&b, NULL), PYHEAP__FROM_DAEMON__BODY_GRANT);
	client_goodbye(&b);
	expect_reclaimed();
	client_close(&a);
	client_close(&b);
}
END_TEST

/* All sessions are taken and one is being reclaimed: who comes then is admitted when it is done. */
START_TEST(waits_for_a_free_session)
{
	struct client a, b, c, d;

	client_open(&a);
	client_open(&b);
	client_connect(&c);
	client_hello(&c, NULL);
	expect_error(&c, EUSERS);
	client_goodbye(&a);
	client_connect(&d);
	client_hello(&d, NULL);
	ck_assert_int_eq(client_hear(&d, NULL), 0);
	ck_assert_int_eq(work_all(), 0);
	expect_welcome(&d);
	ck_assert_uint_eq(d.session, 0);
	ck_assert_ptr_eq(entry()->connection, d.connection);
	client_goodbye(&d);
	ck_assert_int_eq(work_all(), 0);
	ck_assert_uint_eq(n_freed, 2);
	client_close(&a);
	client_close(&b);
	client_close(&c);
	client_close(&d);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("daemon dsession");
	TCase *t = tcase_create("dsession");

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, resumed_while_it_is_offered);
	tcase_add_test(t, resumed_while_it_is_resumed);
	tcase_add_test(t, given_up_while_it_is_resumed);
	tcase_add_test(t, closed_before_it_is_resumed);
	tcase_add_test(t, closed_while_it_is_resumed);
	tcase_add_test(t, dead_while_it_is_resumed);
	tcase_add_test(t, resumed_while_its_connection_is_closing);
	tcase_add_test(t, resumed_while_it_is_granted_memory);
	tcase_add_test(t, waits_for_a_free_session);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return box_main(suite);
}
