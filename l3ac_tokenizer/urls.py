"""URLs of object storage as text: telling them from paths, joining them, and naming them without credentials."""

from __future__ import annotations

import os
import posixpath
import re
from urllib.parse import unquote

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_IN_TEXT = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+://)(?P<user>[^\s/@'\"<>]*@)?(?P<path>[^\s?#'\"<>]*)(?P<rest>[?#][^\s'\"<>]*)?"
)
_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "FSSPEC_S3_SECRET", "FSSPEC_S3_TOKEN", "HF_TOKEN")
_HIDDEN = re.compile(r"(?i)\b(AWSAccessKeyId|Signature|X-Amz-[A-Za-z-]+|Authorization|token|sig)=[^&\s'\"]+")


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a URL: letters and `://` before the rest."""
    return isinstance(path, str) and _URL.match(path) is not None


def public_text(text: str) -> str:
    """A text without credentials: its URLs without user and query, and without the secrets of the environment."""
    for name in _SECRETS:
        if len(secret := os.environ.get(name, "")) >= 4:
            text = text.replace(secret, "***")
    return _HIDDEN.sub(r"\1=***", _IN_TEXT.sub(r"\g<scheme>\g<path>", text))


def without_query(url: str) -> str:
    """A URL up to its query, by which its name and suffix are told; a path as it is, and keys of `s3://` too."""
    return re.split(r"[?#]", url, maxsplit=1)[0] if url.startswith(("http://", "https://")) else url


def joined(folder: str, path: str) -> str:
    """The place that a path in data names, relative to a folder or URL; absolute paths and URLs are themselves."""
    if is_url(path) or not is_url(folder):
        return path if is_url(path) else os.path.join(folder, path)
    return path if os.path.isabs(path) else f"{folder.rstrip('/')}/{path}"


def absolute(path: str) -> str:
    """The absolute path of a file, or a URL without a slash at its end."""
    return path.rstrip("/") if is_url(path) else os.path.abspath(path)


def is_below(url: str, root: str) -> bool:
    """Whether a URL is `root` or below it, `..` and percent signs (which web servers undo) taken into account."""
    if not (is_url(url) and is_url(root)):
        return False
    scheme, _, path = without_query(url).partition("://")
    root_scheme, _, root_path = without_query(root).partition("://")
    if scheme.lower() != root_scheme.lower() or "\0" in path or "::" in url:
        return False
    if scheme.lower() in ("http", "https"):
        path, root_path = unquote(path), unquote(root_path)
    root_path = root_path.rstrip("/")
    resolved = posixpath.normpath(path.replace("\\", "/"))
    return all(each == root_path or each.startswith(f"{root_path}/") for each in (path, resolved))
