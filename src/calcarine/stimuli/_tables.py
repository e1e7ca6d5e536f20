"""Opening tables of Hugging Face ``datasets``, with errors that say what to do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from calcarine.errors import (
    FileFormatError,
    InputError,
    RunError,
    UnknownNameError,
    require,
    suggestion,
)

__all__ = ["class_names", "image_column", "label_column", "open_table", "split_names"]

GENERIC = ("arrow", "imagefolder", "parquet", "webdataset")
"""Names that stand for a file format and need ``data_dir``."""

_FILE_KINDS = {".arrow": "arrow", ".parquet": "parquet"}


def open_table(
    name: str,
    split: str,
    configuration: str | None,
    data_dir: str | None,
    cache_dir: str | None,
    streaming: bool,
) -> Any:
    """Open one split of a data set, see :func:`calcarine.stimuli.named_images`."""
    library = require("datasets", extra="data", purpose=f"The data set {name!r}")
    path = Path(name).expanduser()
    _check_place(name, path, data_dir)
    options: dict[str, Any] = {"split": split, "streaming": streaming, "cache_dir": cache_dir}
    try:
        if _is_saved(path):
            table = _saved(library, path, split, streaming)
        elif path.is_file():
            kind = _FILE_KINDS[path.suffix.lower()]
            table = library.load_dataset(kind, data_files={split: str(path)}, **options)
        else:
            where = str(path) if path.is_dir() else name
            table = library.load_dataset(where, configuration, data_dir=data_dir, **options)
        # a stream need not know its columns before it has seen a row
        return table if table.features is not None else table._resolve_features()
    except InputError:
        raise
    except Exception as error:  # the library raises errors of many packages
        local = _local_names(library, cache_dir)
        raise _translated(library, error, name, path, split, configuration, local) from error


def split_names(
    name: str, configuration: str | None, data_dir: str | None, cache_dir: str | None
) -> tuple[str, ...]:
    """Return the names of the splits of a data set, see :func:`calcarine.stimuli.named_images`."""
    library = require("datasets", extra="data", purpose=f"The data set {name!r}")
    path = Path(name).expanduser()
    _check_place(name, path, data_dir)
    try:
        if (path / "dataset_dict.json").is_file():
            return tuple(json.loads((path / "dataset_dict.json").read_text())["splits"])
        if _is_saved(path) or path.is_file():
            return ("train",)
        where = str(path) if path.is_dir() else name
        builder = library.load_dataset_builder(
            where, configuration, data_dir=data_dir, cache_dir=cache_dir
        )
        return tuple(map(str, builder.info.splits or builder.config.data_files or ()))
    except InputError:
        raise
    except Exception as error:  # the library raises errors of many packages
        local = _local_names(library, cache_dir)
        raise _translated(library, error, name, path, "", configuration, local) from error


def _local_names(library: Any, cache_dir: str | None) -> list[str]:
    """Return the names of the data sets that the cache of this machine holds."""
    prepared = Path(cache_dir or library.config.HF_DATASETS_CACHE)
    fetched = Path(os.environ.get("HF_HUB_CACHE") or prepared.parent / "hub")
    folders = [p.name for p in prepared.iterdir() if p.is_dir()] if prepared.is_dir() else []
    names = {name.replace("___", "/") for name in folders if name not in (*GENERIC, "downloads")}
    if fetched.is_dir():
        names |= {
            p.name.removeprefix("datasets--").replace("--", "/")
            for p in fetched.glob("datasets--*")
        }
    return sorted(names)


def _check_place(name: str, path: Path, data_dir: str | None) -> None:
    if name in GENERIC and not path.is_dir():
        if data_dir is None:
            raise InputError(
                f"{name!r} names a format, not a data set. Pass its folder as data_dir=..., or "
                "the folder itself as the name."
            )
        if not Path(data_dir).is_dir():
            raise FileFormatError(
                f"Expected a folder in data_dir, but there is none at {data_dir}."
            )
        return
    if path.is_file() and path.suffix.lower() not in _FILE_KINDS:
        raise FileFormatError(
            f"Expected a data set in {path}: a folder, or a file ending in .parquet or .arrow."
        )
    looks_local = path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1
    if looks_local and not path.exists():
        raise FileFormatError(f"There is no data set at {path}: no such file or folder.")


def _is_saved(path: Path) -> bool:
    return (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()


def _saved(library: Any, path: Path, split: str, streaming: bool) -> Any:
    """Open what ``save_to_disk`` wrote: one table, or several by the name of their split."""
    table = library.load_from_disk(str(path))
    if isinstance(table, library.DatasetDict):
        if split not in table:
            raise UnknownNameError(f"split of {path}", split, table)
        table = table[split]
    elif table.split is not None and str(table.split) != split:
        raise UnknownNameError(f"split of {path}", split, [str(table.split)])
    return table.to_iterable_dataset() if streaming else table


def _translated(
    library: Any,
    error: Exception,
    name: str,
    path: Path,
    split: str,
    configuration: str | None,
    local: list[str],
) -> Exception:
    text = str(error).strip() or type(error).__name__
    same = [known for known in local if known.split("/")[-1] == name.split("/")[-1]]
    hint = f" Did you mean {same[0]!r}?" if same else suggestion(name, local)
    here = f"Data sets in the cache: {', '.join(local) or 'none'}.{hint}"
    if path.exists():
        if "split" in text.lower():
            return InputError(f"The data set {name!r} has no split {split!r}: {text}")
        return FileFormatError(f"Cannot read a data set of images from {path}: {text}")
    if isinstance(error, ValueError) and ("split" in text.lower() or "config" in text.lower()):
        return InputError(
            f"The data set {name!r} cannot be opened with split={split!r} and "
            f"configuration={configuration!r}: {text}"
        )
    if _is_offline(library):
        return RunError(
            f"The data set {name!r} is neither a folder here nor in the cache of this machine, and "
            "offline mode is on (HF_HUB_OFFLINE), so nothing is fetched. Unset HF_HUB_OFFLINE and "
            f"open it once with a network, or pass a local folder. {here} ({text})"
        )
    if isinstance(error, library.exceptions.DatasetNotFoundError):
        return InputError(
            f"There is no data set {name!r}, here or on the Hugging Face hub. {here} {text}"
        )
    return RunError(
        f"The data set {name!r} could not be fetched: {text}. Try again with a network, or pass a "
        f"local folder. {here}"
    )


def _is_offline(library: Any) -> bool:
    asked = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    return asked or bool(getattr(library.config, "HF_HUB_OFFLINE", False))


def image_column(table: Any, name: str, column: str | None) -> tuple[str, Any]:
    """Find the column of images and switch off the library's own decoding.

    Raises:
        UnknownNameError: If the column named does not exist.
        InputError: If none was named and there is not exactly one, or it holds no images.
    """
    library = require("datasets", extra="data", purpose=f"The data set {name!r}")
    features = dict(table.features)
    images = [key for key, kind in features.items() if isinstance(kind, library.Image)]
    if column is None:
        if len(images) != 1:
            listed = ", ".join(f"{key} ({_kind(kind)})" for key, kind in features.items())
            raise InputError(
                f"Expected one column of images in the data set {name!r}, found "
                f"{', '.join(images) or 'none'}. Name one as column=... Columns: {listed}."
            )
        column = images[0]
    elif column not in features:
        raise UnknownNameError(f"column of the data set {name!r}", column, features)
    if column not in images and not _holds_files(features[column]):
        raise InputError(
            f"The column {column!r} of {name!r} holds {_kind(features[column])}, not images. "
            f"Columns of images: {', '.join(images) or 'none'}."
        )
    return column, table.cast_column(column, library.Image(decode=False))


def _kind(feature: Any) -> str:
    return getattr(feature, "dtype", None) or type(feature).__name__


def _holds_files(feature: Any) -> bool:
    """Say whether a plain column is images all the same: encoded bytes, or bytes with a path."""
    if isinstance(feature, dict):
        return set(feature) == {"bytes", "path"}
    return getattr(feature, "dtype", None) in ("binary", "large_binary")


def label_column(table: Any, name: str, column: str | None) -> str | None:
    """Find the column of class numbers; ``None`` where none was named and there is not just one.

    Raises:
        UnknownNameError: If the column named does not exist.
        InputError: If the column named does not hold class numbers.
    """
    library = require("datasets", extra="data", purpose=f"The data set {name!r}")
    features = dict(table.features)
    classes = [key for key, kind in features.items() if isinstance(kind, library.ClassLabel)]
    if column is None:
        if "label" in features and _is_whole(features["label"]):
            return "label"
        return classes[0] if len(classes) == 1 else None
    if column not in features:
        raise UnknownNameError(f"column of the data set {name!r}", column, features)
    if not _is_whole(features[column]):
        raise InputError(
            f"The column {column!r} of {name!r} holds {_kind(features[column])}, not class numbers."
        )
    return column


def _is_whole(feature: Any) -> bool:
    return "int" in str(getattr(feature, "dtype", ""))


def class_names(table: Any, column: str | None) -> tuple[str, ...]:
    """Return the names of the classes, empty where the table has none."""
    feature = None if column is None else table.features[column]
    return tuple(getattr(feature, "names", None) or ())
