/*
 * Load on raw sockets: CONNECTIONS connections, each with up to INFLIGHT Produce requests under way, one thread, no client library.
 *
 *   raw_load --host H --port P --topic T --partitions N [--connections 20] [--inflight 5] [--records 1] [--size 100] [--acks -1]
 *            [--warmup S] [--window S] [--windows N]
 *
 * Every request is Produce version 9 with one idempotent batch of RECORDS records of SIZE bytes. Frames are prepared once; per
 * request the correlation id, the base sequence and the batch's CRC-32C are written into them. A connection has a producer id
 * of its own (InitProducerId) and writes to one partition, so sequences and answers must come in order: anything else ends
 * the run. Messages in the report are records; divide by RECORDS for requests.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "payloads.h"
#include "windows.h"

#define MAX_INFLIGHT 64
#define BATCH_HEADER 61

static void die(const char *what)
{
    fprintf(stderr, "raw_load: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

/* -- CRC-32C -------------------------------------------------------------------------------------------------------- */

static uint32_t crc_table[256];

static void make_crc_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? 0x82f63b78u ^ (c >> 1) : c >> 1;
        crc_table[i] = c;
    }
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc_hardware(uint32_t c, const uint8_t *p, size_t n)
{
    uint64_t wide = c;
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        wide = __builtin_ia32_crc32di(wide, word);
    }
    c = (uint32_t)wide;
    while (n--) c = __builtin_ia32_crc32qi(c, *p++);
    return c;
}
#endif

static uint32_t crc32c(const uint8_t *p, size_t n)
{
    uint32_t c = 0xffffffffu;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) return ~crc_hardware(c, p, n);
#endif
    while (n--) c = crc_table[(c ^ *p++) & 255] ^ (c >> 8);
    return ~c;
}

/* -- frames --------------------------------------------------------------------------------------------------------- */

static void put16(uint8_t *p, uint16_t v) { v = htobe16(v); memcpy(p, &v, 2); }
static void put32(uint8_t *p, uint32_t v) { v = htobe32(v); memcpy(p, &v, 4); }
static void put64(uint8_t *p, uint64_t v) { v = htobe64(v); memcpy(p, &v, 8); }
static uint16_t get16(const uint8_t *p) { uint16_t v; memcpy(&v, p, 2); return be16toh(v); }
static uint32_t get32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return be32toh(v); }
static uint64_t get64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return be64toh(v); }

static size_t uvarint(uint8_t *p, uint64_t v)
{
    size_t n = 0;
    for (; v > 127; v >>= 7) p[n++] = (uint8_t)(v | 128);
    p[n++] = (uint8_t)v;
    return n;
}

static size_t varint(uint8_t *p, int64_t v) { return uvarint(p, ((uint64_t)v << 1) ^ (uint64_t)(v >> 63)); }

struct frame {
    uint8_t *bytes;
    size_t size, batch; /* where the batch begins */
};

static struct frame prepare(const char *topic, int partition, int acks, int records, size_t size, uint64_t producer, uint16_t epoch,
                            const char *payloads)
{
    size_t room = 200 + strlen(topic) + BATCH_HEADER + (size_t)records * (size + 40);
    uint8_t *b = malloc(room), *records_at = malloc(room), *p = b + 4, *r = records_at;
    if (!b || !records_at) die("out of memory");
    for (int i = 0; i < records; i++) {
        uint8_t head[40], *h = head, length[10];
        *h++ = 0;
        h += varint(h, 0);
        h += varint(h, i);
        h += varint(h, -1);
        h += varint(h, (int64_t)size);
        size_t n = varint(length, (int64_t)((size_t)(h - head) + size + 1));
        memcpy(r, length, n), r += n;
        memcpy(r, head, (size_t)(h - head)), r += h - head;
        memcpy(r, payloads + (size_t)(i % PAYLOADS) * size, size), r += size;
        *r++ = 0;
    }
    size_t body = (size_t)(r - records_at), batch = BATCH_HEADER + body;
    put16(p, 0), put16(p + 2, 9), put32(p + 4, 0), put16(p + 8, 3), memcpy(p + 10, "raw", 3), p[13] = 0, p += 14;
    *p++ = 0; /* no transactional id */
    put16(p, (uint16_t)acks), put32(p + 2, 30000), p += 6;
    *p++ = 2; /* one topic */
    p += uvarint(p, strlen(topic) + 1);
    memcpy(p, topic, strlen(topic)), p += strlen(topic);
    *p++ = 2; /* one partition */
    put32(p, (uint32_t)partition), p += 4;
    p += uvarint(p, batch + 1);
    struct frame f = {.bytes = b, .batch = (size_t)(p - b)};
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t ms = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
    put64(p, 0), put32(p + 8, (uint32_t)(batch - 12)), put32(p + 12, 0xffffffffu), p[16] = 2;
    put16(p + 21, 0), put32(p + 23, (uint32_t)records - 1), put64(p + 27, ms), put64(p + 35, ms);
    put64(p + 43, producer), put16(p + 51, epoch), put32(p + 53, 0), put32(p + 57, (uint32_t)records);
    memcpy(p + BATCH_HEADER, records_at, body), p += batch;
    *p++ = 0, *p++ = 0, *p++ = 0; /* tags of partition, topic, request */
    f.size = (size_t)(p - b);
    put32(b, (uint32_t)(f.size - 4));
    free(records_at);
    return f;
}

/* -- connections ---------------------------------------------------------------------------------------------------- */

struct connection {
    int socket, inflight;
    struct frame frame;
    uint32_t sent, answered; /* requests; the correlation id counts `sent` */
    uint32_t sequence;
    uint64_t sent_at[MAX_INFLIGHT];
    uint8_t *out; /* bytes that the socket did not take yet */
    size_t out_size, out_at, out_room, in_size;
    uint8_t in[65536];
};

static int dial(const char *host, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int s = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) die("--host must be an IPv4 address");
    if (s < 0 || connect(s, (struct sockaddr *)&address, sizeof address)) die("connect");
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return s;
}

static void exactly(int s, uint8_t *p, size_t n)
{
    while (n) {
        ssize_t got = read(s, p, n);
        if (got <= 0) die("the broker closed the connection");
        p += got, n -= (size_t)got;
    }
}

static void init_producer(int s, uint64_t *producer, uint16_t *epoch)
{
    uint8_t request[] = {0, 0, 0, 21, 0, 22, 0, 1, 0, 0, 0, 1, 0, 3, 'r', 'a', 'w', 0xff, 0xff, 0, 0, 0xea, 0x60, 0, 0};
    uint8_t answer[64];
    put32(request, 19);
    for (int tries = 0; tries < 100; tries++) {
        if (write(s, request, 23) != 23) die("write");
        exactly(s, answer, 4);
        uint32_t size = get32(answer);
        if (size > sizeof answer) die("InitProducerId: the answer is too long");
        exactly(s, answer, size);
        uint16_t error = get16(answer + 8);
        if (!error) {
            *producer = get64(answer + 10);
            *epoch = get16(answer + 18);
            return;
        }
        usleep(100000); /* the coordinator is starting */
    }
    errno = 0;
    die("InitProducerId kept failing");
}

static void flush_out(struct connection *c, int poller)
{
    while (c->out_at < c->out_size) {
        ssize_t n = write(c->socket, c->out + c->out_at, c->out_size - c->out_at);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
            epoll_ctl(poller, EPOLL_CTL_MOD, c->socket, &e);
            return;
        }
        if (n <= 0) die("write");
        c->out_at += (size_t)n;
    }
    c->out_at = c->out_size = 0;
}

/* Fill the pipeline: as many requests as fit, in one write. */
static void send_more(struct connection *c, int poller, int inflight, int records)
{
    uint64_t now = now_us();
    while (c->inflight < inflight) {
        uint8_t *batch = c->frame.bytes + c->frame.batch;
        put32(c->frame.bytes + 8, c->sent);
        put32(batch + 53, c->sequence);
        put32(batch + 17, crc32c(batch + 21, get32(batch + 8) - 9));
        if (c->out_size + c->frame.size > c->out_room) die("a pipeline outgrew its buffer");
        memcpy(c->out + c->out_size, c->frame.bytes, c->frame.size);
        c->out_size += c->frame.size;
        c->sent_at[c->sent % MAX_INFLIGHT] = now;
        c->sent++;
        c->inflight++;
        c->sequence = (uint32_t)(((uint64_t)c->sequence + (uint64_t)records) & 0x7fffffffu);
    }
    flush_out(c, poller);
}

static void take_answers(struct connection *c, struct windows *windows, size_t topic_size, int records, size_t size)
{
    ssize_t n = read(c->socket, c->in + c->in_size, sizeof c->in - c->in_size);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (n <= 0) die("the broker closed the connection");
    c->in_size += (size_t)n;
    uint64_t now = now_us();
    size_t at = 0;
    while (c->in_size - at >= 4) {
        size_t frame = get32(c->in + at);
        if (frame > sizeof c->in - 4) die("an answer is too long");
        if (c->in_size - at - 4 < frame) break;
        const uint8_t *p = c->in + at + 4;
        errno = 0;
        if (get32(p) != c->answered) die("answers out of order");
        /* correlation 4, tags 1, topics 1, name length 1, name, partitions 1, index 4 */
        int16_t error = (int16_t)get16(p + 4 + 1 + 1 + 1 + topic_size + 1 + 4);
        if (error) {
            fprintf(stderr, "raw_load: the broker answered error %d\n", error);
            exit(1);
        }
        record_latency(&windows->now, now - c->sent_at[c->answered % MAX_INFLIGHT]);
        windows->now.messages += (uint64_t)records;
        windows->now.bytes += (uint64_t)records * size;
        c->answered++;
        c->inflight--;
        at += 4 + frame;
    }
    memmove(c->in, c->in + at, c->in_size - at);
    c->in_size -= at;
}

int main(int argc, char **argv)
{
    const char *host = "127.0.0.1", *topic = NULL;
    int port = 0, partitions = 1, connections = 20, inflight = 5, records = 1, acks = -1, count = 1;
    size_t size = 100;
    double warmup = 2, length = 20;
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (!strcmp(name, "--host")) host = value;
        else if (!strcmp(name, "--port")) port = atoi(value);
        else if (!strcmp(name, "--topic")) topic = value;
        else if (!strcmp(name, "--partitions")) partitions = atoi(value);
        else if (!strcmp(name, "--connections")) connections = atoi(value);
        else if (!strcmp(name, "--inflight")) inflight = atoi(value);
        else if (!strcmp(name, "--records")) records = atoi(value);
        else if (!strcmp(name, "--size")) size = (size_t)atol(value);
        else if (!strcmp(name, "--acks")) acks = atoi(value);
        else if (!strcmp(name, "--warmup")) warmup = atof(value);
        else if (!strcmp(name, "--window")) length = atof(value);
        else if (!strcmp(name, "--windows")) count = atoi(value);
        else die("unknown option");
    }
    if (!topic || !port || partitions < 1 || inflight < 1 || inflight > MAX_INFLIGHT || records < 1 || strlen(topic) > 100)
        die("--topic and --port are needed; --inflight is at most 64");
    make_crc_table();
    char *payloads = make_payloads(size);
    int poller = epoll_create1(0);
    struct connection *all = calloc((size_t)connections, sizeof *all);
    if (!all || poller < 0) die("out of memory");
    for (int i = 0; i < connections; i++) {
        struct connection *c = &all[i];
        uint64_t producer;
        uint16_t epoch;
        c->socket = dial(host, port);
        init_producer(c->socket, &producer, &epoch);
        c->frame = prepare(topic, i % partitions, acks, records, size, producer, epoch, payloads);
        c->out_room = c->frame.size * (size_t)inflight * 2;
        c->out = malloc(c->out_room);
        if (!c->out) die("out of memory");
        fcntl(c->socket, F_SETFL, O_NONBLOCK);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_ADD, c->socket, &e);
    }
    struct windows windows;
    start_windows(&windows, warmup, length, count);
    for (int i = 0; i < connections; i++) send_more(&all[i], poller, inflight, records);
    while (turn_windows(&windows, now_us())) {
        struct epoll_event ready[256];
        int n = epoll_wait(poller, ready, 256, 100);
        for (int i = 0; i < n; i++) {
            struct connection *c = ready[i].data.ptr;
            if (ready[i].events & EPOLLOUT) {
                flush_out(c, poller);
                if (!c->out_size) {
                    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
                    epoll_ctl(poller, EPOLL_CTL_MOD, c->socket, &e);
                }
            }
            if (ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                take_answers(c, &windows, strlen(topic), records, size);
                if (!c->out_size) send_more(c, poller, inflight, records);
            }
        }
    }
    return 0;
}
