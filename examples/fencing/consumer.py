"""Writes each line of its input to the ledger, under the epoch that firedrill wrote before it started this pod.

Needs psycopg 3. The token is read once, at the start: a pod that lives on after its region has lost the singleton must not pick up
the next holder's epoch.
"""

import os
import sys

import psycopg


def main() -> None:
    with open(os.environ.get("FIREDRILL_EPOCH_FILE", "/etc/firedrill/epoch"), encoding="ascii") as token:
        epoch = int(token.read())
    with psycopg.connect(options=f"-c firedrill.epoch={epoch}", autocommit=True) as connection:
        for line in sys.stdin:
            # A refusal ends it: whoever is told that its epoch is over has nothing left to do.
            connection.execute("INSERT INTO ledger (entry) VALUES (%s)", (line.rstrip("\n"),))


if __name__ == "__main__":
    main()
