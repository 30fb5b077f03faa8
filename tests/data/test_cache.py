"""The cache keeps what fits and never changes a result."""

from objguided_d2.data.cache import BoundedCache


def test_loads_once_what_fits_and_always_what_does_not():
    loaded = []

    def get(cache, key):
        return cache.get(key, lambda: loaded.append(key) or key * 2, num_bytes=lambda value: value)

    cache = BoundedCache(max_bytes=10)
    assert [get(cache, key) for key in (3, 4, 2, 3, 4, 2)] == [6, 8, 4, 6, 8, 4]
    # 6 bytes fit, 8 more do not, 4 more just do.
    assert loaded == [3, 4, 2, 4]
    assert cache.free_bytes == 0


def test_no_memory_keeps_nothing():
    loaded = []
    cache = BoundedCache(max_bytes=0)
    for _ in range(2):
        cache.get("key", lambda: loaded.append(1), num_bytes=lambda _: 1)
    assert loaded == [1, 1]
