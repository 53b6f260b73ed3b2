/*
 * Time windows and latency histograms, shared by the load generators.
 *
 * A run is a warm-up and then windows of equal length. At the end of the warm-up and of each window one JSON line goes to
 * standard output, so that the reader can sample the machine at the same moments.
 */
#ifndef CHRONIK_WINDOWS_H
#define CHRONIK_WINDOWS_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Latencies in microseconds: 64 linear steps in every power of two, so a value is known to within 1.6 %. */
#define SUB_BITS 6
#define SUB_COUNT (1 << SUB_BITS)
#define BUCKETS ((40 - SUB_BITS) * SUB_COUNT)

struct window {
    uint64_t messages, bytes, errors, sampled, max;
    uint64_t histogram[BUCKETS];
};

struct windows {
    double warmup, length; /* seconds */
    int count;             /* windows to run */
    int current;           /* -1 in the warm-up */
    uint64_t begun, edge;  /* microseconds */
    struct window now;
};

static inline uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static inline int bucket_of(uint64_t us)
{
    if (us < SUB_COUNT) return (int)us;
    int shift = 63 - __builtin_clzll(us) - SUB_BITS;
    int index = ((shift + 1) << SUB_BITS) + (int)((us >> shift) - SUB_COUNT);
    return index < BUCKETS ? index : BUCKETS - 1;
}

static inline uint64_t bucket_top(int index)
{
    if (index < SUB_COUNT) return (uint64_t)index;
    int shift = (index >> SUB_BITS) - 1;
    return ((uint64_t)((index & (SUB_COUNT - 1)) + SUB_COUNT + 1) << shift) - 1;
}

static inline void record_latency(struct window *w, uint64_t us)
{
    w->histogram[bucket_of(us)]++;
    w->sampled++;
    if (us > w->max) w->max = us;
}

static inline uint64_t percentile(const struct window *w, double part)
{
    uint64_t wanted = (uint64_t)((double)w->sampled * part), seen = 0;
    for (int i = 0; i < BUCKETS; i++) {
        seen += w->histogram[i];
        if (seen > wanted) return bucket_top(i) < w->max ? bucket_top(i) : w->max;
    }
    return w->max;
}

static inline void start_windows(struct windows *s, double warmup, double length, int count)
{
    memset(s, 0, sizeof *s);
    s->warmup = warmup;
    s->length = length;
    s->count = count;
    s->current = -1;
    s->begun = now_us();
    s->edge = s->begun + (uint64_t)(warmup * 1e6);
}

/* Call often with the present time: closes the window that is over. Returns 0 when the last one is. */
static inline int turn_windows(struct windows *s, uint64_t now)
{
    if (now < s->edge) return 1;
    if (s->current < 0) {
        printf("{\"event\": \"begin\"}\n");
    } else {
        const struct window *w = &s->now;
        double seconds = (double)(now - s->begun) / 1e6;
        printf("{\"event\": \"window\", \"index\": %d, \"seconds\": %.6f, \"messages\": %lu, \"bytes\": %lu, \"errors\": %lu, "
               "\"messages_per_second\": %.1f, \"megabytes_per_second\": %.3f",
               s->current, seconds, (unsigned long)w->messages, (unsigned long)w->bytes, (unsigned long)w->errors,
               (double)w->messages / seconds, (double)w->bytes / seconds / 1e6);
        if (w->sampled) {
            printf(", \"latency_us\": {\"p50\": %lu, \"p90\": %lu, \"p95\": %lu, \"p99\": %lu, \"p999\": %lu, \"max\": %lu}",
                   (unsigned long)percentile(w, .5), (unsigned long)percentile(w, .9), (unsigned long)percentile(w, .95),
                   (unsigned long)percentile(w, .99), (unsigned long)percentile(w, .999), (unsigned long)w->max);
            int first = 1;
            printf(", \"histogram\": [");
            for (int i = 0; i < BUCKETS; i++)
                if (w->histogram[i]) {
                    printf("%s[%lu, %lu]", first ? "" : ", ", (unsigned long)bucket_top(i), (unsigned long)w->histogram[i]);
                    first = 0;
                }
            printf("]");
        }
        printf("}\n");
    }
    fflush(stdout);
    s->current++;
    s->begun = now;
    s->edge = now + (uint64_t)(s->length * 1e6);
    memset(&s->now, 0, sizeof s->now);
    return s->current < s->count;
}

#endif
