/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz-iscsi-text: key=value text, every kind of value, operational keys and additional headers.
 * The first byte chooses the room of the reply; the rest is the text.
 */
#include "iscsi/negotiate.h"
#include "iscsi/pdu.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_values(struct slice value)
{
    uint8_t binary[64];
    char name[ISCSI_NAME_BYTES], text[32];
    struct slice item, list = value;
    uint32_t number;
    bool flag;
    size_t length = 0;

    assert(value_binary(value, binary, sizeof binary) <= (int)sizeof binary);
    assert(!value_name(value, name) || strlen(name) == value.length);
    assert(!slice_copy(value, text, sizeof text) || strlen(text) == value.length);
    if (value_number(value, &number) || value_bool(value, &flag))
        assert(value.length > 0);
    while (value_next(&list, &item))
        length += item.length + 1;
    assert(length <= value.length + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct key_cursor cursor;
    struct slice key, value;
    struct negotiation n;
    struct pdu_extension extension;
    struct key_writer w = {.size = size ? data[0] * 4u : 0};

    if (size == 0)
        return 0;
    w.out = malloc(w.size + 1);
    negotiation_init(&n, data[0] & 1);
    cursor.rest = (struct slice){(const char *)data + 1, size - 1};
    while (w.out && key_next(&cursor, &key, &value) == KEY_PAIR) {
        try_values(value);
        if (negotiate(&n, key, value, &w) == NEGOTIATED_UNKNOWN)
            key_write(&w, key, SLICE("NotUnderstood"));
        if (negotiate_again(&n, key, value, &w) == NEGOTIATED_ERROR)
            continue;
        assert(w.length <= w.size);
    }
    negotiation_settle(&n);
    assert(n.parameters.first_burst_bytes <= n.parameters.max_burst_bytes);
    assert(n.parameters.send_bytes >= 512 && n.parameters.max_outstanding_r2t >= 1);
    if (size <= AHS_BYTES_MAX && pdu_parse_ahs(data, (unsigned)size, &extension) &&
        extension.cdb_rest)
        assert(extension.cdb_rest + extension.cdb_rest_bytes <= data + size);
    free(w.out);
    return 0;
}
