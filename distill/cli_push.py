"""``distill push MODEL``: a trained model to the Hugging Face hub, private by default."""

from __future__ import annotations

import tempfile
from argparse import Namespace
from pathlib import Path

from factory.cli.common import remark, tell
from factory.cli.push import upload
from factory.errors import UsageError
from factory.store import Store


def push(args: Namespace) -> int:
    """Write the folder of a model and upload it; ``--dry-run`` writes and prints, no more."""
    from distill.model_card import write_model_folder

    if not args.dry_run and not args.repo:
        raise UsageError("push to where?", "give --repo OWNER/NAME, or --dry-run")
    if args.out and not args.dry_run:
        raise UsageError("--out keeps a folder", "it goes with --dry-run")
    store = Store(args.store) if Path(args.store).is_dir() else None
    model = Path(args.model)
    with tempfile.TemporaryDirectory(prefix="distill-push-") as work:
        folder = Path(args.out) if args.out else Path(work) / "model"
        for note in write_model_folder(model, folder, store=store, license=args.license):
            remark(note)
        if args.dry_run:
            card = (folder / "README.md").read_text(encoding="utf-8")
            sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
            lines = [card, *(f"{size:>14,}  {name}" for name, size in sizes.items())]
            lines.append(f"nothing was sent (it would be {'public' if args.public else 'private'})")
            found = {"card": card, "files": sizes, "public": args.public, "address": None}
            tell(args, found, lines, on_out=True)
            return 0
        address = upload(folder, args.repo, model.resolve().name, public=args.public, kind="model")
        tell(args, {"address": address, "public": args.public}, [address], on_out=True)
    return 0
