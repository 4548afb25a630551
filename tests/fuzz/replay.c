/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replay: a main() for a libFuzzer target where there is no libFuzzer: runs it over the files and
 * folders that are named, once each.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(INPUT_MAX), *exact;
    size_t size;

    if (!file || !data) {
        perror(path);
        free(data);
        return -1;
    }
    size = fread(data, 1, INPUT_MAX, file);
    fclose(file);
    exact = malloc(size ? size : 1); /* so that a sanitizer sees one byte too many */
    if (exact) {
        memcpy(exact, data, size);
        LLVMFuzzerTestOneInput(exact, size);
    }
    free(exact);
    free(data);
    return 1;
}

static int replay_folder(DIR *folder, const char *path)
{
    struct dirent *entry;
    char name[4096];
    int count = 0;

    while ((entry = readdir(folder)) != NULL)
        if (entry->d_name[0] != '.') {
            snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
            count += replay_file(name);
        }
    closedir(folder);
    return count;
}

int main(int argc, char **argv)
{
    int count = 0;

    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);

        count += folder ? replay_folder(folder, argv[i]) : replay_file(argv[i]);
    }
    printf("%d inputs\n", count);
    return count > 0 ? 0 : 1;
}
