"""Local files and objects by URL (`s3://`, `gs://`, `hf://`, `https://`): one way to open, list and write either.

URLs are opened by fsspec, with the credentials of the environment. A failure that may pass (the server is busy, cannot
be reached, or cuts an answer short) is tried again for about half a minute; what remains is one sentence that names the
URL and no credential. Objects are written whole or not at all.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast

from .causes import with_causes
from .files import atomic_write, open_regular, read_regular
from .limits import Limit
from .urls import is_url, public_text, without_query

WHOLE_BYTES = 1 << 23
"""Objects below this size are read by one request."""
PART_BYTES = 1 << 26
"""Size of the parts in which larger objects are written."""
HEADER_BYTES = 1 << 18
"""Bytes read at once from an object of which only small parts are wanted."""
WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 16.0)
"""Seconds before each further attempt, half to the whole of them."""

_S3_CONFIG = {"retries": {"mode": "standard", "total_max_attempts": 1}, "connect_timeout": 10, "read_timeout": 30}

_Result = TypeVar("_Result")


class StorageError(OSError):
    """Object storage that cannot be reached or does not allow what is asked: it concerns all objects, not one."""


class MissingBucketError(FileNotFoundError):
    """A bucket that does not exist."""


class ChangedError(OSError):
    """An object that is to be replaced has been changed by another process."""


def open_binary(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file, or an object, to be read mostly as a whole; see `files.open_regular`.

    Raises:
        StorageError: the storage cannot be reached, or denies it.
        OSError: it does not exist, or cannot be read.
    """
    if not is_url(path):
        return open_regular(path)
    url = str(path)
    beginning = _beginning(url)
    if len(beginning) != WHOLE_BYTES:
        return _Named(beginning, public_text(url))
    return _opened(url, WHOLE_BYTES)


def open_parts(path: str | os.PathLike[str], at_once: int = HEADER_BYTES) -> BinaryIO:
    """Open a regular file, or an object, of which only parts are read, each request for at least `at_once` bytes.

    Raises:
        OSError: see `open_binary`.
    """
    return _opened(str(path), at_once) if is_url(path) else open_regular(path)


def read_bytes(path: str | os.PathLike[str], most: Limit) -> bytes:
    """The bytes of a regular file or object, at most `most`.

    Raises:
        LimitError: it has more.
        OSError: see `open_binary`.
    """
    if not is_url(path):
        return read_regular(path, most)
    with open_binary(path) as file:
        size = file.seek(0, io.SEEK_END)
        most.check(size, f"{public_text(str(path))} has {size:,} bytes")
        file.seek(0)
        return file.read()


class SmallObject(NamedTuple):
    """An object that is read and replaced as a whole.

    Attributes:
        data: its bytes.
        version: see `replace_object`.
        age: seconds since it was written, by the storage's clock; None: the storage does not say.
    """

    data: bytes
    version: str
    age: float | None


def read_object(url: str) -> SmallObject | None:
    """A small object; None if it does not exist.

    Raises:
        StorageError: the storage cannot be reached, or denies it.
    """
    fs, path = _place(url)

    def get() -> SmallObject:
        if not _is_s3(fs):
            data = fs.cat_file(path)
            return SmallObject(data, hashlib.sha256(data).hexdigest(), None)
        bucket, key, _ = fs.split_path(path)
        answer = fs.call_s3("get_object", Bucket=bucket, Key=key)
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        age = None
        if date is not None:
            age = (parsedate_to_datetime(date) - answer["LastModified"]).total_seconds()
        return SmallObject(sync(fs.loop, answer["Body"].read), answer["ETag"], age)

    from fsspec.asyn import sync

    try:
        return _tried(url, "read", get)
    except MissingBucketError:
        raise
    except FileNotFoundError:
        return None


def size_of(path: str | os.PathLike[str]) -> int:
    """Size of a file or object in bytes.

    Raises:
        OSError: see `open_binary`.
    """
    if not is_url(path):
        return os.path.getsize(path)
    fs, place = _place(str(path))
    size = _tried(str(path), "read", lambda: fs.info(place)["size"])
    if size is None:
        raise StorageError(f"{public_text(str(path))} has no size that its server states: copy it to other storage.")
    return int(size)


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether there is such a file, folder or object.

    Raises:
        StorageError: the storage cannot be reached, or denies it.
    """
    if not is_url(path):
        return os.path.exists(path)
    try:
        size_of(path)
    except MissingBucketError:
        raise
    except FileNotFoundError:
        return False
    return True


def objects_below(url: str) -> dict[str, int]:
    """Names, relative to a URL, and sizes of all objects below it; hidden ones and folders' markers are not listed.

    Raises:
        StorageError: the storage cannot be reached, or does not allow listing.
        FileNotFoundError: the bucket does not exist.
    """
    fs, path = _place(url)
    start = path.rstrip("/") + "/"
    if _is_s3(fs):
        found = dict(_listed_pages(url, fs, start))
    else:
        every = _tried(url, "list", lambda: fs.find(path.rstrip("/"), detail=True))
        found = {name: info["size"] or 0 for name, info in every.items()}
    names = {name.removeprefix(start): size for name, size in found.items() if name.startswith(start)}
    return {
        name: size
        for name, size in names.items()
        if name and not name.endswith("/") and not any(part.startswith(".") for part in name.split("/"))
    }


def _listed_pages(url: str, fs: Any, start: str) -> Iterator[tuple[str, int]]:
    """Names, with their bucket, and sizes of what begins with `start`; each page of the listing is tried by itself."""
    bucket, prefix, _ = fs.split_path(start)
    further: dict[str, str] = {}
    while True:
        request = functools.partial(fs.call_s3, "list_objects_v2", Bucket=bucket, Prefix=prefix, **further)
        page = _tried(url, "list", request)
        for each in page.get("Contents", ()):
            yield f"{bucket}/{each['Key']}", each["Size"]
        if not page.get("IsTruncated"):
            return
        further = {"ContinuationToken": page["NextContinuationToken"]}


def write_whole(path: str | os.PathLike[str], data: bytes | memoryview) -> None:
    """Write a file or object, forced to disk, which appears under its name when it is complete.

    Raises:
        StorageError: the storage cannot be reached, or denies it.
        OSError: it cannot be written.
    """
    if is_url(path) and len(data) < PART_BYTES:
        fs, place = _place(str(path))
        _tried(str(path), "write", lambda: fs.pipe_file(place, bytes(data)))
        return
    with written_whole(path) as file:
        view = memoryview(data)
        for start in range(0, len(data), PART_BYTES):
            file.write(view[start : start + PART_BYTES])


@contextlib.contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file or object for writing forward, which appears under its name when the block ends without an error.

    Raises:
        OSError: see `write_whole`.
    """
    if not is_url(path):
        with atomic_write(path) as local:
            yield local
            local.flush()
            os.fsync(local.fileno())
        return
    upload = _Upload(str(path))
    try:
        yield cast(BinaryIO, upload)
        upload.commit()
    except BaseException:
        upload.discard()
        raise


def copy_object(source: str, target: str) -> None:
    """Copy a file or object to another place, whole or not at all; within one storage, the server copies it.

    Raises:
        OSError: see `open_binary` and `write_whole`.
    """
    if is_url(source) and is_url(target):
        fs, path = _place(source)
        other, place = _place(target)
        if fs is other and _is_s3(fs):
            _tried(target, "write", lambda: fs.cp_file(path, place))
            return
    with open_parts(source) as file, written_whole(target) as copy:
        while block := file.read(WHOLE_BYTES):
            copy.write(block)


def remove_object(url: str, version: str) -> None:
    """Remove an object, unless another process has changed it meanwhile.

    Raises:
        StorageError: the storage cannot be reached, or denies it.
    """
    current = read_object(url)
    if current is not None and current.version == version:
        fs, path = _place(url)
        with contextlib.suppress(FileNotFoundError):
            _tried(url, "remove", lambda: fs.rm_file(path))


def replace_object(url: str, data: bytes, version: str | None) -> str:
    """Write a small object if it still has this version, None: if it does not exist; and return its new version.

    S3 compares and writes in one step. Elsewhere, two processes that do so within one second may both succeed.

    Raises:
        ChangedError: it has another version.
        StorageError: the storage cannot be reached, or denies it.
    """
    fs, path = _place(url)

    def put() -> str:
        if _is_s3(fs):
            bucket, key, _ = fs.split_path(path)
            condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
            return fs.call_s3("put_object", Bucket=bucket, Key=key, Body=data, **condition)["ETag"]
        current = read_object(url)
        if (None if current is None else current.version) != version:
            raise ChangedError
        fs.pipe_file(path, data)
        return hashlib.sha256(data).hexdigest()

    try:
        return _tried(url, "write", put)
    except ChangedError:
        current = read_object(url)  # an attempt whose answer was lost may have written it
        if current is not None and current.data == data:
            return current.version
        raise ChangedError(f"{public_text(url)} has been changed by another run: let one of them end.") from None


def discard_unfinished(url: str) -> None:
    """Remove the parts of uploads that were never completed, to objects right below a URL, if the storage allows."""
    fs, path = _place(url)
    if not _is_s3(fs):
        return
    bucket, key, _ = fs.split_path(path)
    with contextlib.suppress(Exception):  # a storage may lack, or not allow, the listing of uploads
        for upload in fs.list_multipart_uploads(bucket):
            if os.path.dirname(upload["Key"]) == key.rstrip("/"):
                fs.abort_mpu(bucket, upload["Key"], upload["UploadId"])


class _Named(io.BytesIO):
    """An object in memory with a name for messages."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


class _Upload:
    """A large object that is sent in parts, each of which is tried again, and that appears by `commit`.

    S3 is sent each part as it fills; for other storage the object is kept in a temporary file before it is sent.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._fs, self._path = _place(url)
        self._streams = _is_s3(self._fs)
        self._waiting: Any = io.BytesIO() if self._streams else tempfile.NamedTemporaryFile()  # noqa: SIM115
        self._sent = 0
        self._target: dict[str, str] = {}
        self._parts: list[dict[str, Any]] = []

    def write(self, data: Any) -> int:
        """As of any file."""
        count = self._waiting.write(data)
        if self._streams and self._waiting.tell() >= PART_BYTES:
            self._send_part()
        return count

    def tell(self) -> int:
        """As of any file."""
        return self._sent + self._waiting.tell()

    def commit(self) -> None:
        """Send the rest, and let the object appear."""
        if not self._streams:
            self._waiting.flush()
            _tried(self._url, "write", lambda: self._fs.put_file(self._waiting.name, self._path))
            return
        if not self._parts:
            data = self._waiting.getvalue()
            _tried(self._url, "write", lambda: self._fs.pipe_file(self._path, data))
            return
        if self._waiting.tell():
            self._send_part()
        try:
            self._call("complete_multipart_upload", MultipartUpload={"Parts": self._parts})
        except FileNotFoundError:  # an attempt whose answer was lost has completed it
            if not exists(self._url) or size_of(self._url) != self._sent:
                raise

    def discard(self) -> None:
        """Remove what was sent, as far as the storage can be reached."""
        if self._target:
            with contextlib.suppress(Exception):
                self._fs.call_s3("abort_multipart_upload", **self._target)

    def _send_part(self) -> None:
        if not self._target:
            bucket, key, _ = self._fs.split_path(self._path)
            self._target = {"Bucket": bucket, "Key": key}
            self._target["UploadId"] = self._call("create_multipart_upload")["UploadId"]
        data, number = self._waiting.getvalue(), len(self._parts) + 1
        self._parts.append(
            {"PartNumber": number, "ETag": self._call("upload_part", PartNumber=number, Body=data)["ETag"]}
        )
        self._sent += len(data)
        self._waiting = io.BytesIO()

    def _call(self, method: str, **arguments: Any) -> Any:
        return _tried(self._url, "write", lambda: self._fs.call_s3(method, **self._target, **arguments))


def _opened(url: str, block: int) -> BinaryIO:
    """An object for random access; what it reads is tried again."""
    fs, path = _place(url)
    file = _tried(url, "read", lambda: fs.open(path, "rb", block_size=block, cache_type="readahead"))
    if not hasattr(file, "_fetch_range"):
        raise StorageError(
            f"cannot read parts of {public_text(url)}: its server states no size or gives whole files only; copy it to "
            "other storage."
        )
    fetch = file._fetch_range

    def fetched(start: int, end: int) -> bytes:
        def whole() -> bytes:
            data = fetch(start, end)
            if len(data) < min(end, file.size) - start:
                raise TimeoutError("the answer was cut short")
            return data

        return _tried(url, "read", whole)

    file.cache.fetcher = fetched
    file.name = public_text(url)
    return cast(BinaryIO, file)


def _beginning(url: str) -> bytes:
    """The first `WHOLE_BYTES` of an object; the whole of it where a server does not give parts."""
    fs, path = _place(url)
    try:
        return _tried(url, "read", lambda: fs.cat_file(path, start=0, end=WHOLE_BYTES))
    except OSError as error:
        if any(_status(each) == 416 or _code(each) == "InvalidRange" for each in _chain(error)):  # of an empty object
            return b""
        raise


def _place(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it."""
    scheme, _, rest = url.partition("://")
    if "@" in rest.partition("/")[0]:
        raise ValueError(f"{public_text(url)} was given with credentials in it: set them in the environment instead.")
    if scheme.lower() in ("file", "local") or "::" in url:
        raise ValueError(f"{public_text(url)} is not a URL of object storage: give the path of a local file instead.")
    fs = _file_system(scheme.lower(), os.getpid())
    return fs, fs._strip_protocol(url)


@functools.lru_cache
def _file_system(scheme: str, process: int) -> Any:  # one for each process: connections are not shared by forks
    import fsspec

    options: dict[str, Any] = {"config_kwargs": _S3_CONFIG} if scheme in ("s3", "s3a") else {}
    try:
        fs = fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True, **options)
    except ImportError as error:
        ours = "'l3ac-tokenizer[cloud]'"
        package = {"s3": ours, "s3a": ours, "http": ours, "https": ours, "gs": "gcsfs", "gcs": "gcsfs"}.get(scheme)
        remedy = f"pip install {package}" if package else "install the package that fsspec needs for it"
        raise ValueError(f"{scheme}:// cannot be opened ({with_causes(error)}): {remedy}.") from error
    except ValueError as error:
        raise ValueError(f"{scheme}:// is not a kind of URL that fsspec opens: check the URL.") from error
    if _is_s3(fs):
        fs.retries = 1  # `_tried` does
    return fs


def _is_s3(fs: Any) -> bool:
    return "s3" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def _tried(url: str, action: str, function: Callable[[], _Result]) -> _Result:
    """The result of a function that asks the storage, repeated while its failure may pass.

    Raises:
        FileNotFoundError: the object or bucket does not exist.
        ChangedError: the object is not as it was expected.
        StorageError: it failed for another reason.
    """
    for wait in (*WAITS, None):
        try:
            return function()
        except (ChangedError, StorageError, MemoryError):
            raise
        except Exception as error:  # of fsspec, botocore, aiohttp and others
            if wait is None or not _may_pass(error):
                shows_secrets = any(public_text(str(each)) != str(each) for each in _chain(error))
                raise _explained(url, action, error) from (None if shows_secrets else error)
        time.sleep(wait * random.uniform(0.5, 1.0))
    raise AssertionError


_BUSY = frozenset({"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "Throttling"}) | frozenset(
    {"ThrottlingException", "TooManyRequests", "TooManyRequestsException", "RequestLimitExceeded", "OperationAborted"}
)
_CONNECTION = frozenset({"HTTPClientError", "ClientConnectionError", "ClientPayloadError", "ResponseParserError"})
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"})
_DENIED = frozenset({"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AllAccessDisabled"})


def _may_pass(error: BaseException) -> bool:
    for each in _chain(error):
        if _status(each) in (408, 425, 429, 500, 502, 503, 504) or _code(each) in _BUSY:
            return True
        if isinstance(each, (ConnectionError, TimeoutError)) or "Connection reset" in str(each):
            return True
        if _CONNECTION & {kind.__name__ for kind in type(each).__mro__}:
            return True
    return False


def _explained(url: str, action: str, error: BaseException) -> OSError:
    """An error of the storage as one sentence: what failed at which URL, why, and what to do."""
    shown = public_text(url)
    codes = {_code(each) for each in _chain(error)} - {None}
    statuses = {_status(each) for each in _chain(error)} - {None}
    reason = public_text(with_causes(error))
    if _may_pass(error):
        return StorageError(
            f"cannot {action} {shown}: the storage failed {len(WAITS) + 1} times ({reason}); check the server and the "
            "network, and give the same command again."
        )
    if "NoSuchBucket" in codes:
        return MissingBucketError(f"cannot {action} {shown}: its bucket does not exist; make it, or check the URL.")
    if 412 in statuses or "PreconditionFailed" in codes:
        return ChangedError(f"cannot {action} {shown}: it has been changed meanwhile; let nobody else write there.")
    if _EXPIRED & codes:
        return StorageError(
            f"cannot {action} {shown}: the credentials have expired; get new ones, and give the same command again."
        )
    names = {kind.__name__ for each in _chain(error) for kind in type(each).__mro__}
    if "NoCredentialsError" in names or "PartialCredentialsError" in names:
        return StorageError(f"cannot {action} {shown}: there are no credentials; set them in the environment.")
    if _DENIED & codes or statuses & {401, 403} or isinstance(error, PermissionError):
        why = next(iter(_DENIED & codes), "access denied")
        return StorageError(
            f"cannot {action} {shown}: the storage does not allow it ({why}); check the credentials in the environment "
            "and what they allow."
        )
    if isinstance(error, FileNotFoundError) or 404 in statuses:
        return FileNotFoundError(f"cannot {action} {shown}: it does not exist; check the URL.")
    return StorageError(f"cannot {action} {shown}: {reason}; check the URL and the storage.")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it was raised from."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _code(error: BaseException) -> str | None:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code")) if isinstance(response, dict) else None


def _status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    status = getattr(error, "status", None)
    return status if isinstance(status, int) else None


def suffix_of(path: str) -> str:
    """Suffix of a file or URL in lower case, with its dot."""
    return os.path.splitext(without_query(path))[1].lower()
