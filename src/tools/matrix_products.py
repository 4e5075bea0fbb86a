"""Watches a model of torch while it runs, and sums up what enters its parameters: the rows that its matrices are multiplied by, and the inputs of
its norms.

Looked at are matrix products, not classes of modules. So every use of a weight counts under the parameter itself: a router, an expert with the
tokens that were sent to it (a slice of one parameter [experts, ., .]), a shared block with all its uses, a weight that is multiplied without its
module's forward.
"""
import collections
import dataclasses
import itertools

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

GROUPED_PRODUCTS = ("_grouped_mm", "grouped_mm_fallback")  # of torch; of transformers, where torch's does not run
WITH_A_SUMMAND = {"addmm": "mm", "baddbmm": "bmm", "addmv": "mv"}  # which comes first
COPIES = ("_to_copy", "clone")
CHANNELS_FIRST = (torch.nn.modules.batchnorm._NormBase, torch.nn.GroupNorm)


class ActivationSums:
    """Over the rows that entered one parameter: float64 [experts, channels], on its device; of a plain matrix or norm `experts` is 1.

    order  among all of them, that of their first use
    """
    _orders = itertools.count()

    def __init__(self, experts, channels, device):
        self.order = next(self._orders)
        self.absolute, self.squares, self.largest = (torch.zeros(experts, channels, dtype=torch.float64, device=device) for _ in range(3))
        self.tokens = torch.zeros(experts, dtype=torch.int64, device=device)

    def add(self, first, x, counted=None):
        """
        @param first    the expert of x[0]
        @param x        [experts, rows, channels]
        @param counted  int64 [experts], the rows that are tokens; None: all
        """
        x = x.to(torch.float64, copy=True).abs_()
        own = slice(first, first + len(x))
        self.tokens[own] += x.shape[1] if counted is None else counted
        if x.shape[1] == 0:
            return
        self.absolute[own] += x.sum(1)
        self.largest[own] = torch.maximum(self.largest[own], x.amax(1))
        self.squares[own] += x.square_().sum(1)

    def add_padded(self, first, x):
        """As add(), of experts that are given the same number of rows each: a row of zeros is a place without a token."""
        self.add(first, x, counted=(x != 0).any(-1).sum(1))

    def add_groups(self, first, x, ends):
        """
        @param x     [rows, channels], the tokens of one expert after those of the other
        @param ends  [experts], where they end; what comes behind the last is not looked at
        """
        x = x.to(torch.float64, copy=True).contiguous().abs_()
        offsets = torch.nn.functional.pad(ends.to(torch.int64), (1, 0))
        own = slice(first, first + len(ends))

        def over_groups(reduction):
            return torch.segment_reduce(x, reduction, offsets=offsets, axis=0, initial=0, unsafe=True)

        self.tokens[own] += offsets.diff()
        self.absolute[own] += over_groups("sum")
        self.largest[own] = torch.maximum(self.largest[own], over_groups("max"))
        x.square_()
        self.squares[own] += over_groups("sum")

    def is_finite(self):
        """A tensor of one bool: asking it for its value would wait for the device."""
        return torch.isfinite(self.absolute).all()


@dataclasses.dataclass
class Place:
    """Where a tensor's elements lie in a parameter: of the first, and the steps from one to the next along each axis of the tensor."""
    parameter: torch.nn.Parameter
    offset: int
    strides: tuple


class Copy:
    """A storage that was filled with (part of) a parameter, such as a router's weight in float32."""

    def __init__(self, storage, tensor, place):
        self.alive = StorageWeakRef(storage)  # while it exists, no other storage gets the same _cdata
        self.place = place
        self.axes = sorted(((own, origin) for own, origin, size in zip(tensor.stride(), place.strides, tensor.shape) if size > 1), reverse=True)

    def place_of(self, view):
        """Place of a view of the copy; None where its axes are not the copy's."""
        origin_of = dict(self.axes)
        if any(size > 1 and stride not in origin_of for size, stride in zip(view.shape, view.stride())):
            return None
        offset, rest = self.place.offset, view.storage_offset()
        for own, origin in self.axes:
            if own:
                steps, rest = divmod(rest, own)
                offset += steps * origin
        return Place(self.place.parameter, offset, tuple(origin_of.get(stride, 0) for stride in view.stride()))


class ParameterViews:
    """Knows of a tensor which parameter's numbers it shows: a view of a parameter, or of a copy of one."""

    def __init__(self, model):
        self._parameters = collections.defaultdict(list)
        for parameter in model.parameters():
            self._parameters[parameter.untyped_storage()._cdata].append(parameter)
        self._copies = {}

    def owner(self, tensor):
        """The parameter, or None."""
        key = tensor.untyped_storage()._cdata
        if key in self._parameters:
            at = tensor.data_ptr()
            inside = (p for p in self._parameters[key] if p.data_ptr() <= at < p.data_ptr() + p.numel() * p.element_size())
            return next(inside, None)
        return self._copies[key].place.parameter if key in self._copies else None

    def place(self, tensor):
        """Place of the tensor, or None."""
        parameter = self.owner(tensor)
        if parameter is None:
            return None
        copy = self._copies.get(tensor.untyped_storage()._cdata)
        if copy:
            return copy.place_of(tensor)
        return Place(parameter, (tensor.data_ptr() - parameter.data_ptr()) // parameter.element_size(), tensor.stride())

    def note_copy(self, source, copy):
        place = self.place(source)
        if place:
            storage = copy.untyped_storage()
            self._copies[storage._cdata] = Copy(storage, copy, place)

    def note_written(self, tensor):
        """Another value than the parameter's is in a copy."""
        self._copies.pop(tensor.untyped_storage()._cdata, None)

    def forget_dead_copies(self):
        self._copies = {key: copy for key, copy in self._copies.items() if not copy.alive.expired()}


def tensors_among(values):
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors_among(value)


class MatrixProducts(TorchDispatchMode):
    """`with torch.no_grad(), MatrixProducts(model) as products: model(...)`. (Under inference_mode torch does not show what linear() is made of.)

    sums  {parameter: {its axis that is the input, -1 or -2: ActivationSums}}
    uses  {parameter: names of the operations that took it in, views apart}
    """

    def __init__(self, model):
        super().__init__()
        self.sums = collections.defaultdict(dict)
        self.uses = collections.defaultdict(set)
        self._views = ParameterViews(model)

    def forget_dead_copies(self):
        self._views.forget_dead_copies()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = operation.overloadpacket.__name__
        if operation.is_view:
            return operation(*args, **kwargs)
        for tensor in tensors_among(args):
            parameter = self._views.owner(tensor)
            if parameter is not None:
                self.uses[parameter].add(name)
        self._look_at(name, args, kwargs)
        result = operation(*args, **kwargs)
        if name in COPIES:
            self._views.note_copy(args[0], result)
        elif name.endswith("_") and args and isinstance(args[0], torch.Tensor):
            self._views.note_written(args[0])
        return result

    def _look_at(self, name, args, kwargs):
        if name in WITH_A_SUMMAND:
            name, args = WITH_A_SUMMAND[name], args[1:]
        if name == "mm":
            self._product(args[0][None], args[1][None])
        elif name == "mv":
            self._product(args[0][None], args[1][None, :, None])
        elif name == "bmm":
            self._product(args[0], args[1])
        elif name in GROUPED_PRODUCTS:
            self._grouped_product(args[0], args[1], args[2] if len(args) > 2 else kwargs.get("offs"))

    def _product(self, left, right):
        """left [batch, n, k] times right [batch, k, m]. Where both show parameters, the right one is the weight."""
        if self._views.owner(right) is not None:
            self._take(right, 1, left)
        elif self._views.owner(left) is not None:
            self._take(left, 2, right.transpose(1, 2))

    def _take(self, weight, contracted, x):
        """
        @param weight      [batch, ., .]
        @param contracted  which of its axes goes over the channels of x
        @param x           [batch, rows, channels]
        """
        place = self._views.place(weight)
        axis = place and input_axis(place, contracted, weight.shape[contracted])
        if axis is None:
            return
        if is_one_matrix(place, weight):
            self._sums_of(place.parameter, axis).add(first_expert(place), x.reshape(1, -1, x.shape[2]))
        elif place.strides[0] == place.parameter.stride(0):
            self._sums_of(place.parameter, axis).add_padded(first_expert(place), x)

    def _grouped_product(self, x, weight, ends):
        """x [rows, channels], ends [experts]: rows up to ends[e] are multiplied by weight[e] [channels, out]."""
        place = self._views.place(weight)
        axis = place and x.ndim == 2 and weight.ndim == 3 and input_axis(place, 1, weight.shape[1])
        if axis:
            self._sums_of(place.parameter, axis).add_groups(first_expert(place), x, ends)

    def _sums_of(self, parameter, axis):
        by_axis = self.sums[parameter]
        if axis not in by_axis:
            experts = parameter.shape[0] if parameter.ndim == 3 else 1
            by_axis[axis] = ActivationSums(experts, parameter.shape[axis], parameter.device)
        return by_axis[axis]


def input_axis(place, contracted, channels):
    """Which axis of the parameter is the tensor's axis `contracted`: -1, -2, or None where it is neither of them as a whole."""
    parameter = place.parameter
    if parameter.ndim not in (2, 3):
        return None
    for axis in (-1, -2):
        if parameter.shape[axis] == channels and (channels == 1 or place.strides[contracted] == parameter.stride(axis)):
            return axis
    return None


def is_one_matrix(place, weight):
    """Whether all of `weight` [batch, ., .] comes from one matrix; else it is a batch of experts."""
    return place.parameter.ndim == 2 or len(weight) == 1 or place.strides[0] == 0


def first_expert(place):
    return place.offset // place.parameter.stride(0) if place.parameter.ndim == 3 else 0


class NormInputs:
    """Sums of what enters the modules whose `weight` is a vector, or a matrix that stretches the input's last two axes (Cohere's q_norm
    [heads, head_dim]): then its channels are the elements of the weight, row by row.

    sums  {parameter: ActivationSums}
    """

    def __init__(self, model):
        self.sums = {}
        for module in model.modules():
            weight = module._parameters.get("weight")
            if weight is not None and weight.ndim in (1, 2) and not isinstance(module, (torch.nn.Linear, torch.nn.Embedding)):
                module.register_forward_pre_hook(self._add, with_kwargs=True)

    def _add(self, module, args, kwargs):
        weight = module._parameters["weight"]
        x = next(tensors_among([*args, *kwargs.values()]), None)
        if x is not None and isinstance(module, CHANNELS_FIRST):
            x = x.movedim(1, -1)
        if x is None or x.shape[-weight.ndim:] != weight.shape:
            return
        if weight not in self.sums:
            self.sums[weight] = ActivationSums(1, weight.numel(), weight.device)
        x = x.to(weight.device)  # of a model on several devices it moves only inside the module
        self.sums[weight].add(0, x.reshape(1, -1, weight.numel()))
