/* SPDX-License-Identifier: MIT */
/* LMDB, in its fastest way to append: MDB_APPEND with integer keys, a writable map, no sync, one
 * transaction per APPEND_STEP records. The value is the encoded record with its CRC. */
#include "tests/bench/append.h"
#include "tests/bench/support.h"

#if __has_include(<lmdb.h>)
#include <lmdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct database {
    MDB_env *environment;
    MDB_dbi table;
};

static void check(int result)
{
    if (result != 0)
        support_refuse(mdb_strerror(result));
}

static void follow(struct append_reader *reader)
{
    struct database *database = reader->context;
    MDB_txn *transaction;
    MDB_cursor *cursor;
    check(mdb_txn_begin(database->environment, NULL, MDB_RDONLY, &transaction));
    check(mdb_cursor_open(transaction, database->table, &cursor));
    while (!atomic_load(&reader->job->done)) {
        uint64_t next = *reader->count;
        MDB_val key = {sizeof next, &next}, value;
        struct avro_log_record record;
        const char *what;
        int result = mdb_cursor_get(cursor, &key, &value, MDB_SET);
        for (; result == 0 && !atomic_load(&reader->job->done); ++*reader->count) {
            if (avro_log_read_record(value.mv_data, value.mv_size, &record, &what) < 0)
                support_refuse("a reader found a record that is not sound");
            result = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        }
        if (result != 0 && result != MDB_NOTFOUND)
            check(result);
        append_reader_rest();
        mdb_txn_reset(transaction);
        check(mdb_txn_renew(transaction));
        check(mdb_cursor_renew(transaction, cursor));
    }
    mdb_cursor_close(cursor);
    mdb_txn_abort(transaction);
}

/* false when the map is full. */
static bool write_step(struct append_job *job, struct database *database)
{
    static uint8_t encoded[8192];
    MDB_txn *transaction;
    check(mdb_txn_begin(database->environment, NULL, 0, &transaction));
    uint64_t seq = job->records;
    for (int i = 0; i < APPEND_STEP; i++, seq++) {
        struct avro_log_record record;
        append_fill(job, seq, &record);
        uint8_t *payload = avro_log_write_record_head(encoded, &record);
        memcpy(payload, record.payload, record.payload_length);
        uint8_t *end = avro_log_write_record_crc(encoded, payload + record.payload_length);
        MDB_val key = {sizeof seq, &seq}, value = {(size_t)(end - encoded), encoded};
        int result = mdb_put(transaction, database->table, &key, &value, MDB_APPEND);
        if (result == MDB_MAP_FULL) {
            mdb_txn_abort(transaction);
            return false;
        }
        check(result);
    }
    check(mdb_txn_commit(transaction));
    job->records = seq;
    return true;
}

static void run(struct append_job *job)
{
    struct database database;
    MDB_txn *transaction;
    MDB_envinfo info;
    MDB_stat status;
    check(mdb_env_create(&database.environment));
    check(mdb_env_set_mapsize(database.environment, job->size));
    check(mdb_env_set_maxreaders(database.environment, APPEND_READERS_MAX));
    check(mdb_env_open(database.environment, job->path,
                       MDB_NOSUBDIR | MDB_NOSYNC | MDB_WRITEMAP | MDB_NOMETASYNC | MDB_NOTLS,
                       0600));
    check(mdb_txn_begin(database.environment, NULL, 0, &transaction));
    check(mdb_dbi_open(transaction, NULL, MDB_INTEGERKEY, &database.table));
    check(mdb_txn_commit(transaction));
    append_readers_start(job, follow, &database);
    append_clock_begin(job);
    while (write_step(job, &database))
        if (append_clock_over(job))
            break;
    append_clock_end(job);
    append_readers_stop(job);
    check(mdb_env_info(database.environment, &info));
    check(mdb_env_stat(database.environment, &status));
    job->bytes = (info.me_last_pgno + 1) * status.ms_psize;
    mdb_env_close(database.environment);
}

const struct append_backend append_lmdb = {"lmdb", "LMDB, MDB_APPEND, writable map, no sync", true,
                                           run, NULL};
#else
const struct append_backend append_lmdb = {"lmdb", "LMDB", true, NULL, NULL};
#endif
