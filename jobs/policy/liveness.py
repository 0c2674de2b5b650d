"""How a worker shows others that it is alive, and after how many seconds without that it counts as gone. Pure.

These figures belong together: a worker tells the ledger every `SIGN_EVERY` seconds. A sign that failed is told again
after `SIGN_RETRY`, so that several tries fit into `SILENT_AFTER`, when others take its places and copies. What people
read ("no worker has been seen") is slower to say so: `SEEN_WITHIN` is several signs.
"""

from __future__ import annotations

#: Seconds between two signs of life in the ledger.
SIGN_EVERY = 10.0
#: Seconds until the next try where a sign of life could not be written.
SIGN_RETRY = 1.0
#: Seconds without a sign of life after which a worker's submits hold no places and its copies are free for others.
SILENT_AFTER = 20.0
#: Seconds without a sign of life after which people are told that a worker is not there.
SEEN_WITHIN = 60.0
#: Seconds without a sign of life after which a worker is no longer listed in the metrics.
LISTED_FOR = 900.0
