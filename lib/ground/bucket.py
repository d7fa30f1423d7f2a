"""S3 that is asked for nothing which is known: `Bucket` stands for s3fs, for every ``s3://``.

Within `Bucket.look` one listing answers what there is below a folder, kept up to date with what
this thread writes; others may write there meanwhile, so a look is for the moment in which something
is read or shown. Files that are read or written whole are kept on this machine by their ETag, which
is another wherever the content is: what a listing shows as it was is not fetched again. Folders,
which S3 does not have, are not made.
"""

import hashlib
import io
import mimetypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lib.ground.files import WHOLE_BYTES, state_dir, write_bytes

import aiohttp
from fsspec.asyn import sync, sync_wrapper
from s3fs import S3FileSystem
from upath import UPath

KEPT = ".fetched"
MOST_BYTES = 2 * 2**30  # of all that is kept; of one file it is `WHOLE_BYTES`
REFUSED = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "404", "409", "412")
FOLDER = {"type": "directory", "size": 0, "Size": 0, "StorageClass": "DIRECTORY"}


class Bucket(S3FileSystem):
    """s3fs with looks, and with a memory on disk."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options | {"use_listings_cache": False})
        self._looks: dict[str, dict[str, dict]] = {}

    @contextmanager
    def look(self, path: str) -> Iterator[None]:
        """Answer from one listing what lies below `path`, as long as the block goes on."""
        root = self._strip_protocol(path).rstrip("/")
        if root in self._looks or self._seen(root) is not None:
            yield
            return
        found = sync(self.loop, self._lsdir, root, delimiter="")
        self._looks[root] = {info["name"]: info for info in found}
        try:
            yield
        finally:
            self._looks.pop(root, None)

    def _seen(self, path: str) -> dict[str, dict] | None:
        """Return the listing in which `path` would stand; None if nobody looks there."""
        for root, found in self._looks.items():
            if path.startswith(f"{root}/") or (path == root and found):
                return found
        return None

    async def _lsdir(
        self,
        path: str,
        refresh: bool = False,  # noqa: FBT001, FBT002 - as s3fs has it
        max_items: int | None = None,
        delimiter: str = "/",
        prefix: str = "",
        versions: bool = False,  # noqa: FBT001, FBT002
    ) -> list[dict]:
        path = path.rstrip("/")
        seen = self._seen(path)
        if seen is None:
            return await super()._lsdir(path, refresh, max_items, delimiter, prefix, versions)
        start = f"{path}/{prefix}"
        below = [dict(info) for name, info in seen.items() if name.startswith(start)]
        if not delimiter:
            return below
        found = {}
        for info in below:
            first, inside, _ = info["name"][len(path) + 1 :].partition("/")
            name = f"{path}/{first}"
            found[name] = {"name": name, "Key": name, **FOLDER} if inside else info
        return [found[name] for name in sorted(found)]

    async def _info(self, path: str, *arguments: object, **options: object) -> dict:
        path = self._strip_protocol(path).rstrip("/")
        seen = self._seen(path)
        if seen is None:
            return await super()._info(path, *arguments, **options)
        if path in seen:
            return seen[path]
        if any(name.startswith(f"{path}/") for name in seen):
            return {"name": path, "Key": path, **FOLDER}
        raise FileNotFoundError(path)

    def _open(self, path: str, mode: str = "rb", **options: object) -> io.IOBase:
        if mode == "rb" and self.info(path)["size"] <= WHOLE_BYTES:
            return io.BytesIO(self.cat_file(path))
        if mode != "rb":
            self._looks.clear()  # which would not learn of it
        return super()._open(path, mode, **options)

    async def _cat_file(self, path: str, *arguments: object, **options: object) -> bytes:
        if any(one is not None for one in (*arguments, *options.values())):  # a part, or a version
            return await super()._cat_file(path, *arguments, **options)
        path = self._strip_protocol(path)
        if self._seen(path) is not None:
            kept = _kept((await self._info(path)).get("ETag"))
            if kept is not None:
                return kept
        try:
            return (await self._tagged(path))[0]
        except aiohttp.ClientError:  # while it was read: s3fs begins again
            return await super()._cat_file(path)

    async def _tagged(self, path: str) -> tuple[bytes, str]:
        """Return the content of a file and its ETag."""
        bucket, key, _ = self.split_path(path)
        answer = await self._call_s3("get_object", Bucket=bucket, Key=key)
        try:
            data = await answer["Body"].read()
        finally:
            answer["Body"].close()
        _keep(answer.get("ETag"), data)
        return data, answer["ETag"]

    tagged = sync_wrapper(_tagged)

    def write_if(self, path: str, data: bytes, tag: str) -> str:
        """Write a file whose ETag is `tag`, or that is not there; return its ETag, "" if it is not.

        An answer may be lost and the request sent again: then what stands there is our own.
        """
        condition = {"IfMatch": tag} if tag else {"IfNoneMatch": "*"}
        try:
            return self.pipe_file(path, data, **condition)["ETag"]
        except OSError as error:
            if getattr(error.__cause__, "response", {}).get("Error", {}).get("Code") not in REFUSED:
                raise
        try:
            found, written = self.tagged(path)
        except FileNotFoundError:
            return ""
        return written if found == data else ""

    async def _pipe_file(self, path: str, data: bytes, **options: object) -> dict | None:
        path = self._strip_protocol(path)
        kind = mimetypes.guess_type(path)[0]
        options |= {"ContentType": kind} if kind else {}  # so that a browser shows a page
        answer = await super()._pipe_file(path, data, **options)
        tag = answer.get("ETag") if answer else None  # none of what went up in parts
        _keep(tag, data)
        self._note(path, {"ETag": tag, "size": len(data)})
        return answer

    async def _put_file(self, lpath: str, rpath: str, **options: object) -> None:
        await super()._put_file(lpath, rpath, **options)
        self._note(rpath, {"ETag": None, "size": Path(lpath).stat().st_size})

    async def _get_file(self, rpath: str, lpath: str, **options: object) -> None:
        if (await self._info(rpath))["size"] > WHOLE_BYTES:
            await super()._get_file(rpath, lpath, **options)
        else:
            Path(lpath).write_bytes(await self._cat_file(rpath))

    async def _cp_file(self, path1: str, path2: str, **options: object) -> None:
        known = await self._info(path1)
        if known.get("ETag"):
            options["CopySourceIfMatch"] = known["ETag"]
        await super()._cp_file(path1, path2, **options)
        self._note(path2, {"ETag": known.get("ETag"), "size": known["size"]})

    async def _rm_file(self, path: str, **options: object) -> None:
        await super()._rm_file(path, **options)
        self._note(path, None)

    async def _bulk_delete(self, pathlist: list[str], **options: object) -> list[str]:
        gone = await super()._bulk_delete(pathlist, **options)
        for path in pathlist:
            self._note(path, None)
        return gone

    async def _mkdir(self, path: str, *arguments: object, **options: object) -> None:
        if not self.split_path(path)[1]:  # a bucket
            await super()._mkdir(path, *arguments, **options)

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:  # noqa: FBT001, FBT002
        if not self.split_path(path)[1]:
            await super()._makedirs(path, exist_ok)

    mkdir, makedirs = sync_wrapper(_mkdir), sync_wrapper(_makedirs)

    def _note(self, path: str, facts: dict | None) -> None:
        """Let whoever looks know of a file that was written, or of one that is gone."""
        path = self._strip_protocol(path)
        if (seen := self._seen(path)) is not None:
            seen.pop(path, None)
            if facts:
                seen[path] = {"name": path, "Key": path, "type": "file", **facts}


def _place(tag: str) -> Path:
    return state_dir() / KEPT / hashlib.sha256(tag.encode()).hexdigest()


def _kept(tag: str | None) -> bytes | None:
    """Return the content that has this ETag, if it is on this machine."""
    if not tag:
        return None
    try:
        os.utime(place := _place(tag))
        return place.read_bytes()
    except OSError:
        return None


def _keep(tag: str | None, data: bytes) -> None:
    """Keep content by its ETag, in place of what was not needed for longest, if there is room."""
    if not tag or len(data) > WHOLE_BYTES:
        return
    with suppress(OSError):
        write_bytes(UPath(place := _place(tag)), data)
        _make_room(place.parent)


def _make_room(folder: Path) -> None:
    files = []
    for file in folder.iterdir():
        with suppress(FileNotFoundError):  # another process has made room as well
            files.append((file.stat().st_mtime, file.stat().st_size, file))
    excess = sum(size for _, size, _ in files) - MOST_BYTES
    for _, size, file in sorted(files):
        if excess <= 0:
            break
        file.unlink(missing_ok=True)
        excess -= size
