/* SPDX-License-Identifier: MIT */
#pragma once

/* Why a session could not be opened or resumed, in more words than an errno has. See why.c. */

/* Keep the sentence for this thread. */
void why_set(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Nothing more is known than the errno. */
void why_clear(void);

/* The sentence, or "". */
const char *why_last(void);
