// SPDX-License-Identifier: MIT
/*
 * A client that scribbles over shared memory, a daemon that must survive it, and an innocent bystander
 *
 * Each round has a daemon and a heap of its own. A bystander makes, holds, drops, names, lists and queues objects, and
 * counts its calls. A scribbler opens a session, makes some objects, and then writes what no client should: a few words
 * and then dies, or many while the others work. Meanwhile and afterwards the daemon must answer. Then it is killed and
 * started again, and must adopt the heap; a repairer may have come before. At last it must end by SIGTERM.
 *
 * What is counted: the daemon's deaths, its hangs (no answer within the watchdog), refusals of the heap, the
 * bystander's crashes and hangs (no call ended within the watchdog). A bystander may get any error, and wrong bytes.
 *
 * A round depends on its seed alone, but for the order in which the processes run.
 *
 *   --rounds N  --seconds N   how long; whichever ends first
 *   --seed N                  of the first round; each next one has the next number
 *   --mode once|many|both     a few words, or many; both in turn
 *   --parts LIST              what is scribbled on: all (unless given), or with commas some of header, lock,
 *                             log, lists, sessions, types, arenas, pools, objects, daemon
 *   --watchdog S              60 unless given
 *   --without-truth           the daemon's own file is missing when it is started again, as after an update of a daemon
 *                             that had none; not with `header`, for then a heap may be refused
 *   --stop                    at the first fault
 *   --expect-faults           exit with 0 whatever is found
 */
#include "bystander.h"
#include "scribble_fields.h"

#include "proto/frame.h"

#include <pyheap.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What has a process of its own. */
enum role { DAEMON, BYSTANDER, SCRIBBLER, REPAIRER, PROBER, N_ROLES };

enum fault { DAEMON_DIED, DAEMON_HUNG, ADOPTION_REFUSED, BYSTANDER_CRASHED, BYSTANDER_HUNG, N_FAULTS };

static const char *const fault_names[] = {
	"daemon deaths", "daemon hangs", "adoption refusals", "bystander crashes", "bystander hangs"};

/* For the driver to see. */
struct progress {
	struct bystander_progress bystander;
	uint64_t n_wrote; /* by the scribbler */
	int32_t probe;
};

static struct options {
	uint64_t n_rounds, seconds, seed, watchdog;
	const char *mode;
	uint32_t parts;
	bool stop, expect_faults, without_truth;
} options = {.n_rounds = 4, .seconds = UINT32_MAX, .seed = 1, .watchdog = 60, .mode = "both", .parts = PART_ALL};

static struct progress *progress;
static pid_t pids[N_ROLES];
static uint64_t n_faults[N_FAULTS];
static char folder[] = "/tmp/pyheap-scribble-XXXXXX";
static char name[48], socket_path[96], log_path[96], control_path[96], heap_path[96], truth_path[96];
static uint64_t round_seed;
static pid_t driver_pid;

/* ---- processes --------------------------------------------------------------------------------------------------- */

static void clear_up(void)
{
	if (getpid() != driver_pid)
		return;
	for (int i = 0; i < N_ROLES; i++)
		if (pids[i] > 0)
			kill(pids[i], SIGKILL);
	while (waitpid(-1, NULL, 0) > 0)
		;
	unlink(socket_path);
	unlink(heap_path);
	unlink(truth_path);
	unlink(control_path);
	unlink(log_path);
	rmdir(folder);
}

static void on_signal(int signal_number)
{
	clear_up();
	_exit(128 + signal_number);
}

static pid_t start(enum role role, void (*run)(void))
{
	pid_t parent = getpid(), pid;

	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		perror("fork");
		exit(2);
	}
	if (pid > 0) {
		pids[role] = pid;
		return pid;
	}
	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	run();
	_exit(0);
}

/* Has the process ended? It is waited for then. */
static bool has_ended(enum role role, int *status)
{
	if (pids[role] <= 0 || waitpid(pids[role], status, WNOHANG) != pids[role])
		return false;
	pids[role] = 0;
	return true;
}

static void end(enum role role)
{
	if (pids[role] <= 0)
		return;
	kill(pids[role], SIGKILL);
	waitpid(pids[role], NULL, 0);
	pids[role] = 0;
}

static void run_daemon(void)
{
	int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	if (log >= 0)
		dup2(log, STDERR_FILENO);
	execl(getenv("PYHEAPD"), "pyheapd", "--name", name, "--socket", socket_path, "--size", "16M", "--arena-size",
		"64K", "--max-sessions", "16", "--keep", (char *)NULL);
	_exit(126);
}

/* Whatever the children write goes to the log. */
static void log_to_file(void)
{
	int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	if (log >= 0)
		dup2(log, STDERR_FILENO);
}

/* ---- clients ----------------------------------------------------------------------------------------------------- */

static void run_bystander(void)
{
	log_to_file();
	bystander_run(socket_path, round_seed * 3, &progress->bystander);
}

static void run_repairer(void)
{
	pyheap *heap;
	int64_t r;

	log_to_file();
	if (pyheap_open(&heap, socket_path) < 0)
		return;
	r = pyheap_check(heap, NULL, NULL);
	if (r)
		pyheap_repair(heap, NULL, NULL);
	pyheap_close(heap);
}

/* ---- the scribbler ----------------------------------------------------------------------------------------------- */

static void fill(pyheap *heap, struct scribble *s)
{
	pyheap_ref ref, list, queue;
	char label[32];

	if (pyheap_list_new(heap, 100, &list) < 0 || pyheap_queue_new(heap, 16, &queue) < 0)
		return;
	for (uint32_t i = 0; i < 100; i++) {
		if (pyheap_new(heap, PYHEAP_BYTES, 1 + scribble_random(s, i % 8 ? 512 : 40000), &ref) < 0)
			continue;
		snprintf(label, sizeof(label), "scribbled %u", i);
		if (i % 3 == 0)
			pyheap_name_set(heap, label, ref);
		pyheap_list_set(heap, list, i, ref);
		if (i % 5 == 0 && pyheap_queue_push(heap, queue, ref, 0) == 0)
			continue;
		if (i % 2)
			pyheap_decref(heap, ref);
	}
	if (scribble_random(s, 2)) /* a long list, dying while it is scribbled on */
		pyheap_decref(heap, list);
}

static void scribble_some(struct scribble *s, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		switch (scribble_random(s, 8)) {
		case 0:
			scribble_bit(s);
			break;
		case 1:
			scribble_forge(s);
			break;
		default:
			scribble_field(s);
			break;
		}
	}
}

static bool is_many(void)
{
	return strcmp(options.mode, "both") == 0 ? round_seed & 1 : strcmp(options.mode, "many") == 0;
}

static void run_scribbler(void)
{
	struct scribble s = {.random = round_seed, .parts = options.parts, .bystander = (int32_t)pids[BYSTANDER]};
	pyheap *heap;
	int control_fd, heap_fd;

	log_to_file();
	control_fd = open(control_path, O_RDWR | O_CLOEXEC);
	heap_fd = open(heap_path, O_RDWR | O_CLOEXEC);
	if (heap_attach(&s.heap, control_fd, heap_fd) < 0 || pyheap_open(&heap, socket_path) < 0)
		_exit(3);
	fill(heap, &s);
	if (!is_many()) {
		scribble_some(&s, 1 + scribble_random(&s, 40));
		progress->n_wrote = s.n_wrote;
		_exit(0);
	}
	for (;;) {
		scribble_some(&s, 1 + scribble_random(&s, 200));
		progress->n_wrote = s.n_wrote;
		usleep((useconds_t)scribble_random(&s, 3000));
	}
}

/* ---- the daemon is asked ----------------------------------------------------------------------------------------- */

static int await_frame(int fd, struct frame_buffer *buffer)
{
	Pyheap__FromDaemon *message = NULL;
	int r = frame_receive(fd, buffer, (int)options.watchdog * 1000, &message);

	if (message)
		pyheap__from_daemon__free_unpacked(message, NULL);
	for (size_t i = 0; i < buffer->n_fds; i++)
		close(buffer->fds[i]);
	buffer->n_fds = 0;
	return r;
}

/* 0: it answers, or refuses, or ends the connection: all of it in time. -ETIMEDOUT: it hangs. */
static int probe(void)
{
	Pyheap__ToDaemon message = PYHEAP__TO_DAEMON__INIT;
	Pyheap__Hello hello = PYHEAP__HELLO__INIT;
	Pyheap__StatsRequest stats = PYHEAP__STATS_REQUEST__INIT;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct frame_buffer buffer = {0};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

	strncpy(address.sun_path, socket_path, sizeof(address.sun_path) - 1);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	hello.protocol = PROTO_VERSION;
	hello.layout_hash = layout_hash();
	message.body_case = PYHEAP__TO_DAEMON__BODY_HELLO;
	message.hello = &hello;
	r = frame_send(fd, &message.base, NULL, 0, 1000);
	if (r == 0)
		r = await_frame(fd, &buffer);
	message.body_case = PYHEAP__TO_DAEMON__BODY_STATS_REQUEST;
	message.stats_request = &stats;
	if (r == 0)
		r = frame_send(fd, &message.base, NULL, 0, 1000);
	if (r == 0)
		r = await_frame(fd, &buffer);
	frame_buffer_deinit(&buffer);
	close(fd);
	return r == -ETIMEDOUT ? r : 0;
}

static void run_probe(void)
{
	progress->probe = probe();
}

/* ---- rounds ------------------------------------------------------------------------------------------------------ */

static void print_log(void)
{
	FILE *file = fopen(log_path, "re");
	char line[512];
	int n = 0;

	while (file && fgets(line, sizeof(line), file))
		if (n++ < 400)
			printf("    %s", line);
	if (file)
		fclose(file);
}

static void fault_found(enum fault fault, const char *where, int status)
{
	n_faults[fault]++;
	printf("seed %llu (%s): one of the %s, %s, status 0x%x, bystander in %s\n", (unsigned long long)round_seed,
		is_many() ? "many" : "once", fault_names[fault], where, status,
		progress->bystander.call ? progress->bystander.call : "nothing");
	print_log();
	fflush(stdout);
}

/* A process that hangs says where, if the sanitizer or a core is there to tell. */
static void abort_role(enum role role)
{
	int status;

	if (pids[role] <= 0)
		return;
	kill(pids[role], SIGABRT);
	for (int i = 0; i < 500 && !has_ended(role, &status); i++)
		usleep(10000);
	end(role);
}

/* Wait for the end of a process. False: the watchdog came first. */
static bool await_end(enum role role, int *status)
{
	uint64_t deadline = bystander_now_us() + options.watchdog * 1000000;

	*status = 0;
	while (pids[role] > 0 && bystander_now_us() < deadline) {
		if (has_ended(role, status))
			return true;
		usleep(2000);
	}
	return pids[role] <= 0;
}

/* Did it end because it did not want the heap? A sanitizer ends it with 98 or 99. */
static bool was_refused(int status)
{
	return WIFEXITED(status) && WEXITSTATUS(status) && WEXITSTATUS(status) < 90;
}

/* The daemon lives and answers. Else the round is over. */
static bool daemon_answers(const char *where)
{
	int status;

	progress->probe = -ETIMEDOUT;
	start(PROBER, run_probe);
	if (!await_end(PROBER, &status))
		end(PROBER);
	if (progress->probe == 0)
		return true;
	usleep(100000);
	if (has_ended(DAEMON, &status))
		fault_found(strcmp(where, "adopting") == 0 && was_refused(status) ? ADOPTION_REFUSED : DAEMON_DIED,
			where, status);
	else {
		abort_role(DAEMON);
		fault_found(DAEMON_HUNG, where, 0);
	}
	return false;
}

static bool daemon_starts(const char *where)
{
	uint64_t deadline = bystander_now_us() + options.watchdog * 1000000;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int status;

	strncpy(address.sun_path, socket_path, sizeof(address.sun_path) - 1);
	start(DAEMON, run_daemon);
	for (;;) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		int r = connect(fd, (struct sockaddr *)&address, sizeof(address));

		close(fd);
		if (r == 0)
			return daemon_answers(where);
		if (has_ended(DAEMON, &status)) {
			fault_found(was_refused(status) ? ADOPTION_REFUSED : DAEMON_DIED, where, status);
			return false;
		}
		if (bystander_now_us() > deadline) {
			abort_role(DAEMON);
			fault_found(DAEMON_HUNG, where, 0);
			return false;
		}
		usleep(3000);
	}
}

/* Wait until the bystander has ended n more calls. False: it has crashed or hangs. */
static bool bystander_goes_on(uint64_t n, const char *where)
{
	uint64_t before = __atomic_load_n(&progress->bystander.n_calls, __ATOMIC_RELAXED), last = before;
	uint64_t deadline = bystander_now_us() + options.watchdog * 1000000;
	int status;

	for (;;) {
		uint64_t calls = __atomic_load_n(&progress->bystander.n_calls, __ATOMIC_RELAXED);

		if (has_ended(BYSTANDER, &status)) {
			fault_found(BYSTANDER_CRASHED, where, status);
			return false;
		}
		if (calls >= before + n)
			return true;
		if (calls != last)
			deadline = bystander_now_us() + options.watchdog * 1000000;
		last = calls;
		if (bystander_now_us() > deadline) {
			abort_role(BYSTANDER);
			fault_found(BYSTANDER_HUNG, where, 0);
			return false;
		}
		usleep(2000);
	}
}

static bool repair_ends(void)
{
	int status;

	start(REPAIRER, run_repairer);
	if (!await_end(REPAIRER, &status)) {
		abort_role(REPAIRER);
		fault_found(BYSTANDER_HUNG, "repairing", 0);
		return false;
	}
	if (status) {
		fault_found(BYSTANDER_CRASHED, "repairing", status);
		return false;
	}
	return true;
}

static bool bystander_ends(void)
{
	int status;

	progress->bystander.stop = 1;
	if (!await_end(BYSTANDER, &status)) {
		abort_role(BYSTANDER);
		fault_found(BYSTANDER_HUNG, "closing", 0);
		return false;
	}
	if (status)
		fault_found(BYSTANDER_CRASHED, "closing", status);
	return status == 0;
}

static void run_round(void)
{
	struct scribble random = {.random = round_seed * 7};
	int status;

	memset(progress, 0, sizeof(*progress));
	if (!daemon_starts("starting"))
		return;
	start(BYSTANDER, run_bystander);
	if (!bystander_goes_on(1000, "before anything"))
		return;
	start(SCRIBBLER, run_scribbler);
	if (!is_many())
		await_end(SCRIBBLER, &status);
	for (uint64_t i = 0; i < 3 + scribble_random(&random, 3); i++)
		if (!daemon_answers("scribbled on") || !bystander_goes_on(200, "scribbled on"))
			return;
	end(SCRIBBLER);
	if (!daemon_answers("after the scribbler") || !bystander_goes_on(200, "after the scribbler"))
		return;
	if (scribble_random(&random, 2) && (!repair_ends() || !daemon_answers("repaired")))
		return;
	for (uint64_t i = 0; i < 1 + scribble_random(&random, 2); i++) {
		end(DAEMON);
		if (options.without_truth)
			unlink(truth_path);
		if (!daemon_starts("adopting") || !bystander_goes_on(200, "adopted"))
			return;
	}
	if (scribble_random(&random, 2) && (!repair_ends() || !daemon_answers("repaired")))
		return;
	if (!bystander_ends() || !daemon_answers("after all"))
		return;
	kill(pids[DAEMON], SIGTERM);
	if (!await_end(DAEMON, &status)) {
		abort_role(DAEMON);
		fault_found(DAEMON_HUNG, "ending", 0);
	} else if (status)
		fault_found(DAEMON_DIED, "ending", status);
}

/* ---- main -------------------------------------------------------------------------------------------------------- */

static void parse(int argc, char **argv)
{
	static const struct option longs[] = {{"rounds", 1, NULL, 'r'}, {"seconds", 1, NULL, 't'},
		{"seed", 1, NULL, 's'}, {"mode", 1, NULL, 'm'}, {"parts", 1, NULL, 'p'}, {"watchdog", 1, NULL, 'w'},
		{"stop", 0, NULL, 'x'}, {"expect-faults", 0, NULL, 'e'}, {"without-truth", 0, NULL, 'o'},
		{NULL, 0, NULL, 0}};
	int key;

	while ((key = getopt_long(argc, argv, "", longs, NULL)) >= 0)
		switch (key) {
		case 'r':
			options.n_rounds = strtoull(optarg, NULL, 0);
			break;
		case 't':
			options.seconds = strtoull(optarg, NULL, 0);
			break;
		case 's':
			options.seed = strtoull(optarg, NULL, 0);
			break;
		case 'm':
			options.mode = optarg;
			break;
		case 'p':
			options.parts = scribble_parts(optarg);
			break;
		case 'w':
			options.watchdog = strtoull(optarg, NULL, 0);
			break;
		case 'x':
			options.stop = true;
			break;
		case 'e':
			options.expect_faults = true;
			break;
		case 'o':
			options.without_truth = true;
			break;
		default:
			exit(2);
		}
	if (!options.parts || !getenv("PYHEAPD")) {
		fprintf(stderr, "no such part, or PYHEAPD does not say which daemon\n");
		exit(2);
	}
}

static uint64_t sum_of_faults(void)
{
	uint64_t n = 0;

	for (int i = 0; i < N_FAULTS; i++)
		n += n_faults[i];
	return n;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal};
	uint64_t n = 0, began = bystander_now_us(), n_calls = 0, n_wrote = 0, max_us = 0;

	parse(argc, argv);
	driver_pid = getpid();
	progress = mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (progress == MAP_FAILED || !mkdtemp(folder))
		return 2;
	setenv("ASAN_OPTIONS", "handle_abort=1:detect_leaks=0:abort_on_error=0:exitcode=99", 0);
	setenv("UBSAN_OPTIONS", "print_stacktrace=1:halt_on_error=1:exitcode=98", 0);
	snprintf(socket_path, sizeof(socket_path), "%s/socket", folder);
	snprintf(log_path, sizeof(log_path), "%s/log", folder);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_CHILD_SUBREAPER, 1);

	for (n = 0; n < options.n_rounds && bystander_now_us() - began < options.seconds * 1000000; n++) {
		round_seed = options.seed + n;
		snprintf(name, sizeof(name), "scribble%d-%llu", (int)driver_pid, (unsigned long long)n);
		snprintf(control_path, sizeof(control_path), "/dev/shm/pyheap.%s.ctl", name);
		snprintf(heap_path, sizeof(heap_path), "/dev/shm/pyheap.%s.heap", name);
		snprintf(truth_path, sizeof(truth_path), "/dev/shm/pyheap.%s.daemon", name);
		run_round();
		n_calls += progress->bystander.n_calls;
		n_wrote += progress->n_wrote;
		max_us = progress->bystander.max_us > max_us ? progress->bystander.max_us : max_us;
		for (int i = 0; i < N_ROLES; i++)
			end((enum role)i);
		unlink(socket_path);
		unlink(control_path);
		unlink(heap_path);
		unlink(truth_path);
		unlink(log_path);
		if (options.stop && sum_of_faults())
			break;
	}
	printf("%llu rounds from seed %llu on in %llu s, %llu words written, %llu calls of the bystander, longest %llu "
	       "ms",
		(unsigned long long)n, (unsigned long long)options.seed,
		(unsigned long long)((bystander_now_us() - began) / 1000000), (unsigned long long)n_wrote,
		(unsigned long long)n_calls, (unsigned long long)(max_us / 1000));
	for (int i = 0; i < N_FAULTS; i++)
		printf("; %s: %llu", fault_names[i], (unsigned long long)n_faults[i]);
	printf("\n");
	clear_up();
	return sum_of_faults() && !options.expect_faults;
}
