#include "pytorch/state_dict.h"

#include "aimerge/core/error.h"
#include "aimerge/core/in_quotes.h"
#include "aimerge/pytorch/torch_file.h"
#include "pytorch/pickle_machine.h"

#include <algorithm>
#include <unordered_set>

namespace aimerge {
namespace {

/// Numbers are counted, and the first few entries that are no tensors named.
[[noreturn]] void throwNoTensors(const Dict& dict, const std::string& fileName) {
    constexpr std::size_t kNamed = 6;
    std::vector<std::string> found;
    for (const auto& [key, value] : dict.entries) {
        const auto* name = std::get_if<std::string_view>(&key);
        if (name != nullptr && std::holds_alternative<TensorValue>(value)) continue;
        if (found.size() == kNamed) {
            found.push_back("...");
            break;
        }
        found.push_back(fmt::format("{} ({})", name != nullptr ? inQuotes(*name) : std::string(kindOf(key)), kindOf(value)));
    }
    throw InputError(
        "{}: its dict has {}, expected tensors by name and nothing else, as save_pretrained writes them; save the inner "
        "dict "
        "of tensors by itself",
        fileName, fmt::join(found, ", "));
}

/// As torch has it: the strides of single rows, and of tensors without elements, do not count.
bool isContiguous(const TensorArguments& tensor) {
    if (std::ranges::count(tensor.shape, 0) > 0) return true;
    std::int64_t expected = 1;
    for (std::size_t i = tensor.shape.size(); i-- > 0;) {
        if (tensor.shape[i] == 1) continue;
        if (tensor.strides[i] != expected) return false;
        expected *= tensor.shape[i];
    }
    return true;
}

/// Zeros are left out of the product, so that products of some of the dimensions are safe, too.
bool overflows(const Shape& shape) {
    std::int64_t product = 1;
    return std::ranges::any_of(shape, [&](std::int64_t dimension) {
        return dimension != 0 && __builtin_mul_overflow(product, dimension, &product);
    });
}

PickledTensor named(std::string_view name, const TensorArguments& tensor, const std::string& fileName) {
    if (overflows(tensor.shape))
        throw InputError("{}: tensor {} has a shape of more than 2^63-1 elements", fileName, inQuotes(name));
    if (!isContiguous(tensor))
        throw InputError(
            "{}: tensor {} of shape {} has strides {}, expected the elements one after another; convert the file: {}",
            fileName, inQuotes(name), shapeText(tensor.shape), shapeText(tensor.strides), conversionCommand(fileName));
    return {std::string(name), tensor.storage, static_cast<std::uint64_t>(tensor.firstElement), tensor.shape};
}

}  // namespace

StateDict readStateDict(std::string_view pickle, const std::string& fileName) {
    PickleMachine machine(pickle, fileName);
    const Value root = machine.run();
    const auto* value = std::get_if<DictValue>(&root);
    if (value == nullptr) throw InputError("{}: holds {}, expected a dict of tensors by name", fileName, kindOf(root));
    const Dict& dict = machine.dict(*value);
    StateDict result;
    std::unordered_set<std::string_view> names;
    for (const auto& [key, entry] : dict.entries) {
        const auto* name = std::get_if<std::string_view>(&key);
        const auto* tensor = std::get_if<TensorValue>(&entry);
        if (name == nullptr || tensor == nullptr) throwNoTensors(dict, fileName);
        if (!names.insert(*name).second) throw InputError("{}: tensor {} is set twice", fileName, inQuotes(*name));
        result.tensors.push_back(named(*name, machine.tensor(*tensor), fileName));
    }
    result.storages = machine.takeStorages();
    return result;
}

}  // namespace aimerge
