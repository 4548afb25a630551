/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-loader: filters are found by name and by path, loaded once, and refused with a sentence that
 * says what is wrong with them; options from words.
 */
#include "host/host.h"
#include "unit.h"

#include <errno.h>

static char built[300], test_filters[300], folder[] = "/tmp/sluice-test-loader-XXXXXX";

/* --- tables in memory ----------------------------------------------------------------------- */

static int open_none(struct sluice_disk *disk, const struct sluice_value *values, void **instance,
                     struct sluice_error *error)
{
    (void)disk, (void)values, (void)instance, (void)error;
    return 0;
}

static void close_none(void *instance)
{
    (void)instance;
}

static struct sluice_verdict pass(void *instance, struct sluice_request *request, void *scratch)
{
    (void)instance, (void)request, (void)scratch;
    return sluice_pass();
}

static int run_none(void *instance, int argc, const char *const *argv, struct sluice_reply *reply,
                    struct sluice_error *error)
{
    (void)instance, (void)argc, (void)argv, (void)reply, (void)error;
    return 0;
}

static struct sluice_option options[4];
static struct sluice_counter counters[3];
static struct sluice_verb verbs[3];

/* One that is in order; the tests spoil it. */
static struct sluice_filter sound(void)
{
    struct sluice_handler unseen = SLUICE_PASS_UNSEEN, handled = SLUICE_HANDLE(pass, NULL);

    memset(options, 0, sizeof options);
    memset(counters, 0, sizeof counters);
    memset(verbs, 0, sizeof verbs);
    options[0] = (struct sluice_option){
        "ssd.size", SLUICE_TYPE_SIZE, SLUICE_OPTION_LIVE, 4096, 1 << 30, "64KiB", NULL, "Size."};
    options[1] =
        (struct sluice_option){"mode", SLUICE_TYPE_ENUM, 0, 0, 0, NULL, "fast|slow", "How."};
    counters[0] = (struct sluice_counter){"hits", SLUICE_COUNTER, "", "Hits."};
    verbs[0] = (struct sluice_verb){"show", "", "Shows.", run_none};
    return (struct sluice_filter){
        .struct_size = sizeof(struct sluice_filter),
        .api_version = SLUICE_FILTER_API_VERSION,
        .name = "sound",
        .version = "1",
        .vendor = "tests",
        .summary = "Sound.",
        .filter_class = SLUICE_CLASS_INSPECTION,
        .options = options,
        .counters = counters,
        .verbs = verbs,
        .open = open_none,
        .close = close_none,
        .read = handled,
        .write = handled,
        .flush = unseen,
        .trim = unseen,
        .zero = unseen,
        .extents = unseen,
        .prefetch = unseen,
    };
}

static void must_refuse(const struct sluice_filter *f, const char *why)
{
    struct err e = {0};

    CHECK_EQ(host_check_filter(f, &e), -EINVAL);
    CHECK(strstr(e.text, why));
    if (!strstr(e.text, why))
        fprintf(stderr, "  said: %s\n  not:  %s\n", e.text, why);
}

static void test_a_sound_table_is_accepted(void)
{
    struct sluice_filter f = sound();
    struct err e = {0};

    CHECK_EQ(host_check_filter(&f, &e), 0);
    f.struct_size += 64; /* of a later header */
    CHECK_EQ(host_check_filter(&f, &e), 0);
    f.options = NULL;
    f.counters = NULL;
    f.verbs = NULL;
    CHECK_EQ(host_check_filter(&f, &e), 0);
}

#define REFUSE(change, why)               \
    do {                                  \
        struct sluice_filter f = sound(); \
        change;                           \
        must_refuse(&f, why);             \
    } while (0)

static void test_heads_are_checked(void)
{
    REFUSE(f.api_version = 2, "was built for filter API version 2, this gateway speaks 1");
    REFUSE(f.struct_size = 100, "set struct_size to sizeof(struct sluice_filter)");
    REFUSE(f.name = "Sound", "its name has to be");
    REFUSE(f.name = "so_und", "its name has to be");
    REFUSE(f.name = NULL, "its name has to be");
    REFUSE(f.vendor = "", "filter sound: version, vendor and summary");
    REFUSE(f.filter_class = 0, "no filter class 0");
    REFUSE(f.filter_class = SLUICE_CLASS_END, "no filter class 8");
    REFUSE(f.needs = 0x80, "needs or traits");
    REFUSE(f.open = NULL, "open and close");
    REFUSE(f.close = NULL, "open and close");
    REFUSE(f.scratch_bytes = 1025, "1025 bytes of scratch");
    REFUSE(f.block_bytes = 4097, "block_bytes is 4097");
    REFUSE(f.block_bytes = 131072, "block_bytes is 131072");
}

static void test_operations_are_checked(void)
{
    REFUSE(f.trim.handling = SLUICE_FORGOTTEN, "filter sound: forgets trim");
    REFUSE(f.prefetch.handling = SLUICE_FORGOTTEN, "forgets prefetch");
    REFUSE(f.flush.handling = 7, "says neither handled nor unseen of flush");
    REFUSE(f.read.start = NULL, "handles read but has no start callback");
    REFUSE(f.zero.start = pass, "lets zero pass unseen but has a callback");
    REFUSE(f.traits = SLUICE_TRAIT_HOLDS_DATA, "holds data, so it has to handle extents");
    REFUSE((f.traits = SLUICE_TRAIT_HOLDS_DATA, f.extents = f.read),
           "holds data, so it has to handle prefetch");
}

static void test_option_tables_are_checked(void)
{
    REFUSE(options[0].name = "ssd..size", "option \"ssd..size\"");
    REFUSE(options[0].name = "ssd-size", "option \"ssd-size\"");
    REFUSE(options[0].type = 40, "there is no type 40");
    REFUSE(options[0].help = NULL, "option ssd.size: has no help");
    REFUSE(options[0].default_text = "64KB", "the default of ssd.size: expected a size");
    REFUSE(options[0].default_text = "1KiB", "the default of ssd.size: 1KiB is less than");
    REFUSE(options[0].flags = SLUICE_OPTION_REQUIRED, "is required, so its default is never used");
    REFUSE(options[0].flags = SLUICE_OPTION_TIER, "the name of a tier is a string");
    REFUSE(options[0].flags = 0x40, "flags that this gateway does not know");
    REFUSE(options[0].maximum = 1, "its maximum is below its minimum");
    REFUSE(options[1].words = NULL, "an enum needs them");
    REFUSE(options[0].words = "a|b", "words are for an enum");
    REFUSE(options[1].words = "fast||slow", "an empty word");
    REFUSE(options[1].words = "fast|", "an empty word");
    REFUSE(options[1].default_text = "fats", "the default of mode: expected one of");
    REFUSE(options[1].name = "ssd.size", "stands twice");
}

static void test_counter_and_verb_tables_are_checked(void)
{
    REFUSE(counters[0].name = "hits-total", "counter \"hits-total\"");
    REFUSE(counters[0].kind = 9, "counter hits: kind, unit and help");
    REFUSE(counters[0].unit = NULL, "counter hits: kind, unit and help");
    REFUSE(counters[1] = counters[0], "counter hits: stands twice");
    REFUSE(verbs[0].name = "Show", "verb \"Show\"");
    REFUSE(verbs[0].run = NULL, "verb show: arguments, help and run");
    REFUSE(verbs[1] = verbs[0], "verb show: stands twice");
}

/* --- files ---------------------------------------------------------------------------------- */

static void set_path(const char *first, const char *second)
{
    const char *folders[] = {first, second};

    CHECK_EQ(host_set_filter_path(folders, second ? 2 : 1), 0);
}

static void must_not_find(const char *name, const char *why)
{
    struct err e = {0};

    CHECK(host_find_filter(name, &e) == NULL);
    CHECK(strstr(e.text, why));
    if (!strstr(e.text, why))
        fprintf(stderr, "  said: %s\n  not:  %s\n", e.text, why);
}

static void test_filters_are_found_by_name_and_path_and_loaded_once(void)
{
    const struct sluice_filter *f;
    struct err e = {0};
    char path[400];

    set_path("/nowhere", built);
    f = host_find_filter("passthru", &e);
    CHECK(f && strcmp(f->name, "passthru") == 0);
    CHECK(host_find_filter("passthru", &e) == f);
    snprintf(path, sizeof path, "%s/tests/../passthru.so", built);
    CHECK(host_find_filter(path, &e) == f);
    CHECK(host_find_filter("qos", &e) != NULL);
    must_not_find("nothing", "filter nothing: there is no nothing.so in /nowhere or the other");
    must_not_find("./nothing.so", "./nothing.so: No such file");
}

static void copy(const char *from, const char *to)
{
    char command[900];

    snprintf(command, sizeof command, "cp '%s' '%s/%s'", from, folder, to);
    CHECK_EQ(system(command), 0);
}

static void test_what_is_no_filter_is_refused(void)
{
    char path[400];
    FILE *f;

    snprintf(path, sizeof path, "%s/text.so", folder);
    f = fopen(path, "w");
    fputs("this is no library\n", f);
    fclose(f);
    must_not_find(path, "text.so: ");
    snprintf(path, sizeof path, "%s/passthru.so", built);
    copy(path, "other.so");
    set_path(folder, test_filters);
    must_not_find("other", "holds a filter of another name, passthru");
    must_not_find("forgetful", "forgets trim");
    must_not_find("wrongabi", "was built for filter API version 99");
    snprintf(path, sizeof path, "%s/nbdkit-sluice-plugin.so", built);
    must_not_find(path, "is no filter: it does not export sluice_filter_table");
}

struct listing {
    unsigned sound, broken;
    char text[2000];
};

static void add(const char *path, const struct sluice_filter *filter, const char *why, void *arg)
{
    struct listing *l = arg;
    size_t n = strlen(l->text);

    CHECK(path[0]);
    CHECK(!strstr(path, "nbdkit-")); /* a library that is no filter is passed over */
    l->sound += filter != NULL;
    l->broken += filter == NULL && why != NULL;
    snprintf(l->text + n, sizeof l->text - n, "%s ", filter ? filter->name : "-");
}

static void test_all_are_listed_also_those_that_are_broken(void)
{
    CLEANUP_FREE const char **names = NULL;
    struct listing l = {0};
    unsigned count = 0;

    set_path(test_filters, built);
    names = host_filter_names();
    while (names && names[count])
        count++;
    CHECK(count >= 13);
    for (unsigned i = 1; i < count; i++)
        CHECK(strcmp(names[i - 1], names[i]) < 0);
    host_for_each_filter(add, &l);
    CHECK(l.sound + l.broken < count);
    CHECK(l.broken >= 2);
    CHECK(strstr(l.text, "passthru ") && strstr(l.text, "qos ") && strstr(l.text, "holder "));
}

static void test_a_filter_describes_itself(void)
{
    struct err e = {0};
    const struct sluice_filter *f;
    json_t *j, *option;

    set_path(built, NULL);
    f = host_find_filter("qos", &e);
    j = host_filter_describe(f);
    CHECK_STR(json_string_value(json_object_get(j, "class")), "io-control");
    CHECK_STR(json_string_value(json_object_get(json_object_get(j, "operations"), "flush")),
              "unseen");
    CHECK_STR(json_string_value(json_object_get(json_object_get(j, "operations"), "read")), "down");
    option = json_array_get(json_object_get(j, "options"), 0);
    CHECK_STR(json_string_value(json_object_get(option, "name")), "iops");
    CHECK_STR(json_string_value(json_object_get(option, "type")), "integer");
    CHECK(json_is_true(json_object_get(option, "live")));
    CHECK(json_is_null(json_object_get(option, "default")));
    json_decref(j);
}

/* --- values --------------------------------------------------------------------------------- */

static int parse(uint32_t type, const char *words, const char *text, struct sluice_value *v)
{
    struct sluice_option o = {"x", type, 0, 0, 0, NULL, words, "X."};
    struct err e = {0};

    return host_parse_value(&o, text, v, &e);
}

static void test_values_from_text(void)
{
    struct sluice_value v;

    CHECK(parse(SLUICE_TYPE_BOOL, NULL, "true", &v) == 0 && v.integer == 1 && v.is_set);
    CHECK(parse(SLUICE_TYPE_BOOL, NULL, "false", &v) == 0 && v.integer == 0);
    CHECK_EQ(parse(SLUICE_TYPE_BOOL, NULL, "yes", &v), -EINVAL);
    CHECK(parse(SLUICE_TYPE_INTEGER, NULL, "-5", &v) == 0 && v.integer == -5);
    CHECK_EQ(parse(SLUICE_TYPE_INTEGER, NULL, "5x", &v), -EINVAL);
    CHECK_EQ(parse(SLUICE_TYPE_INTEGER, NULL, "", &v), -EINVAL);
    CHECK_EQ(parse(SLUICE_TYPE_INTEGER, NULL, "99999999999999999999", &v), -ERANGE);
    CHECK(parse(SLUICE_TYPE_SIZE, NULL, "64MiB", &v) == 0 && v.integer == 64 << 20);
    CHECK_EQ(parse(SLUICE_TYPE_SIZE, NULL, "64M", &v), -EINVAL);
    CHECK_EQ(parse(SLUICE_TYPE_SIZE, NULL, "9000PiB", &v), -ERANGE);
    CHECK(parse(SLUICE_TYPE_RATE, NULL, "10MiB/s", &v) == 0 && v.integer == 10 << 20);
    CHECK(parse(SLUICE_TYPE_RATE, NULL, "4096", &v) == 0 && v.integer == 4096);
    CHECK_EQ(parse(SLUICE_TYPE_RATE, NULL, "/s", &v), -EINVAL);
    CHECK(parse(SLUICE_TYPE_DURATION, NULL, "5ms", &v) == 0 && v.integer == 5000000);
    CHECK_EQ(parse(SLUICE_TYPE_DURATION, NULL, "5", &v), -EINVAL);
    CHECK(parse(SLUICE_TYPE_STRING, NULL, "", &v) == 0 && v.string[0] == '\0');
    CHECK_EQ(parse(SLUICE_TYPE_PATH, NULL, "", &v), -EINVAL);
    CHECK(parse(SLUICE_TYPE_ENUM, "a|bc|d", "bc", &v) == 0 && v.integer == 1);
    CHECK(parse(SLUICE_TYPE_ENUM, "a|bc|d", "d", &v) == 0 && v.integer == 2);
    CHECK_EQ(parse(SLUICE_TYPE_ENUM, "a|bc|d", "b", &v), -EINVAL);
    CHECK_EQ(parse(SLUICE_TYPE_ENUM, "a|bc|d", "a|bc", &v), -EINVAL);
    CHECK_EQ(parse(SLUICE_TYPE_SECRET, NULL, "/nowhere/at/all", &v), -ENOENT);
    CHECK_EQ(parse(SLUICE_TYPE_SECRET, NULL, "/etc/passwd", &v), -EACCES);
}

static void must_not_parse(const struct sluice_filter *f, const char *word, const char *why)
{
    struct sluice_value *values = NULL;
    struct err e = {0};

    CHECK(host_parse_values(f, &word, 1, &values, &e) < 0);
    CHECK(strstr(e.text, why));
    if (!strstr(e.text, why))
        fprintf(stderr, "  said: %s\n  not:  %s\n", e.text, why);
}

static void test_words_go_over_defaults(void)
{
    struct sluice_filter f = sound();
    char word[] = "mode=slow";
    const char *const words[] = {word};
    CLEANUP_FREE struct sluice_value *values = NULL;
    struct err e = {0};

    CHECK_EQ(host_parse_values(&f, words, 1, &values, &e), 0);
    memset(word, 'x', sizeof word - 1); /* the strings are the block's own */
    CHECK(values[0].is_set && values[0].integer == 65536);
    CHECK(values[1].is_set && values[1].integer == 1);
    CHECK_STR(values[1].string, "slow");
    must_not_parse(&f, "mode", "expected option=value, not \"mode\"");
    must_not_parse(&f, "moed=slow", "no option \"moed\" (did you mean mode?)");
    must_not_parse(&f, "mode=quick",
                   "filter sound: mode: expected one of fast|slow, not \"quick\"");
    must_not_parse(&f, "ssd.size=2GiB", "ssd.size: 2GiB is more than the most");
    options[1].flags = SLUICE_OPTION_REQUIRED;
    must_not_parse(&f, "ssd.size=1MiB", "option mode is required");
}

int main(void)
{
    const char *build = getenv("top_builddir");
    char command[100];

    snprintf(built, sizeof built, "%s", build ? build : ".");
    snprintf(test_filters, sizeof test_filters, "%s/tests/filters", build ? build : ".");
    if (!mkdtemp(folder))
        return 99;
    RUN(test_a_sound_table_is_accepted);
    RUN(test_heads_are_checked);
    RUN(test_operations_are_checked);
    RUN(test_option_tables_are_checked);
    RUN(test_counter_and_verb_tables_are_checked);
    RUN(test_filters_are_found_by_name_and_path_and_loaded_once);
    RUN(test_what_is_no_filter_is_refused);
    RUN(test_all_are_listed_also_those_that_are_broken);
    RUN(test_a_filter_describes_itself);
    RUN(test_values_from_text);
    RUN(test_words_go_over_defaults);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) == 0 ? unit_result() : 99;
}
