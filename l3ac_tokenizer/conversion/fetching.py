"""Fetching of published files from the Hugging Face hub: only those that conversion needs, with verified digests."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..causes import shortened, with_causes
from ..configuration_taae import TAAEConfig
from ..families import published_config
from . import l3ac_names, taae_names
from .reading import SUFFIXES

_NAME = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[^:]+))?(:(?P<folder>.+))?")

_ABOUT = ("LICENSE*", "README.md")
"""Patterns of the files beside the weights that state the license."""

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Place:
    """A folder of a repository on the hub, at a branch, tag or commit; an empty folder is the repository itself."""

    repository: str
    folder: str = ""
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> Place | None:
        """The place of `owner/repo[@revision][:folder]`; None where `text` has another form."""
        match = _NAME.fullmatch(text)
        if match is None:
            return None
        return cls(match["repository"], (match["folder"] or "").strip("/"), match["revision"])

    def path(self, name: str) -> str:
        """Path in the repository of a file of the folder."""
        return f"{self.folder}/{name}" if self.folder else name


@dataclass(frozen=True)
class Fetched:
    """Files of one commit, in the cache of the hub.

    Attributes:
        snapshot: Folder that has the repository's paths.
        commit: Its hash.
        digests: Path in the repository → SHA-256 of each file.
    """

    snapshot: Path
    commit: str
    digests: dict[str, str]


def fetch(place: Place, preset: str, gated_license: str | None = None) -> Fetched:
    """Fetch the files of a preset's published weights, and those that state the license.

    Files that an interrupted call completed are not fetched again, and a cut connection is continued where it was cut.
    A file whose digest is not the one that the hub states is fetched once more.

    Args:
        place: Where the files are.
        preset: Preset of the weights, which decides the names of the files.
        gated_license: Name of the license that must be accepted on the hub, for the message.

    Raises:
        OSError: The hub does not give the repository, it lacks a file, or a file is not what the hub states.
    """
    import huggingface_hub

    def snapshot(revision: str | None, patterns: list[str], force: bool = False) -> Path:
        return Path(
            huggingface_hub.snapshot_download(
                place.repository, revision=revision, allow_patterns=patterns, force_download=force
            )
        )

    def get() -> tuple[Path, list[str]]:
        companions, modules = _names(preset)
        about = [*_ABOUT, *(place.path(name) for name in companions)]
        commit = place.revision
        missing: list[str] = []
        for suffix in SUFFIXES:
            wanted = [*companions, *(f"{module}{suffix}" for module in modules)]
            folder = snapshot(commit, [*about, *map(place.path, wanted)])
            commit = folder.name
            lacking = [place.path(name) for name in wanted if not (folder / place.path(name)).is_file()]
            if not lacking:
                return folder, [place.path(name) for name in wanted]
            if not missing or len(lacking) < len(missing):
                missing = lacking
        raise OSError(
            f"{place.repository} has no {', no '.join(missing)} at commit {commit}: check the name, the folder and "
            "the revision."
        )

    def get_intact() -> Fetched:
        folder, names = get()
        names += sorted(path.name for pattern in _ABOUT for path in folder.glob(pattern))
        for attempt in range(2):
            digests = {name: _digest(folder / name) for name in names}
            wrong = [name for name in names if not _is_stated(folder / name, digests[name])]
            if not wrong:
                return Fetched(folder, folder.name, digests)
            if attempt == 0:
                snapshot(folder.name, wrong, force=True)
        raise OSError(
            f"{wrong[0]} of {place.repository} has the SHA-256 {digests[wrong[0]]}, which is not the one that the hub "
            "states: nothing was converted; run the command again, or use another network."
        )

    return _explained(get_intact, place, gated_license)


def _names(preset: str) -> tuple[list[str], list[str]]:
    """Names of the companions of the weights, and of the files with the weights, without suffix."""
    if isinstance(published_config(preset), TAAEConfig):
        return ["model_config.json"], [taae_names.MODULE]
    return [], list(l3ac_names.MODULES)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_stated(path: Path, sha256: str) -> bool:
    """Whether a file has the digest by which the hub names it: SHA-256, or that of Git for small files.

    The hub's cache calls files by these digests, and links to them; where it cannot link, nothing is stated.
    """
    name = path.resolve().name
    if re.fullmatch("[0-9a-f]{64}", name):
        return name == sha256
    if re.fullmatch("[0-9a-f]{40}", name):
        content = path.read_bytes()
        return name == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return True


def _explained(get: Callable[[], _Result], place: Place, gated_license: str | None) -> _Result:
    """Call `get`, and turn the errors of the hub's client into one sentence each."""
    from huggingface_hub import constants, errors

    name, page = place.repository, f"{constants.ENDPOINT}/{place.repository}"
    try:
        return get()
    except errors.GatedRepoError as error:
        terms = f" ({gated_license})" if gated_license else ""
        raise OSError(
            f"{name} is gated: open {page} in a browser, log in and accept its license{terms}, make a token with read "
            "access at https://huggingface.co/settings/tokens, log in with `hf auth login` or set HF_TOKEN to it, and "
            "run the command again."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise OSError(
            f"The hub shows no repository {name} (status {_status(error)}): check the name, and log in with `hf auth "
            "login` or set HF_TOKEN where it is private."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise OSError(f"{name} has no revision {place.revision!r}: give a branch, tag or commit of {page}.") from error
    except Exception as error:  # the HTTP library, and so its errors, depend on the version
        of_system = isinstance(error, OSError) and error.errno is not None
        if of_system or (type(error) is OSError and "Consistency check" not in str(error)):
            raise  # what it says is complete, or a sentence of ours
        status = _status(error)
        if constants.HF_HUB_OFFLINE:
            remedy = "HF_HUB_OFFLINE is set and the hub's cache lacks it; unset it, or copy the cache of a machine"
        elif status == 429:
            remedy = "the hub limits requests; wait some minutes, or log in with `hf auth login`"
        elif status in (401, 403):
            remedy = "the token is not valid for it; log in with `hf auth login`, or set HF_TOKEN"
        elif status is not None and status >= 500:
            remedy = "the hub is out of order; run the command again later, what was fetched is kept"
        else:
            remedy = "check the network, HF_ENDPOINT and proxies, and run the command again; what was fetched is kept"
        reason = f"status {status}" if status else shortened(with_causes(error), 300)
        raise OSError(f"{name} could not be fetched ({reason}): {remedy}.") from error


def _status(error: BaseException | None) -> int | None:
    """HTTP status of an error, or of one that it was raised from."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None:
            return int(response.status_code)
        error = error.__cause__ or error.__context__
    return None
