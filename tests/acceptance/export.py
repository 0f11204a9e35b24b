"""Reads an exported folder of Parquet parts with DuckDB, a database by people who have not heard of us, and prints what it finds.

Nothing of Nethical is in here.

Run: python3 export.py DIR   (needs the package duckdb, 2.0 or later)
"""

import json
import sys

import duckdb


def main(folder):
    database = duckdb.connect()
    database.execute(f"CREATE VIEW entries AS FROM read_parquet('{folder}/*.parquet')")

    def ask(question):
        return database.execute(question).fetchall()

    rows, ids = ask("SELECT count(*), count(DISTINCT decision_id) FROM entries")[0]
    kinds = dict(ask("SELECT kind, count(*) FROM entries GROUP BY ALL"))
    verdicts = dict(ask("SELECT verdict, count(*) FROM entries WHERE verdict IS NOT NULL GROUP BY ALL"))
    # The columns must say what the entries that they were taken from say, list and nanoseconds included.
    differing = ask(
        """SELECT count(*) FROM entries WHERE kind = 'decision' AND (
             name <> body->>'name' OR agent <> body->>'agent' OR verdict <> decision->>'verdict'
             OR risk <> (decision->'risk'->>'score')::INT
             OR len(reasons) <> json_array_length(decision->'reasons')
             OR decision_id <> log_group || '.' || era || '.' || leaf_index
             OR epoch_ns(log_time) <> (decision->>'decided_at_ns')::BIGINT)"""
    )[0][0]
    blocked = ask("SELECT DISTINCT reasons[1] FROM entries WHERE verdict = 'block'")
    texts = [text for (text,) in ask("SELECT DISTINCT body->'args'->>'text' FROM entries WHERE body IS NOT NULL AND kind = 'decision'")]
    types = dict(ask("SELECT column_name, column_type FROM (DESCRIBE entries)"))
    print(json.dumps({"rows": rows, "ids": ids, "kinds": kinds, "verdicts": verdicts, "differing": differing,
                      "blocked": [reason for (reason,) in blocked], "texts": texts, "types": types}))


main(sys.argv[1])
