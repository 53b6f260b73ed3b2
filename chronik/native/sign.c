/* Records sections into signatures: what of a record is signed. See signed.py for the same in Python. */

#include <string.h>

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

int32_t chronik_sign(const chronik_section *sections, int64_t count, const chronik_unicode *unicode,
                     const chronik_signature *signature, uint8_t *scratch, chronik_fault *fault) {
    signer to;
    int marked = 0;
    signer_start(&to, unicode, signature);
    for (int64_t s = 0; s < count; s++) {
        const uint8_t *start = sections[s].bytes, *stop;
        cursor place = {start, start + sections[s].length};
        int32_t reason = check_count(sections[s].count, sections[s].length);
        if (reason) return fault_at(fault, reason, s, 0, &place, start);
        for (int64_t i = 0; i < sections[s].count; i++) {
            record here;
            if ((reason = read_record(&place, INT32_MAX, &here, &stop)))
                return fault_at(fault, reason, s, i, &place, start);
            if (here.key.length > 0) add_text(&to, here.key.start, (size_t)here.key.length);
            if (here.value.length > 0) add_value(&to, &here.value, scratch, &marked);
            for (int32_t n = 0; n < here.header_count; n++) {
                field name, value;
                if ((reason = read_header(&place, stop, &name, &value)))
                    return fault_at(fault, reason, s, i, &place, start);
                add_text(&to, name.start, (size_t)name.length);
                if (value.length > 0) add_text(&to, value.start, (size_t)value.length);
            }
            if (place.at != stop) return fault_at(fault, LEFT_OVER, s, i, &place, start);
        }
        if (place.at != place.end) return fault_at(fault, TRAILING, s, sections[s].count, &place, start);
    }
    return FINE;
}
