/* Hostile bytes for the native code, in buffers that end where they end: built with the address sanitizer by test_fuzz.py.
   fuzz TABLE SEED ROUNDS: the table is blocks and then entries of the flat form of unicode.py. Prints what was done. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "native.h"
#include "signer.h"

enum { BLOCKS = 0x110000 / 128, ROOM = 1 << 14 };

static uint64_t state;

static uint32_t chance(uint32_t below) { /* xorshift64* */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)((state * 2685821657736338717u) >> 33) % below;
}

static void *exactly(const void *content, size_t size) {
    void *copy = malloc(size);
    if (size && !copy) abort();
    if (size) memcpy(copy, content, size);
    return copy;
}

static const char *const pieces[] = {
    "error", "{", "}", "[", "]", "{\"a\":", "\"error\" : ", "{\"1\":\"\\u0061", "\"}", "true", "null", "A", " ", "\"", "\\", "\\n", "\\u00e9", "\\ud83d\\ude00", "\\ud83d", "\\u12", "\\u", "1", "9", "0.9", "1e5", " 1e5,", "-", "e", ".",
    "99999999999999.9", "\xc3\xa9", "\xcc\x81", "\xe6\x97\xa5", "\xf0\x9f\x98\x80", "\xf0\x90\x90\x80", "\xc8\xba", "\xc3", "\xe6\x97", "\xf0\x9f",
    "\xf4\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xed\xa0\x80", "\xff", ":", ",", "=", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
};

static size_t text(uint8_t *out) {
    size_t size = 0;
    for (uint32_t n = chance(14); n; n--) {
        if (chance(5)) {
            const char *piece = pieces[chance(sizeof pieces / sizeof *pieces)];
            memcpy(out + size, piece, strlen(piece));
            size += strlen(piece);
        } else {
            out[size++] = (uint8_t)chance(256);
        }
    }
    return size;
}

static size_t varint(uint8_t *out, int64_t value) {
    uint64_t rest = (uint64_t)value << 1 ^ (uint64_t)(value >> 63);
    size_t size = 0;
    for (; rest > 0x7F; rest >>= 7) out[size++] = (uint8_t)(rest | 0x80);
    out[size++] = (uint8_t)rest;
    return size;
}

static size_t some_bytes(uint8_t *out) {
    uint8_t content[ROOM];
    if (!chance(5)) return varint(out, -1);
    size_t length = text(content), size = varint(out, (int64_t)length);
    memcpy(out + size, content, length);
    return size + length;
}

/* A section of whole records, then damaged two times of three. */
static size_t section(uint8_t *out, int64_t *count) {
    size_t size = 0;
    *count = chance(5);
    for (int64_t n = 0; n < *count; n++) {
        uint8_t body[ROOM * 2];
        size_t length = 0;
        body[length++] = 0;
        length += varint(body + length, chance(9) ? (int64_t)chance(1000) : (int64_t)state);
        length += varint(body + length, n);
        length += some_bytes(body + length);
        length += some_bytes(body + length);
        uint32_t headers = chance(3) ? 0 : chance(4);
        length += varint(body + length, headers);
        for (; headers; headers--) {
            length += some_bytes(body + length);
            length += some_bytes(body + length);
        }
        size += varint(out + size, (int64_t)length);
        memcpy(out + size, body, length);
        size += length;
    }
    for (uint32_t n = chance(3); n && size; n--) out[chance((uint32_t)size)] = (uint8_t)chance(256);
    if (!chance(4) && size) size = chance((uint32_t)size);
    if (!chance(8)) *count += (int64_t)chance(5) - 2;
    return size;
}

/* Reads one text as a value, and gathers what was found in it. */
static void read_value(const uint8_t *content, size_t length) {
    static const uint8_t bytes[] = "aerror1";
    static const int32_t ends_of_names[] = {1, 6, 7, 7};
    chronik_names names = {bytes, ends_of_names, 4};
    uint8_t state, kinds[4], valid[4], *data = malloc(length * 4);
    int32_t starts[4], lengths[4], ends[4], start = 0, size = (int32_t)length;
    chronik_members found = {&state, kinds, starts, lengths};
    chronik_read_members(content, 1, &start, &size, &names, &found);
    for (int n = 0; n < 4; n++)
        if (kinds[n] && (state != 1 || starts[n] < 0 || lengths[n] < 0 || starts[n] + lengths[n] > size)) abort();
    chronik_gather(content, 4, starts, lengths, kinds, 1, data, ends, valid);
    if (ends[3] > 4 * size) abort();
    free(data);
}

static void read_section(const chronik_section *given, const chronik_unicode *unicode, uint64_t *fine) {
    chronik_fault fault;
    uint8_t *bits = calloc(64, 1), *scratch = malloc((size_t)given->length);
    chronik_signature signature = {bits, 511, 8};
    int64_t rows = given->count > 0 && given->count * 7 <= given->length ? given->count : 0;
    int64_t *times = malloc((size_t)rows * 8);
    int32_t *numbers = malloc((size_t)rows * 4 * 7);
    int32_t reason = chronik_columns(given->bytes, given->length, given->count, INT32_MAX, times, numbers, &fault);
    if (chronik_sign(given, 1, unicode, &signature, scratch, &fault) != reason) {
        fprintf(stderr, "columns and sign say different things\n");
        abort();
    }
    for (int64_t i = 0; !reason && i < rows; i++)
        for (int64_t start = rows; start <= 3 * rows; start += 2 * rows) /* keys, values */
            if (numbers[start + i] + numbers[start + rows + i] > given->length) abort();
    if (!reason && rows) {
        int32_t total = 0, *places;
        for (int64_t i = 0; i < rows; i++) total += numbers[6 * rows + i];
        places = malloc((size_t)total * 4 * 4);
        if (chronik_header_places(given->bytes, given->length, rows, numbers + 5 * rows, numbers + 6 * rows, total, places)) abort();
        for (int32_t i = 0; i < total; i++)
            if (places[2 * total + i] + (places[3 * total + i] > 0 ? places[3 * total + i] : 0) > given->length) abort();
        free(places);
    }
    *fine += !reason;
    free(numbers);
    free(times);
    free(bits);
    free(scratch);
}

int main(int count, char **arguments) {
    if (count != 4) return 2;
    FILE *file = fopen(arguments[1], "rb");
    if (!file) return 2;
    static uint8_t table[1 << 20];
    size_t size = fread(table, 1, sizeof table, file);
    fclose(file);
    chronik_unicode unicode = {exactly(table, BLOCKS * 2), exactly(table + BLOCKS * 2, size - BLOCKS * 2)};
    state = strtoull(arguments[2], NULL, 10) * 2 + 1;
    uint64_t rounds = strtoull(arguments[3], NULL, 10), fine = 0, markers = 0;
    static signer to;
    for (uint64_t n = 0; n < rounds; n++) {
        static uint8_t room[ROOM * 16];
        int64_t records;
        size_t length = section(room, &records);
        uint8_t *content = exactly(room, length);
        chronik_section given = {content, (int64_t)length, records};
        read_section(&given, &unicode, &fine);
        free(content);

        length = text(room);
        content = exactly(room, length);
        uint8_t bits[64] = {0}, *resolved = malloc(length);
        chronik_signature signature = {bits, 511, 8};
        signer_start(&to, &unicode, &signature);
        add_text(&to, content, length);
        if (unescape(content, length, resolved) > length) abort();
        read_value(content, length);
        markers += (uint64_t)needs_marker(content, length);
        free(resolved);
        free(content);
    }
    printf("%llu sections, %llu of them whole, %llu texts with a marker\n", (unsigned long long)rounds, (unsigned long long)fine,
           (unsigned long long)markers);
    free((void *)(uintptr_t)unicode.blocks);
    free((void *)(uintptr_t)unicode.entries);
    return 0;
}
