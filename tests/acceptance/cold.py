"""Reads a file of the cold tier with DuckDB, a database by people who have not heard of us, and prints what it finds as JSON.

Nothing of Nethical is in here. Another key must open nothing, and neither may a changed file.

Run: python3 cold.py FILE KEY   (KEY is 32 bytes in base64; needs the package duckdb, 2.0 or later)
"""

import base64
import json
import os
import sys
import tempfile

import duckdb


def ask(path, key, question):
    database = duckdb.connect()
    # DuckDB 2.0.0 fails where it hands a condition down into an encrypted file of another writer.
    database.execute("SET disabled_optimizers = 'filter_pushdown'")
    database.execute(f"PRAGMA add_parquet_key('cold', '{key}')")
    file = f"read_parquet('{path}', encryption_config = {{footer_key: 'cold'}})"
    return database.execute(question.format(file=file)).fetchall()


def is_refused(path, key):
    try:
        ask(path, key, "SELECT max(COLUMNS(*)) FROM {file}")
    except duckdb.Error:
        return True
    return False


def changed(path, at):
    with open(path, "rb") as file:
        data = bytearray(file.read())
    data[at] ^= 1
    with tempfile.NamedTemporaryFile(suffix=".parquet", delete=False) as file:
        file.write(data)
    return file.name


def main(path, key):
    rows = ask(path, key, "SELECT count(*), sum(risk), count(DISTINCT agent), min(leaf_index), max(leaf_index) FROM {file}")
    verdicts = ask(path, key, "SELECT verdict, count(*) FROM {file} WHERE verdict <> 'allow' GROUP BY ALL")
    intents = ask(path, key, "SELECT count(*) FROM {file} WHERE length(args->>'intent') > 10")
    other = base64.b64encode(bytes(32)).decode()
    assert is_refused(path, other), "another key opens it"
    size = os.path.getsize(path)
    for at in (size // 4, size // 2, size - 40):
        copy = changed(path, at)
        try:
            assert is_refused(copy, key), f"byte {at} was changed"
        finally:
            os.unlink(copy)
    count, risk, agents, first, last = rows[0]
    print(json.dumps({"rows": count, "risk": int(risk), "agents": agents, "first": first, "last": last,
                      "verdicts": dict(verdicts), "intents": intents[0][0]}))


main(*sys.argv[1:3])
