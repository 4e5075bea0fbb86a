#include "merge/combine/whole_change.h"

namespace aimerge {
namespace {

class WholeChange : public WalkedParameter<WholeChange> {
public:
    WholeChange(Addition addition, const ResolvedParameters& values) : addition_(addition, values) {}

    template <typename Tile>
    void walk(std::int64_t /*first*/, const Tile& tile) const {
        addition_.walk<KeepAll>([](auto count) { return KeepAll<decltype(count)::value>{}; }, tile);
    }

private:
    TaskVectorAddition addition_;
};

}  // namespace

std::unique_ptr<PreparedParameter> wholeChange(Addition addition, const ResolvedParameters& values) {
    return std::make_unique<WholeChange>(addition, values);
}

}  // namespace aimerge
