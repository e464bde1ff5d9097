"""A hub on disk: what is uploaded lands in the layout of the hub's cache, from which offline loading reads it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
from huggingface_hub import HfApi, repocard
from huggingface_hub.errors import EntryNotFoundError

COMMIT = "0" * 40


class LocalHub:
    """Repositories below `home`, an `HF_HOME`; `private` has those that were created so."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.private: set[str] = set()

    def files(self, repository: str) -> Path:
        """Folder with the files of a repository."""
        return self.home / "hub" / f"models--{repository.replace('/', '--')}" / "snapshots" / COMMIT

    def install(self, monkeypatch) -> None:
        """Upload to here and load from here in this process, whose hub is offline."""

        def create_repo(api, repo_id, *, private=None, **options):
            self.files(repo_id).mkdir(parents=True, exist_ok=True)
            reference = self.files(repo_id).parents[1] / "refs" / "main"
            reference.parent.mkdir(exist_ok=True)
            reference.write_text(COMMIT)
            self.private |= {repo_id} if private else set()
            return SimpleNamespace(repo_id=repo_id)

        def create_commit(api, repo_id, operations, **options):
            for operation in operations:
                shutil.copyfile(operation.path_or_fileobj, self.files(repo_id) / operation.path_in_repo)
            return SimpleNamespace(commit_url=f"https://hub/{repo_id}")

        def upload_folder(api, *, repo_id, folder_path, **options):
            shutil.copytree(folder_path, self.files(repo_id), dirs_exist_ok=True)
            return SimpleNamespace(commit_url=f"https://hub/{repo_id}")

        def download(repo_id, name, **options):
            path = self.files(repo_id) / name
            if not path.is_file():
                raise EntryNotFoundError(f"{repo_id} has no {name}")
            return str(path)

        for function in (create_repo, create_commit, upload_folder):
            monkeypatch.setattr(HfApi, function.__name__, function)
        monkeypatch.setattr(repocard, "hf_hub_download", download)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(self.home / "hub"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    @property
    def environment(self) -> dict[str, str]:
        """Environment of a process that loads from here."""
        return {"HF_HOME": str(self.home), "HF_HUB_CACHE": os.fspath(self.home / "hub"), "HF_HUB_OFFLINE": "1"}
