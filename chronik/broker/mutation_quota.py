"""The quota of controller mutations: how many partitions a second a client may have created and deleted (KIP-599).

Each client has a bucket of tokens, one for a partition. It fills at the quota's rate, up to what that gives in all windows: a
client that was quiet for long may do much at once. What is begun while there is anything in the bucket is done, however large:
the bucket is overdrawn then, and nothing more is begun until it has come back to zero.

Clients that know THROTTLING_QUOTA_EXCEEDED are refused with it, topic by topic; for others all is done and only their
pauses grow.

Pure: the time is an argument, in ms.
"""

from __future__ import annotations

from collections.abc import Callable

from chronik.errors import ErrorCode, KafkaError

_OVERDRAWN = -1e-6
"""Below this a bucket is; what is nearer to zero is a rounding."""


class TokenBucket:
    """Tokens that come at a `rate` a second, at most `burst` of them, which is how it begins. Source: Kafka's TokenBucket."""

    __slots__ = ("_tokens", "_updated_ms")

    def __init__(self, burst: float, now_ms: float) -> None:
        self._tokens = burst
        self._updated_ms = now_ms

    def fill(self, rate: float, burst: float, now_ms: float) -> float:
        """Add what came since the last time; how many there are now, less than 0 where it is overdrawn."""
        self._tokens = min(burst, self._tokens + rate * (now_ms - self._updated_ms) / 1000)
        self._updated_ms = now_ms
        return self._tokens

    def take(self, count: float) -> None:
        """Use so many, whether they are there or not."""
        self._tokens -= count


class MutationQuota:
    """What one request may do, and the pause that it earns. `now_ms` is monotonic. `strict`: what is too much is refused."""

    __slots__ = ("_bucket", "_burst", "_now_ms", "_pause_until", "_rate", "_strict")

    def __init__(
        self, bucket: TokenBucket, rate: float, burst: float, strict: bool, now_ms: Callable[[], float]
    ) -> None:
        self._bucket = bucket
        self._rate = rate
        self._burst = burst
        self._strict = strict
        self._now_ms = now_ms
        self._pause_until = 0.0

    def use(self, partitions: int) -> None:
        """So many partitions are to be created or deleted. Raises KafkaError(THROTTLING_QUOTA_EXCEEDED) if they may not be."""
        now_ms = self._now_ms()
        tokens = self._bucket.fill(self._rate, self._burst, now_ms)
        if self._strict and tokens < _OVERDRAWN:
            pause_ms = self._pause(tokens, now_ms)
            raise KafkaError(
                ErrorCode.THROTTLING_QUOTA_EXCEEDED,
                f"the quota of {self._rate:g} created and deleted partitions a second is used up for {pause_ms:.0f} ms",
            )
        self._bucket.take(partitions)
        if not self._strict and tokens < partitions:
            self._pause(tokens - partitions, now_ms)

    def _pause(self, tokens: float, now_ms: float) -> float:
        """The client is to pause until a bucket with so many tokens has none missing; in how many ms that is."""
        pause_ms = -tokens / self._rate * 1000
        self._pause_until = now_ms + pause_ms
        return pause_ms

    def pause_ms(self) -> int:
        """For how long the client is to pause from now on, in ms."""
        return max(0, round(self._pause_until - self._now_ms())) if self._pause_until else 0


class NoMutationQuota:
    """Where there is none."""

    def use(self, partitions: int) -> None:
        """Go on."""

    def pause_ms(self) -> int:
        """No pause."""
        return 0
