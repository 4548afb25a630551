/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench-engine: what an empty filter that asks for completions costs a request, in process.  Chains
 * of 0, 1, 5 and 10 such filters over a backing in RAM are measured in turn, several rounds, and
 * the medians compared; so is the whole of an empty chain.  Prints one Markdown row per chain. With
 * an argument N it runs N requests through a chain of that many filters and prints nothing, for
 * callgrind:   bench-engine FILTERS REQUESTS
 */
#include "../unit/engine-fixture.h"

#define SIZE (1u << 20)
#define ROUNDS 9
#define REQUESTS 200000u

static struct sluice_verdict start(void *instance, struct sluice_request *r, void *scratch)
{
    (void)instance;
    (void)r;
    (void)scratch;
    return sluice_pass_and_tell();
}

static struct sluice_verdict completion(void *instance, struct sluice_request *r, void *scratch)
{
    (void)instance;
    (void)r;
    (void)scratch;
    return sluice_pass();
}

static const struct sluice_filter empty_filter = {.name = "empty", HANDLE_ALL(start, completion)};

struct setup {
    struct ram_backing *ram;
    struct station *station[CHAIN_FILTERS_MAX];
    struct sluice_disk disk;
    struct engine *engine;
    unsigned filters;
};

static void set_up(struct setup *s, unsigned filters)
{
    s->filters = filters;
    s->ram = ram_create(SIZE, 1);
    for (unsigned i = 0; i < filters; i++)
        s->station[i] = station_make(&empty_filter, s, "empty", &s->disk);
    s->engine = engine_create("bench", chain_create(s->station, filters, &s->ram->base), SIZE,
                              &no_hooks, NULL);
}

static void tear_down(struct setup *s)
{
    engine_destroy(s->engine);
    for (unsigned i = 0; i < s->filters; i++)
        free(s->station[i]);
    ram_destroy(s->ram);
}

static double run(struct setup *s, unsigned requests, unsigned op)
{
    static uint8_t data[512];
    uint64_t since = clock_now_ns();

    for (unsigned i = 0; i < requests; i++) {
        struct request *r = request_new(s->engine, &test_client);
        struct sluice_request *pub = request_public(r);

        pub->op = (uint8_t)op;
        pub->offset = (i * 4096u) % SIZE;
        pub->length = sizeof data;
        pub->data = data;
        if (request_execute(r) != 0)
            abort();
        request_free(r);
    }
    return (double)(clock_now_ns() - since) / requests;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, unsigned count)
{
    qsort(values, count, sizeof *values, by_value);
    return values[count / 2];
}

static void report(unsigned op)
{
    static const unsigned filters[] = {0, 1, 5, 10};
    struct setup setup[ARRAY_SIZE(filters)];
    double ns[ARRAY_SIZE(filters)][ROUNDS];

    for (unsigned i = 0; i < ARRAY_SIZE(filters); i++)
        set_up(&setup[i], filters[i]);
    for (unsigned round = 0; round < ROUNDS; round++)
        for (unsigned i = 0; i < ARRAY_SIZE(filters); i++)
            ns[i][round] = run(&setup[i], REQUESTS, op);
    for (unsigned i = 0; i < ARRAY_SIZE(filters); i++) {
        double m = median(ns[i], ROUNDS), base = median(ns[0], ROUNDS);

        printf("| %s | %u | %.0f | %.1f |\n", engine_op_name(op), filters[i], m,
               filters[i] ? (m - base) / filters[i] : 0.0);
        tear_down(&setup[i]);
    }
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        struct setup s;

        set_up(&s, (unsigned)atoi(argv[1]));
        run(&s, (unsigned)atoi(argv[2]), SLUICE_OP_READ);
        tear_down(&s);
        return 0;
    }
    printf("| operation | filters | ns a request | ns a filter |\n|---|---|---|---|\n");
    report(SLUICE_OP_READ);
    report(SLUICE_OP_WRITE);
    return 0;
}
