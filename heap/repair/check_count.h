/* SPDX-License-Identifier: MIT */
#pragma once

/* Rights, counted where they are found. See check_count.c. */

#include "heap/repair/check_report.h"

/* In the count of an object, beside it: somebody holds it uncounted. */
#define COUNT_IS_UNCOUNTED (UINT32_C(1) << 31)

/* Note that somebody holds the object uncounted. False: it is not alive. */
bool check_count_uncounted(struct check *check, uint64_t ref);
uint32_t *check_count_of(struct check *check, const struct object *object);
uint32_t check_count_right(struct check *check, const struct object *object);
bool check_is_in_flight(const struct check *check, uint64_t position);
bool check_count_ref(struct check *check, uint64_t ref, const char *what, uint64_t of);
void check_mend_word(struct check *check, uint64_t *word, uint64_t value);
bool check_count_record(struct check *check, uint64_t position, uint32_t type, const char *what, uint64_t of);
void check_note_in_flight(struct check *check);
bool check_pool_is_in_flight(const struct check *check, uint32_t p);
bool check_is_queue_in_flight(const struct check *check, uint64_t position);
