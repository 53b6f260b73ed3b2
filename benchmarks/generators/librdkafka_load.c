/*
 * Load through librdkafka, as a fast real client makes it.
 *
 *   librdkafka_load produce --bootstrap H:P --topic T --partitions N --size BYTES [--codec C] [--acks A] [--linger MS]
 *                           [--idempotent 1] [--rate MESSAGES_PER_SECOND] [--warmup S --window S --windows N | --count N]
 *   librdkafka_load consume --bootstrap H:P --topic T --partitions N [--warmup S --window S --windows N]
 *   librdkafka_load transact --bootstrap H:P --topic T --partitions N --size BYTES [--producers N] [--records N]
 *                            [--warmup S --window S --windows N]
 *
 * produce: 500 messages in turn to each partition; a message counts when it is acknowledged. With --rate each message has its
 * time on a fixed schedule and its latency is taken from that time, so a stall is not hidden by the pause it causes; without,
 * as fast as the client takes them. consume: all partitions from the beginning, over and over. transact: so many transactional
 * producers, a thread each, with so many messages a transaction, over all partitions in turn; a message counts when its
 * transaction is committed, and the latency is that of a whole transaction.
 */
#include <errno.h>
#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "payloads.h"
#include "windows.h"

#define RUN 500

struct settings {
    const char *bootstrap, *topic, *codec, *acks, *linger, *idempotent;
    int partitions, windows, producers, records;
    size_t size;
    double rate, warmup, window;
    uint64_t count;
};

static void die(const char *what, const char *why)
{
    fprintf(stderr, "librdkafka_load: %s: %s\n", what, why);
    exit(1);
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char why[256];
    if (rd_kafka_conf_set(conf, name, value, why, sizeof why) != RD_KAFKA_CONF_OK) die(name, why);
}

static rd_kafka_t *client(rd_kafka_type_t type, rd_kafka_conf_t *conf)
{
    char why[256];
    rd_kafka_t *rk = rd_kafka_new(type, conf, why, sizeof why);
    if (!rk) die("client", why);
    return rk;
}

static uint64_t acknowledged, failed;

static void take_report(rd_kafka_event_t *event, struct windows *windows)
{
    const rd_kafka_message_t *batch[1000];
    size_t n;
    uint64_t now = now_us();
    switch (rd_kafka_event_type(event)) {
    case RD_KAFKA_EVENT_DR:
        while ((n = rd_kafka_event_message_array(event, batch, 1000)) > 0)
            for (size_t i = 0; i < n; i++) {
                if (batch[i]->err) {
                    if (!failed++) fprintf(stderr, "librdkafka_load: delivery: %s\n", rd_kafka_err2str(batch[i]->err));
                    windows->now.errors++;
                    continue;
                }
                acknowledged++;
                windows->now.messages++;
                windows->now.bytes += batch[i]->len;
                record_latency(&windows->now, now - (uint64_t)(uintptr_t)batch[i]->_private);
            }
        break;
    case RD_KAFKA_EVENT_ERROR:
        fprintf(stderr, "librdkafka_load: %s\n", rd_kafka_event_error_string(event));
        break;
    default: break;
    }
    rd_kafka_event_destroy(event);
}

static void drain(rd_kafka_queue_t *queue, struct windows *windows, int timeout_ms)
{
    rd_kafka_event_t *event;
    while ((event = rd_kafka_queue_poll(queue, timeout_ms))) {
        take_report(event, windows);
        timeout_ms = 0;
    }
}

static int produce(const struct settings *s)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", s->bootstrap);
    set(conf, "compression.codec", s->codec);
    set(conf, "acks", s->acks);
    set(conf, "linger.ms", s->linger);
    set(conf, "enable.idempotence", s->idempotent);
    set(conf, "queue.buffering.max.messages", "500000");
    set(conf, "queue.buffering.max.kbytes", "262144");
    set(conf, "batch.num.messages", "100000");
    set(conf, "socket.nagle.disable", "true");
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR);
    rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, conf);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_main(rk);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, s->topic, NULL);
    char *payloads = make_payloads(s->size);
    static rd_kafka_message_t messages[RUN];
    struct windows windows;
    uint64_t sent = 0, batches = 0, begun = now_us();

    start_windows(&windows, s->count ? 1e9 : s->warmup, s->window, s->windows);
    prctl(PR_SET_TIMERSLACK, 1000);
    for (;;) {
        uint64_t now = now_us();
        if (!turn_windows(&windows, now)) break;
        if (s->count && sent >= s->count) break;
        int n = RUN;
        if (s->rate > 0) {
            double due = (double)(now - begun) * s->rate / 1e6;
            n = due > (double)sent ? (int)(due - (double)sent) : 0;
            if (n > RUN) n = RUN;
        } else if (s->count && s->count - sent < RUN) {
            n = (int)(s->count - sent);
        }
        if (n == 0) {
            drain(queue, &windows, 0);
            uint64_t next = begun + (uint64_t)((double)(sent + 1) * 1e6 / s->rate);
            now = now_us();
            if (next > now) {
                uint64_t pause = next - now < 50 ? 50 : next - now > 500 ? 500 : next - now;
                struct timespec t = {0, (long)pause * 1000};
                nanosleep(&t, NULL);
            }
            continue;
        }
        /* at a rate, partitions take turns message by message, as independent writers would have it */
        for (int i = 0; i < n; i++) {
            uint64_t when = s->rate > 0 ? begun + (uint64_t)((double)(sent + (uint64_t)i) * 1e6 / s->rate) : now;
            memset(&messages[i], 0, sizeof messages[i]);
            messages[i].payload = payloads + ((sent + (uint64_t)i) % PAYLOADS) * s->size;
            messages[i].len = s->size;
            messages[i]._private = (void *)(uintptr_t)when;
            messages[i].partition = s->rate > 0 ? (int)((sent + (uint64_t)i) % (uint64_t)s->partitions) : 0;
        }
        int partition = (int)(batches++ % (uint64_t)s->partitions);
        int flags = RD_KAFKA_MSG_F_COPY | (s->rate > 0 ? RD_KAFKA_MSG_F_PARTITION : 0);
        int done = rd_kafka_produce_batch(topic, partition, flags, messages, n);
        int tried = n;
        while (done < tried) { /* some were refused: the queue is full, or (at a rate) out of order; offer those again */
            int kept = 0;
            for (int i = 0; i < tried; i++)
                if (messages[i].err) {
                    if (messages[i].err != RD_KAFKA_RESP_ERR__QUEUE_FULL) die("produce", rd_kafka_err2str(messages[i].err));
                    messages[i].err = 0;
                    messages[kept++] = messages[i];
                }
            drain(queue, &windows, 10);
            if (!turn_windows(&windows, now_us())) goto over;
            tried = kept;
            done = rd_kafka_produce_batch(topic, partition, flags, messages, tried);
        }
        sent += (uint64_t)n;
        drain(queue, &windows, 0);
    }
over:
    if (s->count) {
        while (acknowledged + failed < sent) drain(queue, &windows, 100);
        printf("{\"event\": \"count\", \"messages\": %lu, \"errors\": %lu, \"seconds\": %.3f}\n", (unsigned long)acknowledged,
               (unsigned long)failed, (double)(now_us() - begun) / 1e6);
    } else {
        rd_kafka_purge(rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    }
    fflush(stdout);
    return failed != 0; /* the process's end is the clean-up: destroying a client with a full queue takes seconds */
}

static int consume(const struct settings *s)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", s->bootstrap);
    set(conf, "enable.partition.eof", "true");
    set(conf, "group.id", "librdkafka-load");
    set(conf, "enable.auto.commit", "false");
    set(conf, "fetch.wait.max.ms", "5"); /* only the end of the topic waits, and there the next round begins */
    set(conf, "queued.min.messages", "200000");
    set(conf, "queued.max.messages.kbytes", "131072");
    rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, conf);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, s->topic, NULL);
    static rd_kafka_message_t *messages[10000];
    struct windows windows;

    for (int p = 0; p < s->partitions; p++)
        if (rd_kafka_consume_start_queue(topic, p, 0, queue)) die("start", strerror(errno));
    start_windows(&windows, s->warmup, s->window, s->windows);
    while (turn_windows(&windows, now_us())) {
        ssize_t n = rd_kafka_consume_batch_queue(queue, 10, messages, 10000);
        for (ssize_t i = 0; i < n; i++) {
            rd_kafka_message_t *m = messages[i];
            if (!m->err) {
                windows.now.messages++;
                windows.now.bytes += m->len;
            } else if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
                rd_kafka_error_t *error;
                rd_kafka_topic_partition_list_t *again = rd_kafka_topic_partition_list_new(1);
                rd_kafka_topic_partition_list_add(again, s->topic, m->partition)->offset = 0;
                if ((error = rd_kafka_seek_partitions(rk, again, 0))) die("seek", rd_kafka_error_string(error));
                rd_kafka_topic_partition_list_destroy(again);
            } else {
                if (!windows.now.errors++) fprintf(stderr, "librdkafka_load: consume: %s\n", rd_kafka_message_errstr(m));
            }
            rd_kafka_message_destroy(m);
        }
        rd_kafka_poll(rk, 0);
    }
    return 0;
}

static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER; /* of what all transactors add to */
static struct windows shared;
static const struct settings *transacting;

static void check(rd_kafka_error_t *error, const char *what)
{
    if (error) die(what, rd_kafka_error_string(error));
}

static void *transact_one(void *number)
{
    const struct settings *s = transacting;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char id[300];
    snprintf(id, sizeof id, "%s-%d", s->topic, (int)(intptr_t)number);
    set(conf, "bootstrap.servers", s->bootstrap);
    set(conf, "transactional.id", id);
    set(conf, "linger.ms", "0");
    set(conf, "socket.nagle.disable", "true");
    rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, conf);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, s->topic, NULL);
    char *payloads = make_payloads(s->size);
    check(rd_kafka_init_transactions(rk, 30000), "init_transactions");
    for (uint64_t sent = 0;;) {
        uint64_t begun = now_us();
        check(rd_kafka_begin_transaction(rk), "begin_transaction");
        for (int i = 0; i < s->records; i++, sent++) {
            void *payload = payloads + (sent % PAYLOADS) * s->size;
            int32_t partition = (int32_t)(sent % (uint64_t)s->partitions);
            if (rd_kafka_produce(topic, partition, RD_KAFKA_MSG_F_COPY, payload, s->size, NULL, 0, NULL))
                die("produce", rd_kafka_err2str(rd_kafka_last_error()));
        }
        check(rd_kafka_commit_transaction(rk, 30000), "commit_transaction");
        pthread_mutex_lock(&counting);
        shared.now.messages += (uint64_t)s->records;
        shared.now.bytes += (uint64_t)s->records * s->size;
        record_latency(&shared.now, now_us() - begun);
        pthread_mutex_unlock(&counting);
    }
    return NULL;
}

static int transact(const struct settings *s)
{
    struct timespec pause = {0, 1000000};
    int more = 1;
    transacting = s;
    start_windows(&shared, s->warmup, s->window, s->windows);
    for (int i = 0; i < s->producers; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, transact_one, (void *)(intptr_t)i)) die("thread", strerror(errno));
    }
    while (more) {
        nanosleep(&pause, NULL);
        pthread_mutex_lock(&counting);
        more = turn_windows(&shared, now_us());
        pthread_mutex_unlock(&counting);
    }
    fflush(stdout);
    return 0;
}

int main(int argc, char **argv)
{
    struct settings s = {.codec = "none", .acks = "1", .linger = "5", .idempotent = "false", .partitions = 1, .windows = 1,
                         .producers = 4, .records = 100, .size = 100, .warmup = 2, .window = 20};
    if (argc < 2) die("usage", "produce, consume or transact, then --name value pairs");
    for (int i = 2; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (!strcmp(name, "--bootstrap")) s.bootstrap = value;
        else if (!strcmp(name, "--topic")) s.topic = value;
        else if (!strcmp(name, "--codec")) s.codec = value;
        else if (!strcmp(name, "--acks")) s.acks = value;
        else if (!strcmp(name, "--linger")) s.linger = value;
        else if (!strcmp(name, "--idempotent")) s.idempotent = strcmp(value, "0") ? "true" : "false";
        else if (!strcmp(name, "--partitions")) s.partitions = atoi(value);
        else if (!strcmp(name, "--producers")) s.producers = atoi(value);
        else if (!strcmp(name, "--records")) s.records = atoi(value);
        else if (!strcmp(name, "--size")) s.size = (size_t)atol(value);
        else if (!strcmp(name, "--rate")) s.rate = atof(value);
        else if (!strcmp(name, "--warmup")) s.warmup = atof(value);
        else if (!strcmp(name, "--window")) s.window = atof(value);
        else if (!strcmp(name, "--windows")) s.windows = atoi(value);
        else if (!strcmp(name, "--count")) s.count = (uint64_t)atoll(value);
        else die("unknown option", name);
    }
    if (!s.bootstrap || !s.topic || s.partitions < 1 || s.size < 1) die("usage", "--bootstrap and --topic are needed");
    if (!strcmp(argv[1], "produce")) return produce(&s);
    if (!strcmp(argv[1], "consume")) return consume(&s);
    if (!strcmp(argv[1], "transact")) return transact(&s);
    die("unknown mode", argv[1]);
    return 1;
}
