/* The batches in a piece of a log: what their headers say, and whether their CRCs are right. See batches.py for the same in
   Python, and chronik/wire/batches.py for the format. */

#include "batches.h"

enum { LENGTH_END = 12, MAGIC_AT = 16, MAGIC = 2, SLICES = 8 };

static uint32_t slices[SLICES][256];

/* Runs when the library is loaded, before anything of it can be called. */
__attribute__((constructor)) static void fill_slices(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
        slices[0][byte] = crc;
    }
    for (int n = 1; n < SLICES; n++)
        for (uint32_t byte = 0; byte < 256; byte++)
            slices[n][byte] = slices[n - 1][byte] >> 8 ^ slices[0][slices[n - 1][byte] & 0xFF];
}

static inline uint32_t little(const uint8_t *at) {
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline uint32_t big(const uint8_t *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static inline int64_t big_int64(const uint8_t *at) { return (int64_t)((uint64_t)big(at) << 32 | big(at + 4)); }

uint32_t crc32c(const uint8_t *bytes, size_t length) {
    uint32_t crc = 0xFFFFFFFFu;
    for (; length >= SLICES; bytes += SLICES, length -= SLICES) {
        uint32_t low = little(bytes) ^ crc, high = little(bytes + 4);
        crc = slices[7][low & 0xFF] ^ slices[6][low >> 8 & 0xFF] ^ slices[5][low >> 16 & 0xFF] ^ slices[4][low >> 24] ^
              slices[3][high & 0xFF] ^ slices[2][high >> 8 & 0xFF] ^ slices[1][high >> 16 & 0xFF] ^ slices[0][high >> 24];
    }
    for (; length; bytes++, length--) crc = crc >> 8 ^ slices[0][(crc ^ *bytes) & 0xFF];
    return ~crc;
}

/* The sum, or what is nearest to it. */
static inline int64_t bounded_sum(int64_t offset, int64_t more) {
    if (more > 0 && offset > INT64_MAX - more) return INT64_MAX;
    if (more < 0 && offset < INT64_MIN - more) return INT64_MIN;
    return offset + more;
}

int64_t chronik_look_over(const uint8_t *bytes, int64_t length, int64_t upper, int64_t most_crc_bytes, chronik_batch *rows,
                          int64_t room) {
    int64_t count = 0, position = 0;
    while (count < room && length - position >= HEADER_BYTES) {
        const uint8_t *at = bytes + position;
        int64_t size = (int64_t)(int32_t)big(at + 8) + LENGTH_END;
        if (at[MAGIC_AT] != MAGIC || size < HEADER_BYTES || size > length - position) break;
        if (size <= most_crc_bytes && crc32c(at + CRC_START, (size_t)(size - CRC_START)) != big(at + 17)) break;
        chronik_batch *row = rows + count++;
        row->position = position;
        row->size = size;
        row->records = position + HEADER_BYTES;
        row->records_size = size - HEADER_BYTES;
        row->base_offset = big_int64(at);
        row->attributes = (int16_t)(at[21] << 8 | at[22]);
        row->codec = row->attributes & CODEC_BITS;
        row->last_offset_delta = (int32_t)big(at + 23);
        row->following = bounded_sum(row->base_offset, (int64_t)row->last_offset_delta + 1);
        row->base_timestamp = big_int64(at + 27);
        row->max_timestamp = big_int64(at + 35);
        row->producer_id = big_int64(at + 43);
        row->record_count = (int32_t)big(at + 57);
        position += size;
        if (row->following >= upper) break;
    }
    return count;
}
