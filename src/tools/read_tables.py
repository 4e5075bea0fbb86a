"""Reads rows of Parquet files and of Arrow files (as the datasets library writes them, and Feather) for aimerge, which talks
to it over a socket; messages are as helper_messages.py has them, JSON both ways.

  {"open": path}                                         -> {"rows": N, "bytes": N, "columns": [name, ...]}
  {"read": path, "columns": [name, ...], "rows": [N, ...]} -> [row, ...], each the text of a JSON object

A file is read batch by batch, and never held as a whole. Values that are null are left out, inside of structs, too: a column
of structs has every key in every row.
"""
import json
import sys

from helper_messages import Failure, missing_package, run

ROWS_PER_BATCH = 4096


def import_pyarrow():
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise missing_package("pyarrow", error) from error
    return pyarrow


class ParquetTable:
    def __init__(self, pa, path):
        self._file = pa.parquet.ParquetFile(path)
        metadata = self._file.metadata
        self.columns = self._file.schema_arrow.names
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        self.rows, self.bytes = metadata.num_rows, sum(group.total_byte_size for group in groups)
        self._group_rows = [group.num_rows for group in groups]

    def batches(self, columns, wanted):
        """(number of the first row, batch), without the row groups that have no wanted row. @param wanted ascending"""
        first, at = 0, 0
        for group, rows in enumerate(self._group_rows):
            begin = at
            while at < len(wanted) and wanted[at] < first + rows:
                at += 1
            if at > begin:
                row = first
                for batch in self._file.iter_batches(ROWS_PER_BATCH, row_groups=[group], columns=columns):
                    yield row, batch
                    row += batch.num_rows
            first += rows


class ArrowTable:
    """An IPC stream (datasets) or an IPC file (Feather), mapped into memory."""

    def __init__(self, pa, path):
        self._pa, self._path = pa, path
        self.columns = self._open().schema.names
        self.rows = self.bytes = 0
        for batch in self._all():
            self.rows += batch.num_rows
            self.bytes += batch.nbytes

    def _open(self):
        source = self._pa.memory_map(self._path)
        if source.read(6) == b"ARROW1":
            return self._pa.ipc.open_file(source)
        source.seek(0)
        return self._pa.ipc.open_stream(source)

    def _all(self):
        reader = self._open()
        if hasattr(reader, "num_record_batches"):
            return (reader.get_batch(number) for number in range(reader.num_record_batches))
        return iter(reader)

    def batches(self, columns, wanted):
        row = 0
        for batch in self._all():
            if not wanted or row > wanted[-1]:
                return
            yield row, batch.select(columns)
            row += batch.num_rows


def without_nulls(value):
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


class Tables:
    def __init__(self):
        self._pa, self._open = import_pyarrow(), {}

    def answer(self, request):
        request = json.loads(bytes(request))
        path = request.get("open") or request["read"]
        try:
            return json.dumps(self._opened(path) if "open" in request else self._read(path, request["columns"], request["rows"])).encode()
        except (self._pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise Failure(f"{path}: cannot be read as {'Parquet' if path.endswith('.parquet') else 'Arrow'} ({str(error).strip()}); "
                          "fetch or write the file again") from error

    def _opened(self, path):
        table = (ParquetTable if path.endswith(".parquet") else ArrowTable)(self._pa, path)
        twice = {name for name in table.columns if table.columns.count(name) > 1}
        if twice:
            raise Failure(f"{path}: has several columns '{sorted(twice)[0]}'")
        self._open[path] = table
        return {"rows": table.rows, "bytes": table.bytes, "columns": table.columns}

    def _read(self, path, columns, rows):
        wanted = sorted(rows)
        found, at = {}, 0
        for first, batch in self._open[path].batches(columns, wanted):
            begin = at
            while at < len(wanted) and wanted[at] < first + batch.num_rows:
                at += 1
            own = wanted[begin:at]
            if own:
                values = batch.take(self._pa.array([row - first for row in own])).to_pylist()
                found.update((row, self._as_json(path, row, value)) for row, value in zip(own, values, strict=True))
        return [found[row] for row in rows]

    @staticmethod
    def _as_json(path, row, values):
        try:
            return json.dumps(without_nulls(values), ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError):
            kinds = ", ".join(f"{name} ({type(value).__name__})" for name, value in values.items())
            raise Failure(f"{path}: row {row + 1} has values that are not text, numbers or lists of them: {kinds}") from None


def main():
    return Tables().answer


if __name__ == "__main__":
    sys.exit(run(main))
