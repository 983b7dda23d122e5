"""The Materials Project's open bucket of densities, read without a key and without hanging."""

import dataclasses
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

NAME = "materialsproject-parsed"
ATTEMPTS = 6
_CHUNK = 1 << 20  # bytes
_T = TypeVar("_T")


class BucketError(OSError):
    """The bucket cannot be read."""


class MissingObjectError(BucketError):
    """The bucket has no such key."""


class ChangedObjectError(BucketError):
    """An object is not the one that was pinned."""


class TemporaryError(BucketError):
    """A cut connection, a slow or an overloaded server: another attempt may succeed."""


@dataclasses.dataclass(frozen=True)
class RemoteObject:
    """What the bucket says of an object: key, bytes and checksum (MD5, or 'HASH-PARTS')."""

    key: str
    size: int
    etag: str


class Bucket:
    """A bucket read anonymously by one client, which threads share.

    Args:
        name: of the bucket.
        endpoint_url: of the S3 server, None for AWS.
        connections: kept open at once.
        timeout: seconds without a byte after which a connection is given up.
        attempts: made of each request, with growing pauses.
        pause: seconds after the first failure; doubled after each, up to 60, and jittered.

    Raises:
        BucketError: boto3 is not installed.
    """

    def __init__(
        self, name: str = NAME, endpoint_url: str | None = None, connections: int = 16,
        timeout: float = 30.0, attempts: int = ATTEMPTS, pause: float = 1.0,
    ):
        try:
            import boto3
            import botocore
            from botocore.config import Config
        except ImportError as error:
            raise BucketError(
                f"boto3 is not installed ({error}); pip install 'densityjax[materials_project]'"
            ) from error
        self.name = name
        self._attempts, self._pause = attempts, pause
        self._client = boto3.client(
            "s3", region_name="us-east-1", endpoint_url=endpoint_url,
            config=Config(
                signature_version=botocore.UNSIGNED, connect_timeout=timeout,
                read_timeout=timeout, max_pool_connections=connections,
                # Attempts are counted here, since botocore's do not cover the body of an object.
                retries={"total_max_attempts": 1},
            ),
        )

    def find(self, key: str) -> RemoteObject | None:
        """Size and checksum of an object, None if there is none.

        Raises:
            BucketError: the bucket cannot be read.
        """

        def head(attempt: int) -> RemoteObject | None:
            try:
                found = self._call("head_object", Key=key)
            except MissingObjectError:
                return None
            return RemoteObject(key, found["ContentLength"], found["ETag"].strip('"'))

        return self.retry(head)

    def read(self, key: str, etag: str, start: int) -> Iterator[bytes]:
        """Bytes of an object from `start` on, if it still has this checksum.

        Raises:
            MissingObjectError: there is no such object.
            ChangedObjectError: it has another checksum.
            TemporaryError: the connection was cut or timed out, perhaps after some chunks.
        """
        ranged = {"Range": f"bytes={start}-"} if start else {}
        body = self._call("get_object", Key=key, IfMatch=etag, **ranged)["Body"]
        try:
            yield from body.iter_chunks(_CHUNK)
        except Exception as error:  # botocore and urllib3 have many
            raise TemporaryError(f"{key}: the connection broke off ({error})") from error
        finally:
            body.close()

    def retry(self, call: Callable[[int], _T]) -> _T:
        """Returns call(attempt), made again after a TemporaryError, which the last one raises."""
        for attempt in range(1, self._attempts + 1):
            try:
                return call(attempt)
            except TemporaryError:
                if attempt == self._attempts:
                    raise
                pause = min(60.0, self._pause * 2 ** (attempt - 1))
                time.sleep(pause * random.uniform(0.5, 1.0))  # threads must not return together
        raise AssertionError("no attempts")

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

        key = arguments["Key"]
        try:
            return getattr(self._client, method)(Bucket=self.name, **arguments)
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            code = error.response.get("Error", {}).get("Code", "")
            if code == "NoSuchBucket":
                raise BucketError(f"there is no bucket '{self.name}'") from error
            if status == 404:
                raise MissingObjectError(f"the bucket has no {key}") from error
            if status in (412, 416):
                raise ChangedObjectError(f"{key} is not the object that was pinned") from error
            if status >= 500 or status in (408, 429) or code == "SlowDown":
                raise TemporaryError(f"{key}: the server answers {status} ({code})") from error
            raise BucketError(f"{key}: the server answers {status} ({code})") from error
        except HTTPClientError as error:
            raise TemporaryError(f"{key}: {error}") from error
        except BotoCoreError as error:
            # A body cut inside a header, an answer that is no XML.
            raise TemporaryError(f"{key}: {error}") from error
