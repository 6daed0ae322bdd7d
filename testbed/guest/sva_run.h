/* SPDX-License-Identifier: GPL-2.0-only */
/* What sva-run and the library that it preloads have in common */
#ifndef SVA_RUN_H
#define SVA_RUN_H

#include <stdint.h>

/* Path of the counters; and, to be bound, of the device */
#define SVA_RUN_COUNTERS	"SVA_RUN_COUNTERS"
#define SVA_RUN_DEVICE		"SVA_RUN_DEVICE"
#define SVA_RUN_STALE		16

/**
 * struct sva_counters - a file that all processes of a run map
 * @processes: address spaces that the library was in
 * @bound: of them, those that got a queue
 * @busy: those that did not, as there was none left
 * @refused: those that did not for another reason
 * @last_error: the reason
 * @translated: pages that the device read, so that the SMMU has them cached
 * @checked: pages that it was asked to read after they had gone
 * @stale: of them, those that it could read
 * @where: their addresses, some of them
 */
struct sva_counters {
	uint64_t processes;
	uint64_t bound;
	uint64_t busy;
	uint64_t refused;
	uint64_t last_error;
	uint64_t translated;
	uint64_t checked;
	uint64_t stale;
	uint64_t where[SVA_RUN_STALE];
};

#endif
