#include "pytorch/pickle_machine.h"

#include "aimerge/core/in_quotes.h"
#include "aimerge/core/utf8.h"
#include "aimerge/pytorch/torch_file.h"

#include <algorithm>
#include <array>
#include <optional>
#include <type_traits>

namespace aimerge {
namespace {

/// What is made of a pickle takes some 100 bytes for each of its values. A tensor takes 30 of them.
constexpr std::uint64_t kMaxValues = 4'000'000;

/// Storages are numbered; no text of any length is looked up for each tensor.
constexpr std::size_t kLongestKey = 64;

constexpr std::string_view kList = "a list";

constexpr KnownClass kKnownClasses[] = {{"collections", "OrderedDict", ClassKind::OrderedDict},
                                        {"torch._utils", "_rebuild_tensor_v2", ClassKind::Tensor},
                                        {"torch._utils", "_rebuild_parameter", ClassKind::Parameter},
                                        {"torch", "BFloat16Storage", ClassKind::Storage, Dtype::BF16},
                                        {"torch", "HalfStorage", ClassKind::Storage, Dtype::F16},
                                        {"torch", "FloatStorage", ClassKind::Storage, Dtype::F32},
                                        {"torch", "DoubleStorage", ClassKind::Storage, Dtype::F64},
                                        {"torch", "LongStorage", ClassKind::Storage, Dtype::I64},
                                        {"torch", "IntStorage", ClassKind::Storage, Dtype::I32},
                                        {"torch", "ShortStorage", ClassKind::Storage, Dtype::I16},
                                        {"torch", "CharStorage", ClassKind::Storage, Dtype::I8},
                                        {"torch", "ByteStorage", ClassKind::Storage, Dtype::U8},
                                        {"torch", "BoolStorage", ClassKind::Storage, Dtype::Bool}};

}  // namespace

std::string_view kindOf(const Value& value) {
    constexpr std::array<std::string_view, std::variant_size_v<Value>> kKinds = {
        "a mark",  "None",   "a truth value", "a number", "a text", "",
        "a tuple", "a dict", "a storage",     "a tensor", "a class"};
    const auto* other = std::get_if<OtherValue>(&value);
    return other != nullptr ? other->kind : kKinds[value.index()];
}

// ---- reading

std::string_view PickleMachine::take(std::uint64_t bytes) {
    if (bytes > pickle_.size() - position_)
        fail("needs {} bytes more, but the pickle ends after {}; the file is damaged", bytes, pickle_.size() - position_);
    const std::string_view taken = pickle_.substr(position_, bytes);
    position_ += bytes;
    return taken;
}

std::uint64_t PickleMachine::number(std::size_t bytes) {
    const std::string_view text = take(bytes);
    std::uint64_t number = 0;
    for (std::size_t i = 0; i < bytes; ++i) number |= std::uint64_t{static_cast<unsigned char>(text[i])} << (8 * i);
    return number;
}

std::string_view PickleMachine::line() {
    const std::size_t end = pickle_.find('\n', position_);
    if (end == std::string_view::npos) fail("begins a line that does not end; the file is damaged");
    const std::string_view line = take(end - position_);
    take(1);
    return line;
}

std::string_view PickleMachine::text(std::uint64_t bytes) {
    const std::string_view text = take(bytes);
    if (firstInvalidUtf8(text)) fail("has the text {}, which is not valid UTF-8", inQuotes(text));
    return text;
}

/// Little-endian, with a sign.
std::int64_t PickleMachine::longNumber() {
    const std::uint64_t bytes = number(1);
    if (bytes > sizeof(std::int64_t)) fail("has a number of {} bytes, expected at most 8", bytes);
    if (bytes == 0) return 0;
    const std::uint64_t value = number(bytes) << (64 - 8 * bytes);
    return static_cast<std::int64_t>(value) >> (64 - 8 * bytes);
}

// ---- the stack

void PickleMachine::count(std::size_t values) {
    values_ += values;
    if (values_ > kMaxValues) fail("makes more than {} values, expected no more in a state dict", kMaxValues);
}

void PickleMachine::push(Value value) {
    count(1);
    stack_.push_back(value);
}

Value PickleMachine::pop() {
    if (stack_.empty() || std::holds_alternative<Mark>(stack_.back())) fail("takes a value where there is none");
    const Value value = stack_.back();
    stack_.pop_back();
    return value;
}

std::size_t PickleMachine::removeMark() {
    for (std::size_t count = 0; count < stack_.size(); ++count) {
        if (!std::holds_alternative<Mark>(stack_[stack_.size() - 1 - count])) continue;
        stack_.erase(stack_.end() - static_cast<std::ptrdiff_t>(count) - 1);
        return count;
    }
    fail("goes back to a mark where there is none");
}

template <typename Kind>
Kind PickleMachine::as(const Value& value, std::string_view what) const {
    if (const Kind* found = std::get_if<Kind>(&value)) return *found;
    fail("has {} for {}, expected {}", kindOf(value), what, kindOf(Value(Kind{})));
}

// ---- running

Value PickleMachine::run() {
    if (take(1)[0] != static_cast<char>(Opcode::Proto)) fail("is not the opcode PROTO that a pickle begins with");
    if (const std::uint64_t protocol = number(1); protocol < 2 || protocol > 5)
        fail("says protocol {}, expected 2 to 5", protocol);
    while (true) {
        opcodeBegin_ = position_;
        const auto opcode = static_cast<Opcode>(take(1)[0]);
        if (opcode == Opcode::Stop) break;
        step(opcode);
    }
    const Value result = pop();
    if (!stack_.empty()) fail("is the end, but {} values are left over", stack_.size());
    if (position_ != pickle_.size()) fail("is the end, but {} bytes follow", pickle_.size() - position_);
    return result;
}

void PickleMachine::step(Opcode opcode) {
    if (pushLiteral(opcode) || collect(opcode)) return;
    switch (opcode) {
        case Opcode::Frame:  // says how many bytes belong together in a stream, which this is not
            return void(number(8));
        case Opcode::BinPut:
            return remember(number(1));
        case Opcode::LongBinPut:
            return remember(number(4));
        case Opcode::Memoize:
            return remember(memo_.size());
        case Opcode::BinGet:
            return recall(number(1));
        case Opcode::LongBinGet:
            return recall(number(4));
        case Opcode::Global: {
            const std::string_view module = line(), name = line();
            return pushClass(module, name);
        }
        case Opcode::StackGlobal: {
            const Value name = pop(), module = pop();
            return pushClass(as<std::string_view>(module, "a module"), as<std::string_view>(name, "a class"));
        }
        case Opcode::BinPersId:
            return makeStorage();
        case Opcode::Reduce:
            return reduce();
        case Opcode::Build:
            return build();
        default:
            fail(
                "is the opcode {}, which no state dict needs; nothing of the file is run. Use it only if you know who made "
                "it",
                nameOf(opcode));
    }
}

bool PickleMachine::pushLiteral(Opcode opcode) {
    switch (opcode) {
        case Opcode::Mark:
            return push(Mark{}), true;
        case Opcode::None:
            return push(NoneValue{}), true;
        case Opcode::NewTrue:
            return push(true), true;
        case Opcode::NewFalse:
            return push(false), true;
        case Opcode::BinInt1:
            return push(static_cast<std::int64_t>(number(1))), true;
        case Opcode::BinInt2:
            return push(static_cast<std::int64_t>(number(2))), true;
        case Opcode::BinInt:
            return push(std::int64_t{static_cast<std::int32_t>(number(4))}), true;
        case Opcode::Long1:
            return push(longNumber()), true;
        case Opcode::BinFloat:
            take(8);
            return push(OtherValue{"a number with a point"}), true;
        case Opcode::BinUnicode:
            return push(text(number(4))), true;
        case Opcode::ShortBinUnicode:
            return push(text(number(1))), true;
        default:
            return false;
    }
}

/// Tuples, lists and dicts from what is on the stack.
bool PickleMachine::collect(Opcode opcode) {
    switch (opcode) {
        case Opcode::EmptyTuple:
            return makeTuple(0), true;
        case Opcode::Tuple1:
            return makeTuple(1), true;
        case Opcode::Tuple2:
            return makeTuple(2), true;
        case Opcode::Tuple3:
            return makeTuple(3), true;
        case Opcode::Tuple:
            return makeTuple(removeMark()), true;
        case Opcode::EmptyList:
            return push(OtherValue{kList}), true;
        case Opcode::Append:
            return append(1), true;
        case Opcode::Appends:
            return append(removeMark()), true;
        case Opcode::EmptyDict:
            dicts_.emplace_back();
            return push(DictValue{dicts_.size() - 1}), true;
        case Opcode::SetItem:
            return setItems(2), true;
        case Opcode::SetItems:
            return setItems(removeMark()), true;
        default:
            return false;
    }
}

void PickleMachine::makeTuple(std::size_t count) {
    const std::size_t first = items_.size();
    for (std::size_t i = 0; i < count; ++i) items_.push_back(pop());
    std::reverse(items_.begin() + static_cast<std::ptrdiff_t>(first), items_.end());
    push(TupleValue{first, count});
}

/// Picklers number what they remember from 0 on.
void PickleMachine::remember(std::size_t place) {
    if (place > memo_.size()) fail("remembers value {} before value {}", place, memo_.size());
    const Value value = pop();
    stack_.push_back(value);
    if (place == memo_.size())
        memo_.push_back(value);
    else
        memo_[place] = value;
}

void PickleMachine::recall(std::size_t place) {
    if (place >= memo_.size()) fail("recalls value {}, but {} are remembered", place, memo_.size());
    push(memo_[place]);
}

/// What a list holds does not matter: no tensor may be in one.
void PickleMachine::append(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) pop();
    if (stack_.empty() || kindOf(stack_.back()) != kList) fail("appends to what is no list");
}

void PickleMachine::setItems(std::size_t count) {
    if (count % 2 != 0) fail("sets entries of a dict, but has a key without a value");
    if (count >= stack_.size()) fail("takes a value where there is none");
    const std::size_t first = stack_.size() - count;
    Dict& dict = dicts_[as<DictValue>(stack_[first - 1], "what entries are set in").index];
    for (std::size_t i = first; i < stack_.size(); i += 2) {
        if (std::holds_alternative<Mark>(stack_[i]) || std::holds_alternative<Mark>(stack_[i + 1]))
            fail("takes a value where there is none");
        dict.entries.emplace_back(stack_[i], stack_[i + 1]);
    }
    stack_.resize(first);
}

/// torch keeps the versions of modules as an attribute of the OrderedDict.
void PickleMachine::build() {
    const Value state = pop(), object = pop();
    stack_.push_back(object);
    const auto* ordered = std::get_if<DictValue>(&object);
    if (ordered == nullptr || !dict(*ordered).isOrdered)
        fail("is the opcode BUILD for {}, expected it for an OrderedDict alone", kindOf(object));
    const Dict& attributes = dict(as<DictValue>(state, "the attributes of an OrderedDict"));
    if (attributes.entries.size() != 1)
        fail("is the opcode BUILD with {} attributes, expected _metadata alone", attributes.entries.size());
    const auto name = as<std::string_view>(attributes.entries[0].first, "the name of an attribute");
    if (name != "_metadata") fail("is the opcode BUILD with the attribute {}, expected _metadata alone", inQuotes(name));
}

void PickleMachine::reduce() {
    const auto arguments = as<TupleValue>(pop(), "the arguments of a class");
    const KnownClass* known = as<const KnownClass*>(pop(), "what is called");
    switch (known->kind) {
        case ClassKind::OrderedDict:
            if (arguments.count != 0) fail("gives an OrderedDict {} arguments, expected none", arguments.count);
            dicts_.push_back({true, {}});
            return push(DictValue{dicts_.size() - 1});
        case ClassKind::Tensor:
            return makeTensor(itemsOf(arguments));
        case ClassKind::Parameter:
            return makeParameter(itemsOf(arguments));
        case ClassKind::Storage:
            fail("calls {}.{}, expected it in a storage alone", known->module, known->name);
    }
}

/// ("storage", class, key, device, elements)
void PickleMachine::makeStorage() {
    const std::span<const Value> parts = itemsOf(as<TupleValue>(pop(), "a storage"));
    if (parts.size() != 5) fail("describes a storage by {} values, expected 5", parts.size());
    if (as<std::string_view>(parts[0], "the kind of a storage") != "storage")
        fail("refers to {}, expected \"storage\"", inQuotes(std::get<std::string_view>(parts[0])));
    const KnownClass* known = as<const KnownClass*>(parts[1], "the class of a storage");
    if (known->kind != ClassKind::Storage) fail("has {}.{} for the class of a storage", known->module, known->name);
    const auto key = as<std::string_view>(parts[2], "the number of a storage");
    if (key.size() > kLongestKey) fail("has {} for the number of a storage", inQuotes(key));
    as<std::string_view>(parts[3], "the device of a storage");
    const auto elements = as<std::int64_t>(parts[4], "the elements of a storage");
    if (elements < 0) fail("gives storage {} {} elements", inQuotes(key), elements);
    const auto [place, isNew] = storageOf_.emplace(key, storages_.size());
    if (isNew) storages_.push_back({std::string(key), known->dtype, static_cast<std::uint64_t>(elements)});
    const PickledStorage& storage = storages_[place->second];
    if (storage.dtype != known->dtype || storage.elements != static_cast<std::uint64_t>(elements))
        fail("gives storage {} {} elements of {}, but before {} of {}", inQuotes(key), elements, torchName(known->dtype),
             storage.elements, torchName(storage.dtype));
    push(StorageValue{place->second});
}

std::vector<std::int64_t> PickleMachine::sizes(const Value& value, std::string_view what) {
    const std::span<const Value> items = itemsOf(as<TupleValue>(value, what));
    if (items.size() > kMaxDimensions)
        fail("gives {} of {} dimensions, at most {} are allowed", what, items.size(), kMaxDimensions);
    count(items.size());
    std::vector<std::int64_t> sizes;
    for (const Value& item : items) {
        sizes.push_back(as<std::int64_t>(item, what));
        if (sizes.back() < 0) fail("has {} in {}, expected numbers of at least 0", sizes.back(), what);
    }
    return sizes;
}

/// (storage, first element, shape, strides, requires_grad, hooks), and metadata that change what the bytes mean
void PickleMachine::makeTensor(std::span<const Value> arguments) {
    if (arguments.size() != 6 && arguments.size() != 7)
        fail("makes a tensor of {} values, expected 6 or 7", arguments.size());
    TensorArguments tensor{as<StorageValue>(arguments[0], "the storage of a tensor").index,
                           as<std::int64_t>(arguments[1], "the first element of a tensor"),
                           sizes(arguments[2], "the shape of a tensor"), sizes(arguments[3], "the strides of a tensor")};
    if (tensor.firstElement < 0) fail("has a tensor that begins at element {} of its storage", tensor.firstElement);
    if (tensor.shape.size() != tensor.strides.size())
        fail("gives a tensor of {} dimensions {} strides", tensor.shape.size(), tensor.strides.size());
    as<bool>(arguments[4], "requires_grad");
    as<DictValue>(arguments[5], "the hooks of a tensor");
    if (arguments.size() == 7 && !std::holds_alternative<NoneValue>(arguments[6]) &&
        !dict(as<DictValue>(arguments[6], "the metadata of a tensor")).entries.empty())
        fail("has a tensor with metadata (negated or conjugate values); convert the file: {}", conversionCommand(fileName_));
    tensors_.push_back(std::move(tensor));
    push(TensorValue{tensors_.size() - 1});
}

/// (tensor, requires_grad, hooks)
void PickleMachine::makeParameter(std::span<const Value> arguments) {
    if (arguments.size() != 3) fail("makes a parameter of {} values, expected 3", arguments.size());
    const auto tensor = as<TensorValue>(arguments[0], "a parameter");
    as<bool>(arguments[1], "requires_grad");
    as<DictValue>(arguments[2], "the hooks of a parameter");
    push(tensor);
}

void PickleMachine::pushClass(std::string_view module, std::string_view name) {
    const auto* known = std::ranges::find_if(
        kKnownClasses, [&](const KnownClass& known) { return known.module == module && known.name == name; });
    if (known != std::end(kKnownClasses)) return push(known);
    const std::string full = inQuotes(fmt::format("{}.{}", module.substr(0, 200), name.substr(0, 200)));
    if (module == "torch" || module.starts_with("torch."))
        fail("names {}, which is not understood here; convert the file: {}", full, conversionCommand(fileName_));
    fail("names {}, which no state dict needs; nothing of the file is run. Use it only if you know who made it", full);
}

}  // namespace aimerge
