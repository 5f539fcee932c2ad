"""``factory push RELEASE``: a release to the Hugging Face hub, private by default."""

from __future__ import annotations

import tempfile
from argparse import Namespace
from pathlib import Path

from factory.cli.common import assignments, note, out, store_of, version
from factory.errors import FactoryError, UsageError


def push(args: Namespace) -> int:
    """Write the folder of a release and upload it; ``--dry-run`` writes and prints, no more."""
    from factory.stages import exported
    from factory.stages.chosen import Chosen
    from factory.stages.hub_folder import write_hub_folder
    from factory.stages.release import open_release

    if not args.dry_run and not args.repo:
        raise UsageError("push to where?", "give --repo OWNER/NAME, or --dry-run")
    store = store_of(args)
    release = open_release(store, args.name)
    chosen = Chosen(store, release, args.split or None)
    licences = {
        k: str(v) for k, v in assignments(args.source_license, flag="--source-license").items()
    }
    if args.license:
        licences[""] = args.license
    if args.out and not args.dry_run:
        raise UsageError("--out keeps a folder", "it goes with --dry-run")
    with tempfile.TemporaryDirectory(prefix="factory-push-") as work:
        folder = Path(args.out) if args.out else Path(work) / "release"
        done = write_hub_folder(
            chosen, folder, redact=args.redact, licences=licences, code=version()
        )
        if left := release.manifest["rows"] - done.rows:
            note(f"{left} rows are left out (evaluation, or another split)")
        found = release.manifest.get("personal_data", {}).get("rows", 0)
        if found and not args.redact:
            note(f"{found} rows hold personal data: --redact replaces it")
        if args.dry_run:
            out((folder / "README.md").read_text(encoding="utf-8"))
            files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
            for path in files:
                out(f"{path.stat().st_size:>12,}  {path.relative_to(folder)}")
            who = "public" if args.public else "private"
            out(f"{done.rows} rows; nothing was sent (it would be {who})")
            return 0
        out(upload(folder, args.repo, f"{release.name}/{release.version}", public=args.public))
        exported.note(store, release, form="hub", out=args.repo)
    return 0


def upload(folder: Path, repo: str, what: str, *, public: bool, kind: str = "dataset") -> str:
    """Send a folder to the hub; return where it then is.

    Args:
        folder: all of it is sent.
        repo: ``OWNER/NAME``; made where it is not there.
        what: is sent, for the message of the commit.
        public: whether all may read it.
        kind: ``dataset`` or ``model``.

    Raises:
        UsageError: it is public already, and was not asked to be.
        FactoryError: it cannot be written.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repo, repo_type=kind, private=not public, exist_ok=True)
        if not public and not api.repo_info(repo, repo_type=kind).private:
            raise UsageError(
                f"the {kind} {repo!r} is public already", "give another --repo, or --public"
            )
        sent = api.upload_folder(
            folder_path=folder, repo_id=repo, repo_type=kind, commit_message=what,
            delete_patterns="data/*" if kind == "dataset" else "*.safetensors",
        )  # fmt: skip
    except FactoryError:
        raise
    except Exception as error:  # noqa: BLE001 - the library raises its own and the network's
        detail = " ".join(str(error).split())[:200]
        raise FactoryError(
            f"{repo!r} cannot be written ({type(error).__name__}: {detail})",
            "log in with `hf auth login`, or set HF_TOKEN; check the name",
        ) from None
    return f"{what} is at {sent}"
