/* Where things are in a batch; see batches.py. */
#ifndef CHRONIK_BATCHES_H
#define CHRONIK_BATCHES_H

#include "native.h"

enum { HEADER_BYTES = 61, CRC_START = 21, APPEND_TIME_BIT = 0x08, CODEC_BITS = 0x07 };

/* CRC-32C, some 1.5 GB a second. Where more than that is needed, the caller has an instruction of the processor for it. */
uint32_t crc32c(const uint8_t *bytes, size_t length);

#endif
