// SPDX-License-Identifier: MIT
/*
 * pyheapctl clients, evict, reset, check: the sessions of the heap, its end, and whether it is whole
 */
#include "ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

/* Clients */

/* What each session has, as the daemon says. */
struct usages {
	pyheap_usage *list;
	int n; /* negative: what became of asking */
};

static void usages_read(struct usages *usages, pyheap *heap)
{
	usages->list = calloc(PYHEAP_SESSIONS_MAX, sizeof(*usages->list));
	usages->n = usages->list ? pyheap_get_usage(heap, usages->list, PYHEAP_SESSIONS_MAX) : -ENOMEM;
	if (usages->n > PYHEAP_SESSIONS_MAX)
		usages->n = PYHEAP_SESSIONS_MAX;
}

/* NULL: it is not known. */
static const pyheap_usage *usage_of(const struct usages *usages, uint32_t session)
{
	for (int i = 0; i < usages->n; i++)
		if (usages->list[i].session == session)
			return &usages->list[i];
	return NULL;
}

static void print_client(const pyheap_client_info *info, const pyheap_usage *usage)
{
	char holds[NUMBER_MAX], arenas[NUMBER_MAX] = "-", bytes[NUMBER_MAX] = "-";

	if (usage) {
		format_number(usage->n_arenas, arenas);
		format_number(usage->n_bytes, bytes);
	}
	printf("%7" PRIu32 "  %10" PRId32 "  %10" PRIu32 "  %14s  %9s  %16s  %-4s  %-4s  %-4s  ", info->session,
		info->pid, info->uid, format_number(info->n_holds, holds), arenas, bytes, info->self ? "self" : "-",
		info->has_lock ? "lock" : "-", info->dead ? "dead" : "-");
	print_escaped(stdout, info->program);
	printf("\n");
}

static void print_client_json(const pyheap_client_info *info, const pyheap_usage *usage)
{
	printf("  {\"session\": %" PRIu32 ", \"pid\": %" PRId32 ", \"uid\": %" PRIu32 ", \"gid\": %" PRIu32
	       ", \"program\": ",
		info->session, info->pid, info->uid, info->gid);
	print_json(stdout, info->program);
	printf(", \"n_holds\": %" PRIu64, info->n_holds);
	if (usage)
		printf(", \"n_arenas\": %" PRIu64 ", \"n_bytes\": %" PRIu64, usage->n_arenas, usage->n_bytes);
	else
		printf(", \"n_arenas\": null, \"n_bytes\": null");
	printf(", \"start_time\": %" PRIu64 ", \"self\": %s, \"has_lock\": %s, \"dead\": %s}", info->start_time,
		info->self ? "true" : "false", info->has_lock ? "true" : "false", info->dead ? "true" : "false");
}

static int print_clients(struct ctl *ctl, const struct usages *usages)
{
	pyheap_client_info info;
	uint64_t cursor = 0;
	bool first = true;
	int r;

	if (ctl->json)
		printf("[");
	else
		printf("SESSION         PID         UID           HOLDS     ARENAS             BYTES  FLAGS            "
		       " "
		       "PROGRAM\n");
	while ((r = pyheap_client_next(ctl->heap, &cursor, &info)) > 0) {
		const pyheap_usage *usage = usage_of(usages, info.session);

		if (ctl->json) {
			printf("%s\n", first ? "" : ",");
			print_client_json(&info, usage);
		} else {
			print_client(&info, usage);
		}
		first = false;
	}
	if (ctl->json && r == 0)
		printf("\n]\n");
	return r;
}

int run_clients(struct ctl *ctl, int n_args, char **args)
{
	struct usages usages;
	int r;

	(void)n_args, (void)args;
	usages_read(&usages, ctl->heap);
	r = print_clients(ctl, &usages);
	free(usages.list);
	return r < 0 ? ctl_fail_heap("cannot read the sessions", NULL, r) : CTL_OK;
}

/* Evict */

/* The pid of a session; 0: it is not known. */
static int32_t pid_of(struct ctl *ctl, uint32_t session)
{
	pyheap_client_info info;
	uint64_t cursor = 0;

	while (pyheap_client_next(ctl->heap, &cursor, &info) > 0)
		if (info.session == session)
			return info.pid;
	return 0;
}

static int fail_evict(struct ctl *ctl, const char *on, uint32_t session, int error)
{
	char advice[80];

	switch (-error) {
	case ESRCH:
	case EINVAL:
		return ctl_fail("cannot evict", on, "no other session has that number",
			"`pyheapctl clients` shows the sessions");
	case EACCES:
		return ctl_fail("cannot evict", on, "it is another user's session", "ask that user, or root");
	case EPERM:
		snprintf(advice, sizeof(advice), "end process %" PRId32 " by hand", pid_of(ctl, session));
		return ctl_fail("cannot evict", on, "pyheapd may not signal its process, and has closed its connection",
			advice);
	default:
		return ctl_fail_heap("cannot evict", on, error);
	}
}

int run_evict(struct ctl *ctl, int n_args, char **args)
{
	unsigned long session;
	char *end;
	int r;

	(void)n_args;
	errno = 0;
	session = strtoul(args[0], &end, 10);
	if (args[0][0] < '0' || args[0][0] > '9' || *end || errno || session > UINT32_MAX)
		return ctl_fail_usage("wrong session", args[0], "a number is needed, as `pyheapctl clients` shows it");
	r = pyheap_evict(ctl->heap, (uint32_t)session);
	return r < 0 ? fail_evict(ctl, args[0], (uint32_t)session, r) : CTL_OK;
}

/* Reset */

static int fail_reset(const struct ctl *ctl, int error)
{
	switch (-error) {
	case EBUSY:
		return ctl_fail("the heap was not emptied", NULL, pyheap_open_error(),
			"with --yes it ends for them, and what is in it is gone");
	case EACCES:
		return ctl_fail("the heap was not emptied", NULL,
			*pyheap_open_error() ? pyheap_open_error() : pyheap_strerror(error),
			"ask root, or the user of pyheapd");
	case ENOSPC:
	case ENOMEM:
	case ESTALE:
		return ctl_fail("the heap was not emptied", NULL, pyheap_open_error(),
			"pyheapd's log says more; or end pyheapd and remove the heap by pyheapd --remove");
	default:
		return ctl_fail_connect(ctl->socket, error);
	}
}

int run_reset(struct ctl *ctl, int n_args, char **args)
{
	char sessions[NUMBER_MAX];
	int n;

	(void)n_args, (void)args;
	n = pyheap_reset(ctl->socket, ctl->yes);
	if (n < 0)
		return fail_reset(ctl, n);
	printf("the heap is empty (%s sessions were ended)\n", format_number((uint64_t)n, sessions));
	return CTL_OK;
}

/* Check */

static void print_fault(void *userdata, const char *fault)
{
	(void)userdata;
	fprintf(stderr, "fault: %s\n", fault);
}

static int print_no_faults(struct ctl *ctl)
{
	char objects[NUMBER_MAX], names[NUMBER_MAX], sessions[NUMBER_MAX], arenas[NUMBER_MAX];
	pyheap_stats stats;
	int r;

	r = pyheap_stats(ctl->heap, &stats);
	if (r < 0)
		return ctl_fail_heap("cannot read the figures", NULL, r);
	printf("no faults (%s objects, %s names, %s sessions, %s arenas)\n",
		format_number(stats_n_objects(&stats), objects), format_number(stats.n_names, names),
		format_number(stats.n_sessions, sessions), format_number(stats.n_arenas_current, arenas));
	return CTL_OK;
}

int run_check(struct ctl *ctl, int n_args, char **args)
{
	char faults[NUMBER_MAX], why[NUMBER_MAX + 32];
	int64_t n;

	(void)n_args, (void)args;
	n = ctl->repair ? pyheap_repair(ctl->heap, print_fault, NULL) : pyheap_check(ctl->heap, print_fault, NULL);
	if (ctl->repair && n == -EUCLEAN)
		return ctl_fail("the heap could not be repaired", NULL, "the faults reported last are left",
			"save the named objects (`pyheapctl get`), then restart pyheapd with a fresh heap");
	if (n < 0)
		return ctl_fail_heap("cannot check the heap", NULL, (int)n);
	if (n == 0)
		return print_no_faults(ctl);
	format_number((uint64_t)n, faults);
	if (ctl->repair) {
		printf("%s fault%s found and mended\n", faults, n == 1 ? "" : "s");
		return CTL_OK;
	}
	snprintf(why, sizeof(why), "%s fault%s found", faults, n == 1 ? "" : "s");
	return ctl_fail("the heap is damaged", NULL, why, "`pyheapctl check --repair` mends it");
}
