// SPDX-License-Identifier: MIT
/*
 * The table and the JSON of a benchmark
 *
 * Both say on what they were measured and who was left out and why, since figures without that mislead. JSON has every
 * single round in the order of measuring, so that a drift can be seen later.
 *
 * {
 *   "version": "...",
 *   "machine": {"cpu": "...", "cpus": 2, "kernel": "..."}, "optimized": true, "rounds": 15, "round_ms": 20,
 *   "peers": [{"name": "...", "version": "..."}, {"name": "...", "left_out": "why"}],
 *   "works": [{"key": "...", "title": "...", "unit": "ns", "results": [
 *     {"peer": "pyheap", "how": "...", "operations": 1, "median": 1.0, "min": 1.0, "max": 1.0, "rounds": [1.0]},
 *     {"peer": "...", "how": "...", "error": "..."}]}]
 * }
 */
#include "report.h"
#include <pyheap.h>

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* ---- the circumstances ------------------------------------------------------------------------------------------ */

/* Is this the build that users get? Sanitizers make everything several times slower, and not all of it alike. */
static bool optimized(void)
{
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	return true;
#else
	return false;
#endif
}

static void cpu_model(char *ret, size_t size)
{
	FILE *file = fopen("/proc/cpuinfo", "re");
	char line[256];

	snprintf(ret, size, "unknown CPU");
	while (file && fgets(line, sizeof(line), file)) {
		char *value = strchr(line, ':');

		if (strncmp(line, "model name", 10) || !value)
			continue;
		value[strcspn(value, "\n")] = '\0';
		snprintf(ret, size, "%s", value + 1 + strspn(value + 1, " "));
		break;
	}
	if (file)
		fclose(file);
}

/* ---- the table -------------------------------------------------------------------------------------------------- */

static void table_head(FILE *file, const struct report *report)
{
	struct utsname kernel = {0};
	char cpu[128];

	uname(&kernel);
	cpu_model(cpu, sizeof(cpu));
	fprintf(file, "\npyheap %s on %zu x %s, Linux %s%s\n", pyheap_version(), cpu_count(), cpu, kernel.release,
		cpu_count() > 1 ? "" : "; ONE CPU: two processes take turns");
	fprintf(file, "Nanoseconds per operation; %zu rounds of about %.0f ms each, contenders in turn%s\n",
		report->options.n_rounds, (double)report->options.round_ns / 1e6,
		optimized() ? "" : "; NOT OPTIMIZED, OR SANITIZED: these figures mean nothing");
	fprintf(file, "\n  %-18s %10s %10s %10s  %13s  %s\n", "", "median", "min", "max", "pyheap is", "how");
}

/* How pyheap compares with this peer: the ratio of the medians. */
static void table_ratio(FILE *file, const struct result *ours, const struct result *peer)
{
	if (ours == peer || ours->error || ours->median <= 0)
		fprintf(file, "  %13s", "");
	else if (ours->median > peer->median)
		fprintf(file, "  %5.1fx slower", ours->median / peer->median);
	else
		fprintf(file, "  %5.1fx faster", peer->median / ours->median);
}

static void table_row(FILE *file, const struct row *row)
{
	fprintf(file, "%s\n", row->work->title);
	for (size_t i = 0; i < row->n_results; i++) {
		const struct result *result = &row->results[i];

		fprintf(file, "  %-18s ", result->peer);
		if (result->error) {
			fprintf(file, "FAILED: %s (%s)\n", strerror(-result->error), result->how);
			continue;
		}
		fprintf(file, "%10.1f %10.1f %10.1f", result->median, result->min, result->max);
		table_ratio(file, &row->results[0], result);
		fprintf(file, "  %s\n", result->how);
	}
}

void report_table(FILE *file, const struct report *report)
{
	table_head(file, report);
	for (size_t i = 0; i < report->n_rows; i++)
		table_row(file, &report->rows[i]);
	fprintf(file, "\n");
	for (size_t i = 0; i < report->n_peers; i++) {
		const struct peer *peer = report->peers[i];

		if (peer->left_out)
			fprintf(file, "%s was left out: %s\n", peer->name, peer->left_out);
		else
			fprintf(file, "%s is version %s\n", peer->name, peer->version());
	}
	fflush(file);
}

/* ---- JSON ------------------------------------------------------------------------------------------------------- */

static void json_string(FILE *file, const char *s)
{
	fputc('"', file);
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			fprintf(file, "\\%c", *s);
		else if ((unsigned char)*s < ' ')
			fprintf(file, "\\u%04x", (unsigned)*s);
		else
			fputc(*s, file);
	}
	fputc('"', file);
}

static void json_member(FILE *file, const char *key, const char *value)
{
	json_string(file, key);
	fprintf(file, ": ");
	json_string(file, value);
}

static void json_head(FILE *file, const struct report *report)
{
	struct utsname kernel = {0};
	char cpu[128];

	uname(&kernel);
	cpu_model(cpu, sizeof(cpu));
	fprintf(file, "  ");
	json_member(file, "version", pyheap_version());
	fprintf(file, ",\n  \"machine\": {");
	json_member(file, "cpu", cpu);
	fprintf(file, ", \"cpus\": %zu, ", cpu_count());
	json_member(file, "kernel", kernel.release);
	fprintf(file, "},\n  \"optimized\": %s, \"rounds\": %zu, \"round_ms\": %.3f,\n  \"peers\": [",
		optimized() ? "true" : "false", report->options.n_rounds, (double)report->options.round_ns / 1e6);
	for (size_t i = 0; i < report->n_peers; i++) {
		const struct peer *peer = report->peers[i];

		fprintf(file, i ? ", {" : "{");
		json_member(file, "name", peer->name);
		fprintf(file, ", ");
		json_member(file, peer->left_out ? "left_out" : "version",
			peer->left_out ? peer->left_out : peer->version());
		fprintf(file, "}");
	}
	fprintf(file, "],\n");
}

static void json_result(FILE *file, const struct result *result)
{
	fprintf(file, "      {");
	json_member(file, "peer", result->peer);
	fprintf(file, ", ");
	json_member(file, "how", result->how);
	fprintf(file, ", ");
	if (result->error) {
		json_member(file, "error", strerror(-result->error));
		fprintf(file, "}");
		return;
	}
	fprintf(file, "\"operations\": %llu, \"median\": %.3f, \"min\": %.3f, \"max\": %.3f,\n       \"rounds\": [",
		(unsigned long long)result->n, result->median, result->min, result->max);
	for (size_t i = 0; i < result->n_rounds; i++)
		fprintf(file, "%s%.3f", i ? ", " : "", result->rounds[i]);
	fprintf(file, "]}");
}

static void json_row(FILE *file, const struct row *row)
{
	fprintf(file, "    {");
	json_member(file, "key", row->work->key);
	fprintf(file, ", ");
	json_member(file, "title", row->work->title);
	fprintf(file, ", \"unit\": \"ns\", \"results\": [\n");
	for (size_t i = 0; i < row->n_results; i++) {
		json_result(file, &row->results[i]);
		fprintf(file, i + 1 < row->n_results ? ",\n" : "\n");
	}
	fprintf(file, "    ]}");
}

static int json_write(FILE *file, const struct report *report)
{
	fprintf(file, "{\n");
	json_head(file, report);
	fprintf(file, "  \"works\": [\n");
	for (size_t i = 0; i < report->n_rows; i++) {
		json_row(file, &report->rows[i]);
		fprintf(file, i + 1 < report->n_rows ? ",\n" : "\n");
	}
	fprintf(file, "  ]\n}\n");
	return fflush(file) || ferror(file) ? -EIO : 0;
}

int report_json(const char *path, const struct report *report)
{
	char fresh[4096];
	FILE *file;
	int r;

	if ((size_t)snprintf(fresh, sizeof(fresh), "%s.%ld", path, (long)getpid()) >= sizeof(fresh))
		return -ENAMETOOLONG;
	file = fopen(fresh, "wxe");
	if (!file)
		return -errno;
	r = json_write(file, report);
	if (fclose(file) && !r)
		r = -errno;
	if (!r && rename(fresh, path) < 0)
		r = -errno;
	if (r < 0)
		unlink(fresh);
	return r;
}
