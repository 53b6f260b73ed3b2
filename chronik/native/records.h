/* Reading the records of a section one by one, within bounds whatever the bytes say. */
#ifndef CHRONIK_RECORDS_H
#define CHRONIK_RECORDS_H

#include "native.h"

/* The reasons of sections.py. */
enum {
    FINE = 0,
    COUNT = 1,
    CUT_OFF = 2,
    VARINT = 3,
    LENGTH = 4,
    OFFSET_DELTA = 5,
    HEADER_COUNT = 6,
    NULL_NAME = 7,
    LEFT_OVER = 8,
    TRAILING = 9,
};

enum { SMALLEST_RECORD = 7 };

typedef struct {
    const uint8_t *start;
    int32_t length; /* -1 for null */
} field;

typedef struct {
    int64_t timestamp_delta;
    int32_t offset_delta, header_count;
    field key, value;
    const uint8_t *headers; /* not looked at yet */
} record;

/* A place in a section. On a fault, `at` is the first byte of what is wrong. */
typedef struct {
    const uint8_t *at, *end;
} cursor;

/* Whether `count` records can be in so many bytes. */
static inline int32_t check_count(int64_t count, int64_t length) {
    return count < 0 || count > length / SMALLEST_RECORD ? COUNT : FINE;
}

/* The record at the cursor, up to its headers; `stop` becomes its end. Returns a reason. */
int32_t read_record(cursor *place, int64_t last_offset_delta, record *out, const uint8_t **stop);

/* The header at the cursor, within `stop`. Returns a reason. */
int32_t read_header(cursor *place, const uint8_t *stop, field *name, field *value);

/* Notes a fault at the cursor and returns its reason. */
int32_t fault_at(chronik_fault *fault, int32_t reason, int64_t section, int64_t record_index, const cursor *place,
                 const uint8_t *section_start);

#endif
