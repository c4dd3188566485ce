// SPDX-License-Identifier: MIT
/*
 * A client that takes the global lock and is stopped (for test_systemd_system.sh)
 */
#include <pyheap.h>
#include <signal.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	pyheap *heap;
	int r = pyheap_open(&heap, argc > 1 ? argv[1] : NULL);

	if (r >= 0)
		r = pyheap_lock(heap);
	if (r < 0) {
		fprintf(stderr, "%s\n", pyheap_strerror(r));
		return 1;
	}
	raise(SIGSTOP);
	pyheap_close(heap);
	return 0;
}
