/* Records sections into signatures: what of a record is signed. See signed.py for the same in Python. */

#include <string.h>

#include "batches.h"
#include "records.h"
#include "signer.h"

enum { STRETCH = 64 };

static const uint8_t MARKER[] = {0, 'n', 'u', 'm', 'b', 'e', 'r'};

static inline int is_digit(uint8_t byte) { return (uint8_t)(byte - '0') < 10; }

static inline int is_space(uint8_t byte) { return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r'; }

/* Whether the number whose exponent's letter is at `at`, after a digit, stands alone as a number of JSON does. */
static int is_exponent(const uint8_t *value, size_t at, size_t length) {
    size_t start = at, stop = at + 1;
    while (start && is_digit(value[start - 1])) start--;
    if (start > 1 && value[start - 1] == '.' && is_digit(value[start - 2]))
        for (start--; start && is_digit(value[start - 1]);) start--;
    if (start && value[start - 1] == '-') start--;
    if (start) {
        uint8_t before = value[start - 1];
        if (!is_space(before) && before != ':' && before != ',' && before != '[') return 0;
    }
    if (stop < length && (value[stop] == '+' || value[stop] == '-')) stop++;
    size_t digits = stop;
    while (stop < length && is_digit(value[stop])) stop++;
    if (stop == digits) return 0;
    return stop == length || is_space(value[stop]) || value[stop] == ',' || value[stop] == ']' || value[stop] == '}';
}

int needs_marker(const uint8_t *value, size_t length) {
    for (size_t at = 1; at < length; at += STRETCH) {
        size_t end = length - at < STRETCH ? length : at + STRETCH;
        uint8_t hit = 0;
        for (size_t i = at; i < end; i++) /* compilers make vectors of it */
            hit |= (uint8_t)(is_digit(value[i - 1]) & ((value[i] | 0x20) == 'e'));
        for (size_t i = at; hit && i < end; i++)
            if ((value[i] | 0x20) == 'e' && is_digit(value[i - 1]) && is_exponent(value, i, length)) return 1;
    }
    return 0;
}

static inline int hexadecimal(uint8_t byte) {
    if (is_digit(byte)) return byte - '0';
    uint8_t letter = (uint8_t)((byte | 0x20) - 'a');
    return letter < 6 ? letter + 10 : -1;
}

/* The code unit of an escape like \u00e9 at `text`, or -1. */
static int32_t code_unit(const uint8_t *text, size_t available) {
    if (available < 6 || text[0] != '\\' || text[1] != 'u') return -1;
    int32_t unit = 0;
    for (int i = 2; i < 6; i++) {
        int digit = hexadecimal(text[i]);
        if (digit < 0) return -1;
        unit = unit << 4 | digit;
    }
    return unit;
}

size_t unescape(const uint8_t *text, size_t length, uint8_t *out) {
    static const char names[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    size_t at = 0, written = 0;
    while (at < length) {
        const uint8_t *next = memchr(text + at, '\\', length - at);
        size_t plain = next ? (size_t)(next - text) - at : length - at;
        memcpy(out + written, text + at, plain);
        written += plain;
        at += plain;
        if (!next) break;
        int32_t unit = code_unit(next, length - at);
        if (unit >= 0) {
            uint32_t code = (uint32_t)unit;
            at += 6;
            if (unit >= 0xD800 && unit < 0xE000) {
                int32_t second = unit < 0xDC00 ? code_unit(text + at, length - at) : -1;
                if (second >= 0xDC00 && second < 0xE000) {
                    code = 0x10000 + (((uint32_t)unit - 0xD800) << 10) + ((uint32_t)second - 0xDC00);
                    at += 6;
                } else {
                    code = 0xFFFD;
                }
            }
            written += write_utf8(code, out + written);
            continue;
        }
        const char *name = at + 1 < length && text[at + 1] ? strchr(names, text[at + 1]) : NULL;
        out[written++] = name ? (uint8_t)meant[name - names] : '\\';
        at += name ? 2 : 1;
    }
    return written;
}

static void add_value(signer *to, const field *value, uint8_t *scratch, int *marked) {
    size_t length = (size_t)value->length;
    add_text(to, value->start, length);
    if (memchr(value->start, '\\', length)) add_text(to, scratch, unescape(value->start, length, scratch));
    if (!*marked && needs_marker(value->start, length)) {
        add_token(to, MARKER, sizeof MARKER);
        *marked = 1;
    }
}

/* The records of a section, what they are measured by, and how far they were signed. */
typedef struct {
    cursor place;
    int64_t count, last_offset_delta, base_timestamp;
    int64_t index, first_timestamp, last_timestamp;
} signing;

static int32_t sign_records(signer *to, signing *of, uint8_t *scratch, int *marked) {
    cursor *place = &of->place;
    const uint8_t *stop;
    int32_t reason = check_count(of->count, place->end - place->at);
    of->index = 0;
    of->first_timestamp = INT64_MAX;
    of->last_timestamp = INT64_MIN;
    if (reason) return reason;
    for (; of->index < of->count; of->index++) {
        record here;
        if ((reason = read_record(place, of->last_offset_delta, &here, &stop))) return reason;
        if (here.key.length > 0) add_text(to, here.key.start, (size_t)here.key.length);
        if (here.value.length > 0) add_value(to, &here.value, scratch, marked);
        for (int32_t n = 0; n < here.header_count; n++) {
            field name, value;
            if ((reason = read_header(place, stop, &name, &value))) return reason;
            add_text(to, name.start, (size_t)name.length);
            if (value.length > 0) add_text(to, value.start, (size_t)value.length);
        }
        if (place->at != stop) return LEFT_OVER;
        int64_t timestamp = (int64_t)((uint64_t)of->base_timestamp + (uint64_t)here.timestamp_delta);
        if (timestamp < of->first_timestamp) of->first_timestamp = timestamp;
        if (timestamp > of->last_timestamp) of->last_timestamp = timestamp;
    }
    return place->at == place->end ? FINE : TRAILING;
}

int32_t chronik_sign(const chronik_section *sections, int64_t count, const chronik_unicode *unicode,
                     const chronik_signature *signature, uint8_t *scratch, chronik_fault *fault) {
    signer to;
    int marked = 0;
    signer_start(&to, unicode, signature);
    for (int64_t s = 0; s < count; s++) {
        const uint8_t *start = sections[s].bytes;
        signing of = {.place = {start, start + sections[s].length}, .count = sections[s].count, .last_offset_delta = INT32_MAX};
        int32_t reason = sign_records(&to, &of, scratch, &marked);
        if (reason) return fault_at(fault, reason, s, of.index, &of.place, start);
    }
    return FINE;
}

static void sign_piece(signer *to, const chronik_piece *piece, uint8_t *scratch, int *marked) {
    for (int64_t n = 0; n < piece->count; n++) {
        const chronik_batch *row = piece->rows + n;
        const uint8_t *start = piece->bytes + row->records;
        signing of = {
            .place = {start, start + row->records_size},
            .count = row->record_count,
            .last_offset_delta = row->last_offset_delta,
            .base_timestamp = row->base_timestamp,
        };
        int32_t reason = sign_records(to, &of, scratch, marked);
        if (reason) {
            of.first_timestamp = INT64_MAX;
            of.last_timestamp = INT64_MIN;
        } else if (of.count && row->attributes & APPEND_TIME_BIT) {
            of.first_timestamp = of.last_timestamp = row->max_timestamp;
        }
        piece->out[n] = (chronik_signed){of.first_timestamp, of.last_timestamp, reason};
    }
}

static int is_within(const chronik_piece *piece) {
    for (int64_t n = 0; n < piece->count; n++) {
        int64_t records = piece->rows[n].records, size = piece->rows[n].records_size;
        if (records < 0 || size < 0 || size > INT32_MAX || size > piece->length || records > piece->length - size) return 0;
    }
    return 1;
}

int32_t chronik_sign_batches(const chronik_piece *pieces, int64_t count, const chronik_unicode *unicode,
                             const chronik_signature *signature, uint8_t *scratch) {
    for (int64_t n = 0; n < count; n++)
        if (!is_within(pieces + n)) return 1;
    signer to;
    int marked = 0;
    signer_start(&to, unicode, signature);
    for (int64_t n = 0; n < count; n++) sign_piece(&to, pieces + n, scratch, &marked);
    return 0;
}
