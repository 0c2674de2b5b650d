"""From a manifest to a batch on record: everything looked at, then recorded. Asks nobody, and shows nothing."""
