/* Records sections into columns. See records.py for the same in Python, and chronik/wire/records.py for the format. */

#include "records.h"

/* Signed varints of up to `bits` bits. The cursor moves only if one is there. */
static inline int32_t read_varint(cursor *place, const uint8_t *stop, int bits, int64_t *out) {
    const uint8_t *at = place->at;
    uint64_t value = 0;
    if (at < stop && *at < 0x80) {
        value = *at++;
    } else {
        for (int shift = 0;; shift += 7) {
            if (shift >= bits) return VARINT;
            if (at >= stop) return CUT_OFF;
            uint64_t byte = *at++;
            if (shift == 63 && byte > 1) return VARINT; /* beyond 64 bits */
            value |= (byte & 0x7F) << shift;
            if (byte < 0x80) break;
        }
        if (bits < 64 && value >> bits) return VARINT;
    }
    *out = (int64_t)(value >> 1 ^ (~(value & 1) + 1));
    place->at = at;
    return FINE;
}

static inline int32_t read_bytes(cursor *place, const uint8_t *stop, field *out) {
    cursor here = *place;
    int64_t length;
    int32_t reason = read_varint(&here, stop, 32, &length);
    if (reason) return reason;
    if (length < -1 || length > stop - here.at) return LENGTH;
    out->start = here.at;
    out->length = (int32_t)length;
    place->at = here.at + (length > 0 ? length : 0);
    return FINE;
}

int32_t read_header(cursor *place, const uint8_t *stop, field *name, field *value) {
    const uint8_t *at = place->at;
    int32_t reason = read_bytes(place, stop, name);
    if (reason) return reason;
    if (name->length < 0) {
        place->at = at;
        return NULL_NAME;
    }
    return read_bytes(place, stop, value);
}

int32_t read_record(cursor *place, int64_t last_offset_delta, record *out, const uint8_t **stop) {
    int64_t number;
    int32_t reason;
    const uint8_t *at = place->at;
    if ((reason = read_varint(place, place->end, 32, &number))) return reason;
    if (number < 0 || number > place->end - place->at) {
        place->at = at;
        return LENGTH;
    }
    const uint8_t *end = place->at + number;
    *stop = end;
    if (!number) return CUT_OFF;
    place->at++; /* attributes, unused by the format so far */
    if ((reason = read_varint(place, end, 64, &out->timestamp_delta))) return reason;
    at = place->at;
    if ((reason = read_varint(place, end, 32, &number))) return reason;
    if (number < 0 || number > last_offset_delta) {
        place->at = at;
        return OFFSET_DELTA;
    }
    out->offset_delta = (int32_t)number;
    if ((reason = read_bytes(place, end, &out->key))) return reason;
    if ((reason = read_bytes(place, end, &out->value))) return reason;
    at = place->at;
    if ((reason = read_varint(place, end, 32, &number))) return reason;
    if (number < 0 || number * 2 > end - place->at) {
        place->at = at;
        return HEADER_COUNT;
    }
    out->header_count = (int32_t)number;
    out->headers = place->at;
    return FINE;
}

int32_t fault_at(chronik_fault *fault, int32_t reason, int64_t section, int64_t record_index, const cursor *place,
                 const uint8_t *section_start) {
    fault->section = section;
    fault->record = record_index;
    fault->byte = place->at - section_start;
    fault->reason = reason;
    return reason;
}

int32_t chronik_columns(const uint8_t *section, int64_t length, int64_t count, int64_t last_offset_delta,
                        int64_t *timestamp_deltas, int32_t *numbers, chronik_fault *fault) {
    const uint8_t *stop;
    cursor place = {section, section + length};
    int32_t reason = check_count(count, length);
    if (reason) return fault_at(fault, reason, 0, 0, &place, section);
    for (int64_t i = 0; i < count; i++) {
        record here;
        field name, value;
        if ((reason = read_record(&place, last_offset_delta, &here, &stop)))
            return fault_at(fault, reason, 0, i, &place, section);
        for (int32_t n = 0; n < here.header_count; n++)
            if ((reason = read_header(&place, stop, &name, &value)))
                return fault_at(fault, reason, 0, i, &place, section);
        if (place.at != stop) return fault_at(fault, LEFT_OVER, 0, i, &place, section);
        timestamp_deltas[i] = here.timestamp_delta;
        int32_t *row = numbers + i;
        row[0 * count] = here.offset_delta;
        row[1 * count] = (int32_t)(here.key.start - section);
        row[2 * count] = here.key.length;
        row[3 * count] = (int32_t)(here.value.start - section);
        row[4 * count] = here.value.length;
        row[5 * count] = (int32_t)(here.headers - section);
        row[6 * count] = here.header_count;
    }
    if (place.at != place.end) return fault_at(fault, TRAILING, 0, count, &place, section);
    return FINE;
}
