"""
Requests that come again: what says which call it is, is good once.

AWS's clients send an identifier of each call and the number of its attempt. Those that sign them (the SDK
for JavaScript is one) are safe from whoever listens and says the same again. botocore sends them
unsigned: what is sent again as it was is known, what was changed in them is not. A client that sends neither
cannot be told from its echo, for it signs nothing finer than the second of a call.

Source: AWS SDKs and Tools reference guide, "Retry behavior" (`amz-sdk-invocation-id`, `amz-sdk-request`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable


class Replays:
    """Remembers requests for as long as their signatures hold; some 80 bytes each."""

    def __init__(self) -> None:
        self._seen: defaultdict[int, set[int]] = defaultdict(set)  # by the second in which they end
        self._second = 0

    def __repr__(self) -> str:
        return f"<Replays {sum(map(len, self._seen.values()))} requests>"

    def is_replay(self, request: Hashable, until_s: float, now_s: float) -> bool:
        """
        Tell whether a request has come before, and remember it.

        Args:
            request: What sets it apart from others.
            until_s: How long its signature holds, seconds since 1970.
            now_s: The present.
        """
        if int(now_s) != self._second:
            self._second = int(now_s)
            for end in [end for end in self._seen if end < now_s]:
                del self._seen[end]
        seen, mark = self._seen[math.ceil(until_s)], hash(request)
        if mark in seen:
            return True
        seen.add(mark)
        return False
