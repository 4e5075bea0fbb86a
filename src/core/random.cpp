#include "aimerge/core/random.h"

#include <numeric>
#include <utility>

namespace aimerge {
namespace {

/// Uniform whole numbers below a bound, taken one after the other from a stream.
class BoundedDraws {
public:
    explicit BoundedDraws(RandomStream stream) : stream_(stream) {}

    /// @pre bound >= 1
    std::uint64_t below(std::uint64_t bound) {
        // 2^64 is no multiple of the bound: the first 2^64 mod bound draws would favour small remainders and are rejected.
        const std::uint64_t surplus = (~bound + 1) % bound;
        while (true) {
            const PhiloxBlock block = stream_.block(nextBlock_++);
            const std::uint64_t draw = (std::uint64_t{block.word[1]} << 32) | block.word[0];
            if (draw >= surplus) return draw % bound;
        }
    }

private:
    RandomStream stream_;
    std::uint64_t nextBlock_ = 0;
};

}  // namespace

std::vector<std::size_t> seededPermutation(std::size_t count, std::uint64_t seed) {
    std::vector<std::size_t> order(count);
    std::iota(order.begin(), order.end(), std::size_t{0});
    BoundedDraws draws({.seed = seed, .stream = 0});
    for (std::size_t last = count; last > 1; --last) std::swap(order[last - 1], order[draws.below(last)]);
    return order;
}

}  // namespace aimerge
