"""Names of entries: unique over a stream."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from pigen.bundle import Bundle, Reject, strings
from pigen.runtime.files import clean_text

UNNAMED = "unnamed"
"""What an entry is called whose source gives it an empty name."""


class Names:
    """Makes names unique over a stream: the second "a" becomes "a#2"."""

    def __init__(self) -> None:
        """No name is taken."""
        self._last: dict[str, int] = {}

    def make_unique(self, bundle: Bundle) -> Bundle:
        """The bundle with its crystals, then its rejects, named as no entry before."""
        ids = [self.take(clean_text(i) or UNNAMED) for i in bundle.ids]
        refused = [self.take(clean_text(reject.id) or UNNAMED) for reject in bundle.rejects]
        reasons = (clean_text(reject.reason) or "no reason given" for reject in bundle.rejects)
        return replace(bundle, ids=strings(ids), rejects=tuple(map(Reject, refused, reasons)))

    def take_again(self, named: Iterable[str]) -> list[str]:
        """Names in this stream of what a part of it named: "a#2" may be the third "a" here."""
        return [
            self.take(re.sub(r"#\d+$", "", name) if name in self._last else name) for name in named
        ]

    def take(self, name: str) -> str:
        """The name if nobody has it, else with the next number."""
        k = self._last.get(name, 0)
        candidate = name
        while k and candidate in self._last:
            k += 1
            candidate = f"{name}#{k}"
        self._last[name] = max(k, 1)
        self._last.setdefault(candidate, 1)
        return candidate
