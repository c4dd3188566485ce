// SPDX-License-Identifier: MIT
/*
 * pyheapctl stats: the figures of the heap, in the manner of CPython's sys._debugmallocstats()
 *
 * One table has each figure once: its label in the text, its key in --json, and its offset in pyheap_stats. The eight
 * figures of bytes add up to the bytes of all arenas. The total is added up here, so that the reader can compare it
 * with the line of the arenas.
 */
#include "ctl.h"

#include <inttypes.h>
#include <string.h>

#define LABEL_WIDTH 36
#define VALUE_WIDTH 22

enum section {
	SECTION_ARENAS,
	SECTION_BYTES, /* the eight figures that add up */
	SECTION_OBJECTS,
	SECTION_LOCK,
	SECTION_NONE, /* only in --json */
};

struct figure {
	enum section section;
	const char *label; /* NULL: the label is composed when it is printed */
	const char *key;
	size_t offset;
};

#define FIGURE(section, label, member)                                                                                 \
	{                                                                                                              \
		SECTION_##section, label, #member, offsetof(pyheap_stats, member)                                      \
	}

static const struct figure figures[] = {
	FIGURE(NONE, NULL, heap_size),
	FIGURE(NONE, NULL, arena_size),
	FIGURE(NONE, NULL, pool_size),
	FIGURE(ARENAS, "# arenas allocated total", n_arenas_allocated),
	FIGURE(ARENAS, "# arenas reclaimed", n_arenas_reclaimed),
	FIGURE(ARENAS, "# arenas highwater mark", n_arenas_highwater),
	FIGURE(ARENAS, "# arenas allocated current", n_arenas_current),
	FIGURE(BYTES, "# bytes in allocated blocks", bytes_allocated_blocks),
	FIGURE(BYTES, "# bytes in available blocks", bytes_available_blocks),
	FIGURE(BYTES, NULL, bytes_unused_pools),
	FIGURE(BYTES, "# bytes lost to pool headers", bytes_pool_headers),
	FIGURE(BYTES, "# bytes lost to quantization", bytes_quantization),
	FIGURE(BYTES, "# bytes in medium objects", bytes_medium_objects),
	FIGURE(BYTES, "# bytes in large objects", bytes_large_objects),
	FIGURE(BYTES, "# bytes in records", bytes_records),
	FIGURE(NONE, NULL, bytes_total),
	FIGURE(OBJECTS, "# medium objects", n_medium_objects),
	FIGURE(OBJECTS, "# large objects", n_large_objects),
	FIGURE(OBJECTS, "# names", n_names),
	FIGURE(OBJECTS, "# registered types", n_types),
	FIGURE(OBJECTS, "# sessions", n_sessions),
	FIGURE(OBJECTS, "# sessions at most", max_sessions),
	FIGURE(LOCK, "# lock acquisitions", n_lock_acquisitions),
	FIGURE(LOCK, "# lock recoveries", n_lock_recoveries),
	FIGURE(LOCK, "# lock waits", n_lock_waits),
	FIGURE(LOCK, "# ns waited for the lock", lock_wait_ns),
	FIGURE(LOCK, "# ns of the longest wait", lock_wait_max_ns),
	FIGURE(LOCK, "# lock holds timed, one in 64", n_locks_timed),
	FIGURE(LOCK, "# ns the lock was held in those", lock_held_ns),
	FIGURE(LOCK, "# ns of the longest of those", lock_held_max_ns),
	FIGURE(LOCK, "# pools claimed by sessions", n_pools_claimed),
	FIGURE(LOCK, "# blocks freed by other sessions", n_blocks_returned),
};

#define N_FIGURES (sizeof(figures) / sizeof(figures[0]))

static uint64_t figure_value(const struct figure *figure, const pyheap_stats *stats)
{
	uint64_t value;

	memcpy(&value, (const char *)stats + figure->offset, sizeof(value));
	return value;
}

uint64_t stats_n_objects(const pyheap_stats *stats)
{
	uint64_t n = stats->n_medium_objects + stats->n_large_objects;

	for (unsigned int i = 0; i < PYHEAP_CLASSES; i++)
		n += stats->classes[i].n_used;
	return n;
}

/* Text */

static void print_line(const char *label, uint64_t value)
{
	char number[NUMBER_MAX];

	printf("%-*s = %*s\n", LABEL_WIDTH, label, VALUE_WIDTH, format_number(value, number));
}

static void print_classes(const pyheap_stats *stats)
{
	char pools[NUMBER_MAX], used[NUMBER_MAX], available[NUMBER_MAX];
	unsigned int n = 0;

	while (n < PYHEAP_CLASSES && stats->classes[n].size)
		n++;
	printf("Small and medium objects: at most %s bytes, in %u size classes.\n\n",
		format_number(n ? stats->classes[n - 1].size : 0, used), n);
	printf("class   size   num pools   blocks in use   avail blocks\n"
	       "-----   ----   ---------   -------------   ------------\n");
	for (unsigned int i = 0; i < PYHEAP_CLASSES; i++) {
		const pyheap_class_stats *c = &stats->classes[i];

		if (c->n_pools == 0)
			continue;
		printf("%5u %6" PRIu32 " %11s %15s %14s\n", i, c->size, format_number(c->n_pools, pools),
			format_number(c->n_used, used), format_number(c->n_available, available));
	}
}

static void print_section(enum section section, const pyheap_stats *stats)
{
	char label[LABEL_WIDTH + NUMBER_MAX];

	for (size_t i = 0; i < N_FIGURES; i++) {
		const struct figure *figure = &figures[i];

		if (figure->section != section)
			continue;
		if (figure->label)
			snprintf(label, sizeof(label), "%s", figure->label);
		else
			snprintf(label, sizeof(label), "%" PRIu64 " unused pools * %" PRIu64 " bytes",
				stats->bytes_unused_pools / stats->pool_size, stats->pool_size);
		print_line(label, figure_value(figure, stats));
	}
}

static uint64_t bytes_sum(const pyheap_stats *stats)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < N_FIGURES; i++)
		if (figures[i].section == SECTION_BYTES)
			sum += figure_value(&figures[i], stats);
	return sum;
}

static void print_text(const pyheap_stats *stats)
{
	char label[LABEL_WIDTH + NUMBER_MAX];

	print_classes(stats);
	printf("\n");
	print_section(SECTION_ARENAS, stats);
	snprintf(label, sizeof(label), "%" PRIu64 " arenas * %" PRIu64 " bytes/arena", stats->n_arenas_current,
		stats->arena_size);
	print_line(label, stats->bytes_total);
	printf("\n");
	print_section(SECTION_BYTES, stats);
	print_line("Total", bytes_sum(stats));
	printf("\n");
	print_line("# objects", stats_n_objects(stats));
	print_section(SECTION_OBJECTS, stats);
	print_line("# bytes that the heap may grow to", stats->heap_size);
	printf("\n");
	print_section(SECTION_LOCK, stats);
}

/* JSON */

static void print_json_stats(const pyheap_stats *stats)
{
	const char *comma = "";

	printf("{\n");
	for (size_t i = 0; i < N_FIGURES; i++)
		printf("  \"%s\": %" PRIu64 ",\n", figures[i].key, figure_value(&figures[i], stats));
	printf("  \"n_objects\": %" PRIu64 ",\n  \"classes\": [", stats_n_objects(stats));
	for (unsigned int i = 0; i < PYHEAP_CLASSES; i++) {
		const pyheap_class_stats *c = &stats->classes[i];

		if (c->n_pools == 0)
			continue;
		printf("%s\n    {\"class\": %u, \"size\": %" PRIu32 ", \"pool_blocks\": %" PRIu32
		       ", \"n_pools\": %" PRIu64 ", \"n_used\": %" PRIu64 ", \"n_available\": %" PRIu64 "}",
			comma, i, c->size, c->pool_blocks, c->n_pools, c->n_used, c->n_available);
		comma = ",";
	}
	printf("\n  ]\n}\n");
}

int run_stats(struct ctl *ctl, int n_args, char **args)
{
	pyheap_stats stats;
	int r;

	(void)n_args, (void)args;
	r = pyheap_stats(ctl->heap, &stats);
	if (r < 0)
		return ctl_fail_heap("cannot read the figures", NULL, r);
	if (ctl->json)
		print_json_stats(&stats);
	else
		print_text(&stats);
	return CTL_OK;
}
