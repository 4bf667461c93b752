"""Scores windows in ONNX Runtime on one thread: the peer that `cargo xtask bench scoring` measures.

Reads FOLDER/model.safetensors and FOLDER/windows.safetensors, builds the graph that `plugins/sdk`
describes from the same tensors, and prints the windows a second of the fastest pass, in batches as the
plugin gets them and one window at a time. What was found is written to FOLDER as onnx.surprise (f32) and
onnx.expected (u16), window by window.
"""

import json
import struct
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

PASSES = 5


def read(path):
    """The tensors of a safetensors file."""
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    types = {"F32": np.float32, "I64": np.int64}
    tensors = {}
    for name, about in json.loads(data[8 : 8 + size]).items():
        if name != "__metadata__":
            begin, end = (8 + size + at for at in about["data_offsets"])
            values = np.frombuffer(data[begin:end], types[about["dtype"]])
            tensors[name] = values.reshape(about["shape"])
    return tensors


def graph(model):
    """Tokens [length, windows] and initial states [windows] to surprises and most likely ids."""
    vocabulary, hidden = model["gru.out.w"].shape
    constants = {
        "embed": model["gru.embed"],
        # Gates are in ONNX's own order: z, r, h.
        "w": model["gru.w"][None],
        "r": model["gru.r"][None],
        "b": np.concatenate([model["gru.wb"], model["gru.rb"]])[None],
        "h0": model["gru.h0"],
        "out.w": np.ascontiguousarray(model["gru.out.w"].T),
        "out.b": model["gru.out.b"],
        "after": model["gru.after"],
        "rows": model["gru.after.row"].astype(np.int64).ravel(),
        "columns": np.array(vocabulary + 1),
        "none": np.array(vocabulary),
        "0": np.array([0]),
        "1": np.array([1]),
        "2": np.array([2]),
        "-1": np.array([-1]),
    }
    nodes = [
        ("Slice", ["tokens", "0", "-1", "0"], "before", {}),
        ("Gather", ["embed", "before"], "x", {}),
        ("Gather", ["h0", "state"], "of state", {}),
        ("Unsqueeze", ["of state", "0"], "initial", {}),
        ("GRU", ["x", "w", "r", "b", "", "initial"], "y",
         {"hidden_size": hidden, "linear_before_reset": 1}),
        ("Squeeze", ["y", "1"], "consumed", {}),
        ("Concat", ["initial", "consumed"], "h", {"axis": 0}),
        ("MatMul", ["h", "out.w"], "product", {}),
        ("Add", ["product", "out.b"], "biased", {}),
        # The row of what is added: of the pattern, and of the token before or of none.
        ("Mul", ["state", "columns"], "first", {}),
        ("Unsqueeze", ["first", "0"], "from", {}),
        ("Add", ["from", "none"], "at first", {}),
        ("Add", ["from", "before"], "then", {}),
        ("Concat", ["at first", "then"], "place", {"axis": 0}),
        ("Gather", ["rows", "place"], "row", {}),
        ("Gather", ["after", "row"], "added", {}),
        ("Add", ["biased", "added"], "logits", {}),
        ("ArgMax", ["logits"], "expected", {"axis": 2, "keepdims": 0}),
        ("LogSoftmax", ["logits"], "log p", {"axis": 2}),
        ("Unsqueeze", ["tokens", "2"], "own", {}),
        ("GatherElements", ["log p", "own"], "of own", {"axis": 2}),
        ("Squeeze", ["of own", "2"], "log p of own", {}),
        ("Neg", ["log p of own"], "surprise", {}),
    ]
    value = helper.make_tensor_value_info
    shape = ["length", "windows"]
    made = helper.make_model(
        helper.make_graph(
            [helper.make_node(op, i, [o], **options) for op, i, o, options in nodes],
            "next token",
            [value("tokens", TensorProto.INT64, shape), value("state", TensorProto.INT64, shape[1:])],
            [value("surprise", TensorProto.FLOAT, shape), value("expected", TensorProto.INT64, shape)],
            [numpy_helper.from_array(v, name) for name, v in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )
    onnx.checker.check_model(made)
    return made.SerializeToString()


def fastest(session, runs):
    """Seconds of the fastest pass over all runs, and the results of the first, which is not timed."""
    results = [session.run(None, run) for run in runs]
    passes = []
    for _ in range(PASSES):
        begin = time.perf_counter()
        for run in runs:
            session.run(None, run)
        passes.append(time.perf_counter() - begin)
    return min(passes), results


def main(folder):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        graph(read(folder / "model.safetensors")), options, providers=["CPUExecutionProvider"]
    )
    windows = read(folder / "windows.safetensors")
    batches = [
        {"tokens": np.ascontiguousarray(tokens.T), "state": state}
        for tokens, state in zip(windows["tokens"], windows["state"])
    ]
    singles = [
        {"tokens": np.ascontiguousarray(run["tokens"][:, [at]]), "state": run["state"][[at]]}
        for run in batches
        for at in range(len(run["state"]))
    ]
    seconds, results = fastest(session, batches)
    surprise, expected = (np.concatenate([one.T for one in all]) for all in zip(*results))
    (folder / "onnx.surprise").write_bytes(surprise.astype("<f4").tobytes())
    (folder / "onnx.expected").write_bytes(expected.astype("<u2").tobytes())
    print("windows_per_second.batches", len(singles) / seconds)
    print("windows_per_second.alone", len(singles) / fastest(session, singles)[0])


main(Path(sys.argv[1]))
