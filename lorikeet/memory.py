"""How much memory a training step takes, from the base's config and the recipe alone. Loads no torch and measures nothing.

What autograd keeps is counted tensor by tensor for transformers' Llama layer under our step (lorikeet/train): exact for Llama, near for what is built like it.
What the process takes beside that is calibrated (benchmarks/memory.py; docs/train.md).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lorikeet import machine
from lorikeet.bases import LIBRARIES
from lorikeet.recipe import Part, TrainSettings
from lorikeet.weights import Base

HEAP = 1.45
"""Resident bytes a byte that autograd keeps, on a CPU: glibc's heap has holes between tensors (glibc 2.36: 1.3 to 1.5 measured)."""
HEAD = 90_000_000
"""The head's blocks of logits: three of 30 MB at a time (`lorikeet.train.sft.LOGITS`)."""
BESIDE = 130_000_000
"""Tokenizer, trainer, rows, and what writing a checkpoint takes."""
QK_NORM = {"qwen3", "gemma3_text", "olmo2"}
"""Model types whose queries and keys go through a norm of their own."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder, in numbers a token; `weights` in all, `stored` the bytes of its files."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    weights: int
    stored: int
    qk_norm: bool = False

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """(in, out) of the linear layers of a block, by name."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = {"q_proj": (self.hidden, queries), "k_proj": (self.hidden, keys), "v_proj": (self.hidden, keys), "o_proj": (queries, self.hidden)}
        return attention | {"gate_proj": (self.hidden, self.ffn), "up_proj": (self.hidden, self.ffn), "down_proj": (self.ffn, self.hidden)}

    def adapted(self, settings: TrainSettings) -> list[tuple[int, int]]:
        """Those of them that get LoRA; none where every weight is trained. Names that are not known here count as all."""
        if settings.method == "full":
            return []
        if isinstance(settings.targets, str):
            parts: dict[Part, slice] = {"all": slice(None), "attention": slice(4), "mlp": slice(4, None)}
            return list(self.linears.values())[parts[settings.targets]]
        return [self.linears[name] for name in settings.targets if name in self.linears] or list(self.linears.values())


def shape_of(base: Base) -> Shape | None:
    """The shape that a base's config.json tells; None where it tells none that is known here."""
    path = base.path / "config.json"
    if not path.is_file():
        return None
    whole = json.loads(path.read_text(encoding="utf-8"))
    config = whole.get("text_config", whole)
    try:
        hidden, heads, ffn = config["hidden_size"], config["num_attention_heads"], config["intermediate_size"]
        ffn = max(ffn) if isinstance(ffn, list) else ffn
        kv_heads, head_dim = config.get("num_key_value_heads") or heads, config.get("head_dim") or hidden // heads
        layers, vocab = config["num_hidden_layers"], config["vocab_size"]
    except KeyError:
        return None
    stored = sum(file.stat().st_size for file in Path(base.path).glob("*.safetensors"))
    return Shape(hidden, layers, heads, kv_heads, head_dim, ffn, vocab, base.weights, stored, config.get("model_type") in QK_NORM)


@dataclass(frozen=True)
class Need:
    """Bytes that training takes at its peak, by what they are for."""

    libraries: int
    weights: int
    adapter: int
    activations: int
    working: int
    loading: int

    @property
    def total(self) -> int:
        """On a CPU: the step, or loading where that takes more."""
        return self.libraries + self.weights + max(self.loading, self.adapter + self.activations + self.working)

    @property
    def on_gpu(self) -> int:
        """Of a GPU's memory: without the libraries and what loading takes. Not measured."""
        return self.weights + self.adapter + self.activations + self.working - BESIDE

    def document(self) -> dict[str, int]:
        return {"total": self.total, **asdict(self)}


def adapter_weights(shape: Shape, settings: TrainSettings) -> int:
    """Number of weights that are trained beside the frozen ones: the adapter's, and embeddings and head as a matrix of their own."""
    layers = shape.layers - (settings.first_layer or 0)
    lora = layers * sum(settings.rank * (a + b) + (b if settings.dora else 0) for a, b in shape.adapted(settings))
    return lora + (shape.vocab * shape.hidden if settings.embeddings else 0)


def kept(shape: Shape, settings: TrainSettings, rows: int, longest: int, shared: int = 0) -> int:
    """Bytes that autograd keeps for the backward pass of one pass over `rows` rows of `longest` tokens that begin with `shared` same ones."""
    half = machine.precision(settings.precision) != "fp32"
    size, fused = (2 if half else 4), not half and settings.method != "qlora" and not settings.dora and not settings.dropout
    shared = shared if rows > 1 and not settings.dropout and not settings.neftune else 0
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    linears = shape.adapted(settings)
    on_attention, on_mlp = settings.targets != "mlp", settings.targets != "attention"
    numbers = 2 * queries + 3 * shape.ffn + len(linears) * settings.rank  # queries, attention's result; gate, its activation, up; x A of each adapter
    copies = 0
    if fused or not half:
        numbers += shape.hidden * (on_attention + on_mlp) + shape.ffn * on_mlp + 2 * shape.hidden
    else:  # each adapter casts its input anew; the norms keep theirs in float32
        numbers += sum(a for a, _ in linears) + 4 * shape.hidden
    if settings.dropout:
        copies += sum(a for a, _ in linears) * (size + 1)  # what dropout left of each input, and its mask
    if settings.dora:
        numbers += 2 * sum(b for _, b in linears)
    if shape.qk_norm:
        numbers += (queries + keys) * (2 if half else 1)
    tokens = shared + rows * (longest - shared)
    each = tokens * (size * numbers + copies + 4 * (shape.heads + 2))
    if shared:  # the rows' own pass attends to keys and values repeated for every head, under a mask
        each += size * (2 * shared * keys + 2 * rows * longest * queries) + 4 * rows * (longest - shared) * longest
        each += size * 2 * rows * longest * keys  # the cache
    else:
        each += size * tokens * 2 * keys
    if half:
        each += size * sum(settings.rank * (a + b) for a, b in linears)
    return each * (shape.layers - (settings.first_layer or 0))


def predict(shape: Shape, settings: TrainSettings, rows: int, longest: int, shared: int = 0) -> Need:
    """The memory of training with at most `rows` rows of `longest` tokens going through the model at once."""
    whole = settings.method == "full"
    size = 2 if machine.precision(settings.precision) != "fp32" and not whole else 4
    weights = size * shape.weights
    if settings.method == "qlora":  # NF4 and its scales: 4.13 bits a weight of the blocks
        blocks = shape.layers * sum(a * b for a, b in shape.linears.values())
        weights = size * max(0, shape.weights - blocks) + round(blocks * 4.13 / 8)
    passing = 4 * 5 * rows * longest * shape.ffn
    return Need(
        libraries=LIBRARIES,
        weights=weights,
        adapter=12 * shape.weights if whole else 16 * adapter_weights(shape, settings),  # float32: itself, its gradient, and AdamW's two means
        activations=round(HEAP * kept(shape, settings, rows, longest, shared)),
        working=HEAD + passing + BESIDE,
        loading=shape.stored,
    )


def longest_row(tokens: Path) -> int:
    """Tokens of the longest row that training sees, of a data step's tokens.parquet."""
    import pyarrow.compute
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(tokens, columns=["ids", "split"], filters=[("split", "in", ["train", "validation"])])
    return int(pyarrow.compute.max(pyarrow.compute.list_value_length(table["ids"])).as_py())


def largest_batch(settings: TrainSettings, longest: int) -> int:
    """Most rows of the greatest length that a batch holds."""
    return max(1, min(settings.rows, settings.row_tokens // longest))


def rows_that_fit(shape: Shape, settings: TrainSettings, longest: int, shared: int, limit: int, *, gpu: bool = False) -> int:
    """Most rows of a batch that go through at once below `limit` bytes; 0 where not even one does."""
    for rows in range(largest_batch(settings, longest), 0, -1):
        need = predict(shape, settings, rows, longest, shared)
        if (need.on_gpu if gpu else need.total) <= limit:
            return rows
    return 0


def longest_that_fits(shape: Shape, settings: TrainSettings, longest: int, limit: int, *, gpu: bool = False) -> int:
    """Longest row, in tokens, that goes through alone below `limit` bytes; 0 where none does."""
    low, high = 0, longest
    while low < high:
        middle = (low + high + 1) // 2
        need = predict(shape, settings, 1, middle)
        low, high = (middle, high) if (need.on_gpu if gpu else need.total) <= limit else (low, middle - 1)
    return low
