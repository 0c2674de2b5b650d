"""Shards are what `tarfile` would have written, byte by byte."""

from __future__ import annotations

import io
import tarfile

from hypothesis import example, given
from hypothesis import strategies as st

from worker.export.webdataset import TarShard, tar_head

PLAIN = st.text(st.characters(categories=["L", "N"], max_codepoint=127, include_characters="-_."), min_size=1)


def as_tarfile(name, size):
    head = tarfile.TarInfo(name)
    head.size, head.mode = size, 0o644
    return head


@given(name=PLAIN | st.text("aé日-_.", min_size=1), times=st.integers(1, 40), size=st.integers(0, 2 * 8**11))
@example(name="k" * 100, times=1, size=0)
@example(name="k" * 101, times=1, size=0)
@example(name="k", times=1, size=8**11 - 1)
@example(name="k", times=1, size=8**11)
def test_a_head_is_what_tarfile_writes(name, times, size):
    name = (name * times)[:250]

    assert tar_head(name, size) == as_tarfile(name, size).tobuf(tarfile.PAX_FORMAT)


@given(files=st.lists(st.tuples(PLAIN, st.binary(max_size=2_000)), max_size=30))
def test_a_shard_is_what_tarfile_writes(tmp_path_factory, files):
    path = tmp_path_factory.mktemp("shard") / "s.tar"
    shard = TarShard(path)
    expected = io.BytesIO()
    with tarfile.open(fileobj=expected, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in files:
            shard.put(name, data)
            tar.addfile(as_tarfile(name, len(data)), io.BytesIO(data))
    shard.close()

    assert path.read_bytes() == expected.getvalue()
