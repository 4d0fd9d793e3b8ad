/* SPDX-License-Identifier: MIT */
/* SQLite in WAL mode: a prepared INSERT, one transaction per APPEND_STEP records, no sync. */
#include "tests/bench/append.h"
#include "tests/bench/support.h"

#if __has_include(<sqlite3.h>)
#include <sqlite3.h>
#include <stdio.h>
#include <sys/stat.h>

static void check(sqlite3 *database, int result)
{
    if (result != SQLITE_OK && result != SQLITE_DONE && result != SQLITE_ROW)
        support_refuse(database ? sqlite3_errmsg(database) : "SQLite can't be opened");
}

static sqlite3 *open_database(const struct append_job *job)
{
    sqlite3 *database = NULL;
    check(database, sqlite3_open(job->path, &database));
    sqlite3_busy_timeout(database, 5000);
    check(database, sqlite3_exec(database, "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;", NULL,
                                 NULL, NULL));
    return database;
}

static void follow(struct append_reader *reader)
{
    sqlite3 *database = open_database(reader->job);
    sqlite3_stmt *select;
    static const char query[] =
        "SELECT seq, payload, crc32c FROM datagram WHERE seq >= ? ORDER BY seq";
    check(database, sqlite3_prepare_v2(database, query, -1, &select, NULL));
    while (!atomic_load(&reader->job->done)) {
        sqlite3_bind_int64(select, 1, (sqlite3_int64)*reader->count);
        while (!atomic_load(&reader->job->done)) {
            int result = sqlite3_step(select);
            check(database, result);
            if (result != SQLITE_ROW)
                break;
            uint32_t crc = avro_log_crc32c(sqlite3_column_blob(select, 1),
                                           (size_t)sqlite3_column_bytes(select, 1));
            if ((uint32_t)sqlite3_column_int64(select, 2) != crc)
                support_refuse("a reader found a record that is not sound");
            ++*reader->count;
        }
        sqlite3_reset(select);
        append_reader_rest();
    }
    sqlite3_finalize(select);
    sqlite3_close(database);
}

static void insert(sqlite3 *database, sqlite3_stmt *statement, const struct avro_log_record *record)
{
    uint32_t crc = avro_log_crc32c(record->payload, record->payload_length);
    sqlite3_bind_int64(statement, 1, record->seq);
    sqlite3_bind_int64(statement, 2, record->received_at_us);
    sqlite3_bind_int(statement, 3, record->received_ns);
    sqlite3_bind_text(statement, 4, record->source, (int)record->source_length, SQLITE_STATIC);
    sqlite3_bind_int(statement, 5, record->lost_before);
    sqlite3_bind_int(statement, 6, record->cut);
    sqlite3_bind_int(statement, 7, record->flags);
    sqlite3_bind_blob(statement, 8, record->payload, (int)record->payload_length, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 9, crc);
    check(database, sqlite3_step(statement));
    check(database, sqlite3_reset(statement));
}

static void run(struct append_job *job)
{
    struct avro_log_record record;
    struct stat status;
    sqlite3 *database = open_database(job);
    sqlite3_stmt *begin, *commit, *statement;
    static const char table[] =
        "CREATE TABLE datagram (seq INTEGER PRIMARY KEY, received_at INTEGER,"
        " received_ns INTEGER, source TEXT, lost_before INTEGER, cut INTEGER, flags INTEGER,"
        " payload BLOB, crc32c INTEGER)";
    check(database, sqlite3_exec(database, table, NULL, NULL, NULL));
    check(database, sqlite3_prepare_v2(database, "BEGIN", -1, &begin, NULL));
    check(database, sqlite3_prepare_v2(database, "COMMIT", -1, &commit, NULL));
    check(database,
          sqlite3_prepare_v2(database, "INSERT INTO datagram VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                             -1, &statement, NULL));
    append_fill(job, 1000000, &record);
    uint64_t most = job->size / avro_log_record_size(&record);

    append_readers_start(job, follow, NULL);
    append_clock_begin(job);
    while (job->records + APPEND_STEP <= most) {
        check(database, sqlite3_step(begin));
        check(database, sqlite3_reset(begin));
        for (int i = 0; i < APPEND_STEP; i++) {
            append_fill(job, job->records++, &record);
            insert(database, statement, &record);
        }
        check(database, sqlite3_step(commit));
        check(database, sqlite3_reset(commit));
        if (append_clock_over(job))
            break;
    }
    append_clock_end(job);
    append_readers_stop(job);
    sqlite3_finalize(begin);
    sqlite3_finalize(commit);
    sqlite3_finalize(statement);
    sqlite3_close(database);
    if (stat(job->path, &status) == 0)
        job->bytes = (uint64_t)status.st_size;
}

const struct append_backend append_sqlite = {"sqlite", "SQLite, WAL, batches, no sync", true, run,
                                             NULL};
#else
const struct append_backend append_sqlite = {"sqlite", "SQLite", true, NULL, NULL};
#endif
