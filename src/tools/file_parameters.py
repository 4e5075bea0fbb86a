"""Finds the tensors of a model's files among the parameters of the model that transformers made of them.

transformers renames tensors when it loads them, fuses experts [out, in] into one parameter [experts, out, in], turns axes round. What stays is the
content: a row of a file's tensor is a row (or column) of some parameter, whatever that is called. So a tensor is looked for by its name first, which
is believed if the content agrees; else by its content. Names decide between parameters of the same content, such as new norms that are all ones.
"""
import collections
import dataclasses
import itertools
import json
import math

import torch
from safetensors import safe_open

FINGERPRINT_CHANNELS = 64  # of a row: two such rows tell trained weights apart, and reading whole models would take long


def weight_files(folder):
    """Names of the files that make up the model, as transformers and aimerge choose them."""
    for single, index in (("model.safetensors", "model.safetensors.index.json"), ("pytorch_model.bin", "pytorch_model.bin.index.json")):
        if (folder / single).exists():
            return [single]
        if (folder / index).exists():
            return sorted(set(json.loads((folder / index).read_text())["weight_map"].values()))
    return ["model.safetensors"]


def named_data(path):
    """[(name, data)], where data[...] reads."""
    if path.suffix == ".safetensors":
        file = safe_open(path, "pt")
        return [(name, file.get_slice(name)) for name in file.keys()]
    return list(torch.load(path, map_location="cpu", mmap=True, weights_only=True).items())


@dataclasses.dataclass(eq=False)
class FileTensor:
    name: str
    shape: tuple
    data: object  # a slice of safetensors, or a tensor that lies in a file: data[...] reads

    @property
    def matrices(self):
        """[count, rows, columns]: with three axes one per expert; of a convolution one, with a row per output."""
        if len(self.shape) == 3:
            return self.shape
        rows = self.shape[0] if len(self.shape) > 1 else 1
        return 1, rows, math.prod(self.shape) // rows

    def row(self, matrix, row):
        if len(self.shape) == 3:
            return self.data[matrix, row]
        return self.data[row].flatten() if len(self.shape) > 1 else self.data[:]

    def column(self, matrix, column):
        return self.data[matrix, :, column] if len(self.shape) == 3 else self.data[:, column]

    def ends(self, matrix, is_transposed=False):
        """Its first and its last row, or column."""
        _, rows, columns = self.matrices
        if is_transposed:
            return [self.column(matrix, column) for column in sorted({0, columns - 1})]
        return [self.row(matrix, row) for row in sorted({0, rows - 1})]


def read_file_tensors(folder):
    """[FileTensor] in the order of their names; scalars and empty ones left out."""
    tensors = []
    for file_name in weight_files(folder):
        for name, data in named_data(folder / file_name):
            shape = tuple(data.shape if torch.is_tensor(data) else data.get_shape())
            if shape and math.prod(shape):
                tensors.append(FileTensor(name, shape, data))
    return sorted(tensors, key=lambda tensor: tensor.name)


def as_matrices(parameter):
    """A view [count, rows, columns], as FileTensor.matrices."""
    data = parameter.detach()
    if data.ndim == 3:
        return data
    return data.reshape(1, 1, -1) if data.ndim < 2 else data.reshape(1, len(data), -1)


@dataclasses.dataclass(frozen=True)
class Source:
    """Where one matrix of a file's tensor is in memory."""
    parameter: torch.nn.Parameter
    matrix: int          # of a parameter with three axes: which expert
    is_transposed: bool  # against the file


class FileParameters:
    """
    tensors  [FileTensor]
    sources  {tensor's name: [of each of its matrices [Source, ...]]}: more than one where neither content nor name can decide. What is not in memory
             is left out.
    names    {parameter: its names in memory}: more than one where weights are tied
    """

    def __init__(self, model, folder):
        self.tensors = read_file_tensors(folder)
        by_name = dict(model.named_parameters(remove_duplicate=False))
        self.names = collections.defaultdict(list)
        for name, parameter in by_name.items():
            self.names[parameter].append(name)
        self.sources = self._found_by_name(by_name)
        found = {sources[0][0].parameter for sources in self.sources.values()}
        others = [parameter for parameter in self.names if parameter not in found and parameter.numel()]
        for is_transposed in (False, True):
            self._find_by_content(others, is_transposed)

    def _found_by_name(self, by_name):
        found = {}
        for tensor in self.tensors:
            parameter = by_name.get(tensor.name)
            if parameter is not None and parameter.shape == tensor.shape and has_same_ends(tensor, parameter):
                found[tensor.name] = [[Source(parameter, matrix, False)] for matrix in range(tensor.matrices[0])]
        return found

    def _find_by_content(self, parameters, is_transposed):
        """Columns of a tensor are looked for only where its rows were not found: a column lies all over its file."""
        missing = [tensor for tensor in self.tensors if tensor.name not in self.sources and (not is_transposed or len(tensor.shape) in (2, 3))]
        if missing and parameters:
            candidates = ContentSearch(missing, parameters, is_transposed).candidates()
            self.sources.update(choose_by_name(missing, candidates, self.names))


def has_same_ends(tensor, parameter):
    """What the first and the last matrix look like."""
    matrices = as_matrices(parameter)
    return all(torch.equal(row.to(parameter.dtype), own.cpu())
               for matrix in {0, len(matrices) - 1}
               for row, own in zip(tensor.ends(matrix), (matrices[matrix, 0], matrices[matrix, -1])))


def fingerprints(rows):
    """int64 [rows] of [rows, channels]: equal rows have equal ones."""
    some = rows[:, ::-(-rows.shape[1] // FINGERPRINT_CHANNELS)]
    bits = some.float().contiguous().view(torch.int32).to(torch.int64)
    odd = torch.randint(2**62, (bits.shape[1],), generator=torch.Generator().manual_seed(1)) * 2 + 1
    return (bits * odd.to(bits.device)).sum(1)  # modulo 2^64


class Ends:
    """What the first and last row of one matrix of a file's tensor look like in memory.

    fingerprints  {dtype in memory: [one per row]}
    """

    def __init__(self, rows, dtypes):
        self.channels = len(rows[0])
        self.fingerprints = {dtype: [fingerprints(row.to(dtype)[None]).item() for row in rows] for dtype in dtypes}
        self.are_constant = all(bool((row == row[0]).all()) for row in rows)


@dataclasses.dataclass(frozen=True)
class Candidate:
    source: Source
    is_constant: bool  # all of its content is one number, which says little


class ContentSearch:
    """One pass over the parameters, for the ends of every matrix of the tensors."""

    def __init__(self, tensors, parameters, is_transposed):
        self._parameters, self._is_transposed = parameters, is_transposed
        dtypes = {parameter.dtype for parameter in parameters}
        self._ends = {(tensor, matrix): Ends(tensor.ends(matrix, is_transposed), dtypes)
                      for tensor in tensors for matrix in range(tensor.matrices[0])}
        self._places = collections.defaultdict(dict)  # {(dtype, channels): {fingerprint: where it was found, {(parameter, matrix), ...}}}
        for ends in self._ends.values():
            for dtype, ids in ends.fingerprints.items():
                self._places[dtype, ends.channels].update({fingerprint: set() for fingerprint in ids})

    def candidates(self):
        """{(tensor, matrix): [Candidate, ...]}"""
        for parameter in self._parameters:
            self._look_through(parameter)
        return {key: [Candidate(Source(*place, self._is_transposed), ends.are_constant) for place in self._places_of(ends)]
                for key, ends in self._ends.items()}

    def _places_of(self, ends):
        """Where all ends are."""
        per_dtype = (set.intersection(*(self._places[dtype, ends.channels][fingerprint] for fingerprint in ids))
                     for dtype, ids in ends.fingerprints.items())
        return set.union(*per_dtype)

    def _look_through(self, parameter):
        matrices = as_matrices(parameter)
        places = self._places.get((parameter.dtype, matrices.shape[2]))
        if not places:
            return
        own = fingerprints(matrices.flatten(0, 1))
        hits = torch.isin(own, torch.tensor(sorted(places), device=own.device)).nonzero().flatten()
        for fingerprint, row in zip(own[hits].tolist(), hits.tolist()):
            places[fingerprint].add((parameter, row // matrices.shape[1]))


@dataclasses.dataclass(frozen=True, order=True)
class Likeness:
    """How alike the name of a file's tensor and a parameter's are. Greater is more alike."""
    has_same_numbers: bool  # of layers and experts
    common_end: int         # parts of the name
    common_parts: int

    @staticmethod
    def of(tensor, matrix, source, name):
        theirs, ours = tensor.name.split("."), name.split(".")
        their_numbers = [int(part) for part in theirs if part.isdigit()] + [matrix] * (len(tensor.shape) == 3)
        our_numbers = [int(part) for part in ours if part.isdigit()] + [source.matrix] * (source.parameter.ndim == 3)
        end = 0
        while end < min(len(theirs), len(ours)) and theirs[-1 - end] == ours[-1 - end]:
            end += 1
        common = collections.Counter(theirs) & collections.Counter(ours)
        return Likeness(their_numbers == our_numbers, end, common.total())

    def is_convincing(self):
        return self.has_same_numbers and self.common_end >= 2


def choose_by_name(tensors, candidates, names):
    """
    Of several parameters with a tensor's content the one whose name is most alike, the most alike pairs first: a parameter is given away once.
    @param candidates  {(tensor, matrix): [Candidate, ...]}
    @param names       {parameter: its names}
    @return {tensor's name: [per matrix [Source, ...]]}, of the tensors all matrices of which have one
    """
    pairs = []  # (likeness, tensor, matrix, source)
    for (tensor, matrix), own in candidates.items():
        for candidate in own:
            likeness = max(Likeness.of(tensor, matrix, candidate.source, name) for name in names[candidate.source.parameter])
            if not candidate.is_constant or likeness.is_convincing():
                pairs.append((likeness, tensor, matrix, candidate.source))

    def likeness_first(pair):
        likeness, tensor, matrix, _ = pair
        return likeness, tensor.name, matrix

    chosen, taken = {}, set()
    for _, group in itertools.groupby(sorted(pairs, key=likeness_first, reverse=True), likeness_first):
        group = list(group)
        _, tensor, matrix, _ = group[0]
        has_choice = len(candidates[tensor, matrix]) > 1
        free = [source for *_, source in group if not (has_choice and source in taken)]
        if free and (tensor, matrix) not in chosen:
            chosen[tensor, matrix] = free
            if len(free) == 1 and is_whole(tensor, free[0]):
                taken.add(free[0])
    complete = {tensor.name: [chosen.get((tensor, matrix)) for matrix in range(tensor.matrices[0])] for tensor in tensors}
    return {name: sources for name, sources in complete.items() if all(sources)}


def is_whole(tensor, source):
    """Whether the parameter's matrix has room for this one only."""
    return math.prod(tensor.matrices[1:]) == math.prod(as_matrices(source.parameter).shape[1:])
