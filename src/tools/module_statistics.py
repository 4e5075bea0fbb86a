"""From sums over parameters in memory to statistics of the modules of the model's files, and what there are none for."""
import collections
import dataclasses
import re

import numpy as np
import torch

EMBEDDINGS = "embeddings, which are looked up"
CONVOLUTIONS = "convolutions"
VECTORS = "biases, buffers and other vectors that are no weights of norms"
UNUSED = "took part in nothing that was run"
EXPERT_NUMBER = re.compile(r"(expert[a-z]*[._])(\d+)")  # experts.7, expert_7


class NotMeasured(Exception):
    """Its text: the kind of tensors that have no statistics."""


@dataclasses.dataclass
class ModuleStatistics:
    """
    values      {statistic: float32 [in], or of a tensor with three axes [experts, in]}
    tokens      int64, or int64 [experts]
    input_axis  of the file's tensor, from the end: -1 or -2
    """
    values: dict
    tokens: np.ndarray
    input_axis: int


@dataclasses.dataclass
class MatrixSums:
    """Sums over what one matrix was multiplied by: float64 [in], its number of rows."""
    absolute: torch.Tensor
    squares: torch.Tensor
    largest: torch.Tensor
    tokens: torch.Tensor
    input_axis: int

    @staticmethod
    def of(sums, matrix, input_axis):
        """Out of ActivationSums."""
        return MatrixSums(sums.absolute[matrix], sums.squares[matrix], sums.largest[matrix], sums.tokens[matrix], input_axis)

    def tensors(self):
        return self.absolute, self.squares, self.largest, self.tokens

    def equals(self, other):
        return self.input_axis == other.input_axis and all(torch.equal(*pair) for pair in zip(self.tensors(), other.tensors()))


def module_of(name):
    return name.removesuffix(".weight")


class ModulesOfFile:
    """
    modules     {module: ModuleStatistics}
    unmeasured  {kind: [name of the file's tensor]}
    """

    def __init__(self, model, file, products, norms):
        """
        @param file  FileParameters
        """
        self._model, self._file, self._products, self._norms = model, file, products, norms
        self._embedding_names = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, torch.nn.Embedding)}
        self._buffer_names = {name.rpartition(".")[2] for name, _ in model.named_buffers()}
        self.modules, self.unmeasured = {}, collections.defaultdict(list)
        for tensor in file.tensors:
            try:
                self.modules[module_of(tensor.name)] = self._statistics_of(tensor)
            except NotMeasured as kind:
                self.unmeasured[str(kind)].append(tensor.name)
        self._add_idle_experts()
        self._add_tied_heads()

    def _statistics_of(self, tensor):
        sources = self._file.sources.get(tensor.name)
        if sources is None:
            is_vector = tensor.name.rpartition(".")[2] in {"bias", *self._buffer_names}
            raise NotMeasured(VECTORS if is_vector else f"not found among the parameters of {type(self._model).__name__}")
        matrices = [self._sums_of_one(tensor, candidates) for candidates in sources]
        if len({sums.input_axis for sums in matrices}) > 1:
            raise NotMeasured("experts that are multiplied along different axes")
        return statistics_of(matrices, is_fused=len(tensor.shape) == 3)

    def _sums_of_one(self, tensor, candidates):
        """The statistics of one matrix; where several parameters may be it, they must agree."""
        first, *others = (self._sums_of(tensor, source) for source in candidates)
        if not all(first.equals(other) for other in others):
            raise NotMeasured("cannot be told apart: parameters of the same content and like names, but other inputs")
        return first

    def _sums_of(self, tensor, source):
        parameter = source.parameter
        by_axis = self._products.sums.get(parameter, {})
        if self._is_embedding(tensor.name, parameter):
            raise NotMeasured(EMBEDDINGS)
        if len(by_axis) > 1:
            raise NotMeasured("multiplied along one axis here and along the other there")
        if by_axis:
            (axis, sums), = by_axis.items()
            return MatrixSums.of(sums, source.matrix, -3 - axis if source.is_transposed else axis)
        if parameter in self._norms.sums:
            return MatrixSums.of(self._norms.sums[parameter], 0, -1)
        raise NotMeasured(self._why_not(parameter))

    def _is_embedding(self, name, parameter):
        """A head that is tied to the embedding is one parameter in memory with it; in the file it may have a name of its own."""
        is_heads_name = name in self._file.names[parameter] and name not in self._embedding_names
        return "embedding" in self._products.uses.get(parameter, ()) and not is_heads_name

    def _why_not(self, parameter):
        uses = self._products.uses.get(parameter, ())
        own_name = self._file.names[parameter][0].rpartition(".")[2]
        if "bias" in own_name or (parameter.ndim == 1 and (uses or own_name != "weight")):
            return VECTORS
        if not uses:
            return UNUSED
        if "convolution" in uses:
            return CONVOLUTIONS
        return f"no factor of a matrix product as a whole (used by {', '.join(sorted(uses))})"

    def _add_idle_experts(self):
        """An expert in a parameter of its own that no token came to took part in nothing: it has zeros, as its like among fused ones."""
        running = {expert_family(name): self.modules[module_of(name)] for name in self._names_of_modules() if EXPERT_NUMBER.search(name)}
        idle = [tensor for tensor in self._file.tensors if tensor.name in self.unmeasured[UNUSED] and expert_family(tensor.name) in running]
        for tensor in idle:
            like = running[expert_family(tensor.name)]
            values = {statistic: np.zeros_like(values) for statistic, values in like.values.items()}
            self.modules[module_of(tensor.name)] = ModuleStatistics(values, np.int64(0), like.input_axis)
            self.unmeasured[UNUSED].remove(tensor.name)

    def _names_of_modules(self):
        return [tensor.name for tensor in self._file.tensors if module_of(tensor.name) in self.modules]

    def _add_tied_heads(self):
        """A head that the file does not have, as it is the embedding, stands under its name in memory (lm_head)."""
        in_file = {tensor.name for tensor in self._file.tensors}
        for parameter, by_axis in self._products.sums.items():
            heads = [name for name in self._file.names[parameter] if name not in self._embedding_names and name not in in_file]
            if "embedding" in self._products.uses[parameter] and heads and -1 in by_axis:
                self.modules[module_of(heads[0])] = statistics_of([MatrixSums.of(by_axis[-1], 0, -1)], is_fused=False)


def expert_family(name):
    """The name without the expert's number; of what is no expert's, the name."""
    return EXPERT_NUMBER.sub(r"\1*", name)


def statistics_of(matrices, is_fused):
    """
    @param matrices  [MatrixSums], one each
    """
    absolute, squares, largest, tokens = (torch.stack(values).cpu() for values in zip(*(sums.tensors() for sums in matrices)))
    rows = tokens.clamp(min=1)[:, None]  # zeros without tokens
    values = {"mean_abs": absolute / rows, "rms": (squares / rows).sqrt(), "max_abs": largest}
    of_tensor = slice(None) if is_fused else 0
    return ModuleStatistics({name: of_experts.float().numpy()[of_tensor] for name, of_experts in values.items()}, tokens.numpy()[of_tensor],
                            matrices[0].input_axis)


def tokens_of_experts(modules):
    """{expert: its tokens}, of all modules that belong to one of several experts. Heads in a tensor with three axes see the same tokens each."""
    tokens = {}
    for module, statistics in modules.items():
        if np.ndim(statistics.tokens) and (np.ptp(statistics.tokens) or "expert" in module):
            block = module.rpartition(".")[0]
            counts = {f"{block}[{expert}]": count for expert, count in enumerate(statistics.tokens)}
        elif match := EXPERT_NUMBER.search(module):
            counts = {module[:match.end()]: statistics.tokens}
        else:
            continue
        for expert, count in counts.items():
            tokens[expert] = min(int(count), tokens.get(expert, int(count)))
    return tokens
