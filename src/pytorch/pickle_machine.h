#pragma once
// Runs a pickle on a machine that has no way to the outside: values are the kinds below, the only classes are those of
// kKnownClasses, and making one of them means to write down its arguments.

#include "aimerge/core/dtype.h"
#include "aimerge/core/error.h"
#include "aimerge/safetensors/safetensors.h"
#include "pytorch/opcode.h"
#include "pytorch/state_dict.h"

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace aimerge {

enum class ClassKind { OrderedDict, Tensor, Parameter, Storage };

struct KnownClass {
    std::string_view module, name;
    ClassKind kind;
    Dtype dtype = Dtype::F32;  // of a storage
};

struct Mark {};
struct NoneValue {};
struct OtherValue {  // of which it matters only that it is there
    std::string_view kind;
};
struct TupleValue {
    std::size_t first = 0, count = 0;  // in PickleMachine::items
};
struct DictValue {
    std::size_t index = 0;  // in PickleMachine::dicts
};
struct StorageValue {
    std::size_t index = 0;
};
struct TensorValue {
    std::size_t index = 0;
};
using Value = std::variant<Mark, NoneValue, bool, std::int64_t, std::string_view, OtherValue, TupleValue, DictValue,
                           StorageValue, TensorValue, const KnownClass*>;

/// "a number", "a dict": what a value is, for messages.
std::string_view kindOf(const Value& value);

struct Dict {
    bool isOrdered = false;  // an OrderedDict
    std::vector<std::pair<Value, Value>> entries;
};

/// The arguments of torch._utils._rebuild_tensor_v2.
struct TensorArguments {
    std::size_t storage = 0;
    std::int64_t firstElement = 0;
    std::vector<std::int64_t> shape, strides;  // of equal length, not negative
};

class PickleMachine {
public:
    PickleMachine(std::string_view pickle, std::string fileName) : pickle_(pickle), fileName_(std::move(fileName)) {}

    /// What the pickle leaves behind. @throws InputError
    Value run();

    const Dict& dict(DictValue value) const { return dicts_[value.index]; }
    const TensorArguments& tensor(TensorValue value) const { return tensors_[value.index]; }
    std::vector<PickledStorage> takeStorages() { return std::move(storages_); }

private:
    template <typename... Args>
    [[noreturn]] void fail(fmt::format_string<Args...> text, Args&&... args) const {
        throw InputError("{}: byte {} of data.pkl {}", fileName_, opcodeBegin_,
                         fmt::format(text, std::forward<Args>(args)...));
    }

    void step(Opcode opcode);
    bool pushLiteral(Opcode opcode);  // false: it is none of these
    bool collect(Opcode opcode);
    void makeTuple(std::size_t count);
    void remember(std::size_t place);
    void recall(std::size_t place);
    void append(std::size_t count);
    void setItems(std::size_t count);
    void build();
    void reduce();
    void makeStorage();
    void makeTensor(std::span<const Value> arguments);
    void makeParameter(std::span<const Value> arguments);
    void pushClass(std::string_view module, std::string_view name);

    std::string_view take(std::uint64_t bytes);
    std::uint64_t number(std::size_t bytes);
    std::string_view line();
    std::string_view text(std::uint64_t bytes);
    std::int64_t longNumber();

    void count(std::size_t values);
    void push(Value value);
    Value pop();
    std::size_t removeMark();  // @return how many values are above it
    template <typename Kind>
    Kind as(const Value& value, std::string_view what) const;
    std::span<const Value> itemsOf(TupleValue tuple) const { return std::span(items_).subspan(tuple.first, tuple.count); }
    std::vector<std::int64_t> sizes(const Value& value, std::string_view what);

    std::string_view pickle_;
    std::string fileName_;
    std::size_t position_ = 0, opcodeBegin_ = 0;
    std::uint64_t values_ = 0;  // that were ever made
    std::vector<Value> stack_, items_, memo_;
    std::vector<Dict> dicts_;
    std::vector<TensorArguments> tensors_;
    std::vector<PickledStorage> storages_;
    std::map<std::string_view, std::size_t> storageOf_;  // by key
};

}  // namespace aimerge
