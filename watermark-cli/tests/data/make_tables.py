"""Writes the Parquet files of this directory with pyarrow 26: the writer that data sets come from."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent
message = pa.struct([("role", pa.string()), ("content", pa.string())])
answers = pa.table(
    {
        "text": pa.array(["abc", None, None]),
        "token_ids": pa.array([[5, 6, 7], [1000, 1001], None], pa.list_(pa.int32())),
        "prompt_token_ids": pa.array([[1], None, None], pa.large_list(pa.int64())),
        "messages": pa.array(
            [None, None, [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "the answer"}]],
            pa.list_(message),
        ),
        "score": pa.array([0.5, None, 1.0]),
    }
)
pq.write_table(answers, HERE / "answers.parquet", compression="zstd")
pq.write_table(pa.table({"colour": ["red"]}), HERE / "other.parquet")
wrong = pa.table({"token_ids": pa.array([[1], [4096]], pa.list_(pa.int64()))})
pq.write_table(wrong, HERE / "wrong.parquet", compression="snappy")
