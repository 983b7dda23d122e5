"""The Materials Project's API, asked in small calls: what is absent is told from what failed."""

import concurrent.futures
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from tfds_builders.errors import DatasetSourceError
from tfds_builders.materials_project.ids import spelled

# The client gives up on a request after 20 s, and has no setting for it.
IDS_PER_REQUEST = 100
# What the client raises when its tables of band structures have no such row.
_ABSENT = re.compile(r"No (phonon )?bandstructure data found")
_REFUSED = re.compile(r"status code 40[13]\b|[Vv]alid API key")
_TOO_LARGE = re.compile(r"timed? ?out|\b(413|414|504)\b|too large|smaller request")
_ADDRESS = re.compile(r"(https?://[^/\s]*|with url: )/?\S{80,}")
_T = TypeVar("_T")


class ApiError(DatasetSourceError):
    """The API refuses, or does not answer after several attempts."""


class AbsentError(Exception):
    """The service answered: there is no such object."""


class UnreadableError(Exception):
    """The service has the object, and the client cannot read it."""


def batches(ids: Sequence[_T], size: int = IDS_PER_REQUEST) -> Iterator[Sequence[_T]]:
    """Ids in lots of `size`."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


class Api:
    """The client of the API, shared by threads; every call is made again when it fails.

    Args:
        client: `mp_api.client.MPRester(use_document_model=False)`, whose documents are dicts.
        errors: what the client raises when a request fails.
        attempts: made of each request, with growing pauses. The client makes its own within each.
        pause: seconds after the first failure, doubled after each.
        threads: requests under way at once; the API admits 25 a second.

    Attributes:
        client: as given.
        num_requests: calls of the client so far.
    """

    def __init__(
        self, client: Any, errors: tuple[type[Exception], ...] = (OSError,), attempts: int = 6,
        pause: float = 2.0, threads: int = 8,
    ):
        self.client = client
        self.num_requests = 0
        self._errors, self._attempts, self._pause = errors, attempts, pause
        self._threads, self._lock = threads, threading.Lock()
        self._opening, self._open_tables = threading.Lock(), set()

    def search(
        self, what: str, rester: Any, fields: Sequence[str], **query: Any
    ) -> list[dict[str, Any]]:
        """Documents of a query. Raises ApiError, which names `what`."""
        return self._documents(what, rester, fields, query)

    def search_ids(
        self, what: str, rester: Any, fields: Sequence[str], name: str, numbers: Sequence[int],
        size: int = IDS_PER_REQUEST, **query: Any,
    ) -> list[dict[str, Any]]:
        """Documents of ids, in lots; a lot that the server is too slow for is halved.

        Args:
            what: for messages, 'tasks'.
            name: of the client's argument, 'task_ids'.
            numbers: see `ids.number_of`.
            size: ids in one request.

        Raises:
            ApiError: a request failed for good; its text names the ids.
        """

        def ask(lot: Sequence[int]) -> list[dict[str, Any]]:
            ids = [spelled(number) for number in lot]
            label = f"{what} of {ids[0]}" + (f" to {ids[-1]}" if len(ids) > 1 else "")
            try:
                return self._documents(label, rester, fields, query | {name: ids}, len(lot) > 1)
            except _TooLargeError:
                half = len(lot) // 2
                return ask(lot[:half]) + ask(lot[half:])

        found = self.map(ask, list(batches(numbers, size)))
        return [document for documents in found for document in documents]

    def fetch(self, table: str, what: str, call: Callable[[], _T]) -> _T:
        """Returns call(), which reads one object from one of the client's tables.

        Args:
            table: for which the first call is made alone: the client opens it, and would fail at
                opening it twice.
            what: for messages.
            call: of the client.

        Raises:
            AbsentError: there is no such object.
            UnreadableError: it does not have the form that the client expects.
            ApiError: it could not be read; its text names `what`.
        """
        try:
            if table not in self._open_tables:
                with self._opening:
                    if table not in self._open_tables:
                        return self._open(table, what, call)
            return self._retry(what, call, self._errors)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            text = one_line(error)
            raise UnreadableError(f"{type(error).__name__}: {text}") from error

    def _documents(
        self, what: str, rester: Any, fields: Sequence[str], query: dict[str, Any],
        give_up_large: bool = False,
    ) -> list[dict[str, Any]]:
        return self._retry(
            what, lambda: list(rester.search(fields=list(fields), all_fields=False, **query)),
            (*self._errors, ValueError),  # an answer that is no JSON
            give_up_large,
        )

    def _open(self, table: str, what: str, call: Callable[[], _T]) -> _T:
        try:
            return self._retry(what, call, self._errors)
        finally:
            self._open_tables.add(table)

    def map(self, call: Callable[[Any], _T], items: Sequence[Any]) -> list[_T]:
        """call of each item, in threads; the first error stops what was not begun."""
        with concurrent.futures.ThreadPoolExecutor(self._threads) as pool:
            try:
                return list(pool.map(call, items))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _retry(
        self, what: str, call: Callable[[], _T], errors: tuple[type[Exception], ...],
        give_up_large: bool = False,
    ) -> _T:
        for attempt in range(1, self._attempts + 1):
            with self._lock:
                self.num_requests += 1
            try:
                return call()
            except errors as error:
                text = one_line(error)
                if _ABSENT.match(text):
                    raise AbsentError(text) from error
                if _REFUSED.search(text):
                    raise ApiError(refused(text)) from error
                if give_up_large and _TOO_LARGE.search(text):
                    raise _TooLargeError from error
                if attempt == self._attempts:
                    raise ApiError(
                        f"{what}: the Materials Project's API failed {attempt} times ({text}); "
                        "nothing was written: run the command again"
                    ) from error
                time.sleep(self._pause * 2 ** (attempt - 1))
        raise AssertionError("no attempts")


class _TooLargeError(Exception):
    """The server was too slow for a request, or refused its size."""


def refused(text: str) -> str:
    """The message on a key that the API does not take."""
    return (
        f"the Materials Project's API refuses the key ({text}); get one at "
        "https://next-gen.materialsproject.org/api and export it as MP_API_KEY"
    )


def one_line(error: Exception) -> str:
    """An error's text without line breaks, and without the addresses that hold a hundred ids."""
    text = " ".join(_ADDRESS.sub(r"\1...", str(error)).split())
    return text[:500] or type(error).__name__
