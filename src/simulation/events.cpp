#include "simulation/events.h"

#include <algorithm>
#include <span>
#include <stdexcept>
#include <utility>

namespace aimerge {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

/// Differences of rounding: what is so near to its end is over, and shares so near to each other are equal.
constexpr double kTiny = 1e-9;

/// Rate of what takes no time.
constexpr double kAtOnce = 1e18;

}  // namespace

std::size_t EventSimulation::addResource(double perSecond) {
    capacities_.push_back(perSecond);
    return capacities_.size() - 1;
}

std::vector<TimeUses> EventSimulation::run(std::vector<std::vector<Operation>> programs) {
    ranks_.resize(programs.size());
    for (std::size_t r = 0; r < programs.size(); ++r) ranks_[r].program = std::move(programs[r]);
    for (;;) {
        while (settle()) continue;
        if (std::ranges::all_of(ranks_, &Rank::hasEnded)) break;
        allot();
        const double seconds = untilNext();
        if (seconds == kNever) throw std::logic_error("simulation: ranks wait for each other");
        pass(seconds);
    }
    std::vector<TimeUses> result;
    for (const Rank& rank : ranks_) result.push_back(rank.seconds);
    return result;
}

/// What happens without time going by. @return whether anything did
bool EventSimulation::settle() {
    bool any = false;
    for (Rank& rank : ranks_)
        while (!rank.hasEnded() && step(rank)) any = true;
    any |= meet();
    any |= endExchanges();
    return any;
}

/// @return whether the rank has got further: it has begun an operation, or ended one
bool EventSimulation::step(Rank& rank) {
    return std::visit([&](const auto& operation) { return begin(rank, operation); }, rank.program[rank.next]);
}

bool EventSimulation::begin(Rank& rank, const Move& move) {
    const bool begins = rank.flow == kNone;
    if (begins) rank.flow = start(move);
    if (!isOver(rank.flow)) return begins;
    rank.flow = kNone;
    ++rank.next;
    return true;
}

bool EventSimulation::begin(Rank& rank, const Compute& compute) {
    const bool begins = rank.computesUntil < 0;
    if (begins) rank.computesUntil = now_ + compute.seconds;
    if (rank.computesUntil > now_) return begins;
    rank.computesUntil = -1;
    ++rank.next;
    return true;
}

bool EventSimulation::begin(Rank& rank, const StartExchange& exchange) {
    rank.started.push_back({exchange.outgoing, {exchange.to, exchange.to < 0}, {exchange.from, exchange.from < 0}});
    ++rank.next;
    return true;
}

bool EventSimulation::begin(Rank& rank, const WaitForMessage& wait) {
    const ExchangeState& exchange = rank.started.at(wait.exchange);
    const Message& message = wait.isIncoming ? exchange.incoming : exchange.outgoing;
    rank.flow = message.isOver ? kNone : message.flow;
    if (!message.isOver) return false;
    ++rank.next;
    return true;
}

/// Rank 0 starts the flow (take()), and both go on when it is over.
bool EventSimulation::begin(Rank& rank, const Give&) {
    const bool begins = !rank.isGiving;
    rank.isGiving = true;
    if (!isOver(rank.flow)) return begins;
    rank.isGiving = false;
    rank.flow = kNone;
    ++rank.next;
    return true;
}

/// Ends what rank 0 was taking, and begins with the next. @return whether anything was done
bool EventSimulation::take(Rank& root) {
    if (root.takesFrom >= 0) {
        if (!isOver(root.flow)) return false;
        root.takesFrom = -1;
        root.flow = kNone;
        return true;
    }
    for (std::size_t r = 1; r < ranks_.size(); ++r) {
        Rank& giver = ranks_[r];
        if (!giver.isGiving || giver.flow != kNone) continue;
        giver.flow = root.flow = start(std::get<Give>(giver.program[giver.next]).move);
        root.takesFrom = static_cast<int>(r);
        return true;
    }
    return false;
}

bool EventSimulation::begin(Rank& root, const TakeArrived&) {
    if (take(root)) return true;
    if (root.takesFrom >= 0) return false;
    ++root.next;
    return true;
}

bool EventSimulation::begin(Rank& root, const TakeRest&) {
    if (take(root)) return true;
    if (root.takesFrom >= 0) return false;
    const auto others = std::span(ranks_).subspan(1);
    if (!std::ranges::all_of(others, &Rank::hasEnded)) return false;
    ++root.next;
    return true;
}

/// Messages whose both sides have come to them begin.
bool EventSimulation::meet() {
    bool any = false;
    for (std::size_t s = 0; s < ranks_.size(); ++s) {
        Rank& sender = ranks_[s];
        if (sender.current == sender.started.size()) continue;
        ExchangeState& sending = sender.started[sender.current];
        if (sending.outgoing.isOver || sending.outgoing.flow != kNone) continue;
        Rank& receiver = ranks_.at(static_cast<std::size_t>(sending.outgoing.other));
        if (receiver.current == receiver.started.size()) continue;
        ExchangeState& receiving = receiver.started[receiver.current];
        if (receiving.incoming.isOver || std::cmp_not_equal(receiving.incoming.other, s)) continue;
        sending.outgoing.flow = receiving.incoming.flow = start(sending.move);
        any = true;
    }
    return any;
}

bool EventSimulation::endExchanges() {
    bool any = false;
    for (Rank& rank : ranks_) {
        if (rank.current == rank.started.size()) continue;
        ExchangeState& exchange = rank.started[rank.current];
        for (Message* message : {&exchange.outgoing, &exchange.incoming})
            if (!message->isOver && isOver(message->flow)) message->isOver = any = true;
        if (!exchange.isOver()) continue;
        ++rank.current;
        any = true;
    }
    return any;
}

std::size_t EventSimulation::start(const Move& move) {
    std::optional<Flow>& flow = flows_.emplace_back(Flow{.move = move, .latencyLeft = move.latency, .scarcest = move.use});
    std::erase_if(flow->move.demands, [](const Demand& demand) { return demand.amount <= 0; });
    underWay_.push_back(flows_.size() - 1);
    flowsChanged_ = true;
    return flows_.size() - 1;
}

/// Max-min: all flows grow alike, in the units of what each needs most of, until a resource is used up or a flow is as fast
/// as it can be; those keep what they have, and the others go on.
void EventSimulation::allot() {
    if (!flowsChanged_) return;
    flowsChanged_ = false;
    std::vector<Flow*> growing;
    for (const std::size_t number : underWay_) {
        Flow& flow = *flows_[number];
        flow.isFixed = false;
        if (flow.latencyLeft <= 0) growing.push_back(&flow);
    }
    const auto weight = [](const Flow& flow) {
        double most = 0;
        for (const Demand& demand : flow.move.demands) most = std::max(most, demand.amount);
        return most > 0 ? 1 / most : 1;
    };
    const auto fastest = [&](const Flow& flow) {
        return flow.move.leastSeconds > 0 ? 1 / flow.move.leastSeconds / weight(flow) : kNever;
    };
    std::vector<double> left = capacities_;
    while (!growing.empty()) {
        std::vector<double> used(left.size(), 0.0);
        for (const Flow* flow : growing)
            for (const Demand& demand : flow->move.demands) used[demand.resource] += demand.amount * weight(*flow);
        const auto shareOf = [&](std::size_t r) { return used[r] > 0 ? std::max(left[r], 0.0) / used[r] : kNever; };
        double share = kNever;
        for (std::size_t r = 0; r < left.size(); ++r) share = std::min(share, shareOf(r));
        for (const Flow* flow : growing) share = std::min(share, fastest(*flow));
        std::vector<bool> isScarce(left.size());
        for (std::size_t r = 0; r < left.size(); ++r) isScarce[r] = shareOf(r) <= share * (1 + kTiny);
        for (Flow* flow : growing) {
            const auto scarce =
                std::ranges::find_if(flow->move.demands, [&](const Demand& demand) { return isScarce[demand.resource]; });
            const bool isLimited = scarce != flow->move.demands.end();
            flow->isFixed = isLimited || fastest(*flow) <= share * (1 + kTiny) || share == kNever;
            if (!flow->isFixed) continue;
            flow->scarcest = isLimited ? scarce->use : flow->move.use;
            flow->perSecond = share == kNever ? kAtOnce : share * weight(*flow);
            for (const Demand& demand : flow->move.demands) left[demand.resource] -= demand.amount * flow->perSecond;
        }
        std::erase_if(growing, [](const Flow* flow) { return flow->isFixed; });
    }
}

double EventSimulation::untilNext() const {
    double seconds = kNever;
    for (const Rank& rank : ranks_)
        if (rank.computesUntil >= 0) seconds = std::min(seconds, rank.computesUntil - now_);
    for (const std::size_t number : underWay_) {
        const Flow& flow = *flows_[number];
        seconds = std::min(seconds, flow.latencyLeft > 0 ? flow.latencyLeft : flow.left / flow.perSecond);
    }
    return seconds;
}

void EventSimulation::pass(double seconds) {
    for (Rank& rank : ranks_) rank.seconds[static_cast<std::size_t>(timeUseOf(rank))] += seconds;
    now_ += seconds;
    for (Rank& rank : ranks_)
        if (rank.computesUntil >= 0 && rank.computesUntil - now_ <= kTiny * now_) rank.computesUntil = now_;
    for (const std::size_t number : underWay_) {
        std::optional<Flow>& flow = flows_[number];
        if (flow->latencyLeft > 0) {
            flow->latencyLeft = flow->latencyLeft - seconds <= kTiny * now_ ? 0 : flow->latencyLeft - seconds;
            flowsChanged_ |= flow->latencyLeft == 0;
            continue;
        }
        flow->left -= flow->perSecond * seconds;
        if (flow->left > kTiny) continue;
        flow.reset();
        flowsChanged_ = true;
    }
    std::erase_if(underWay_, [&](std::size_t number) { return !flows_[number]; });
}

TimeUse EventSimulation::timeUseOf(const Rank& rank) const {
    if (rank.hasEnded()) return TimeUse::Waiting;
    if (rank.computesUntil >= 0) return TimeUse::Computing;
    const Rank& root = ranks_.front();
    if (rank.isGiving && rank.flow == kNone) return root.takesFrom >= 0 ? TimeUse::Gathering : TimeUse::Waiting;
    if (rank.flow == kNone) return TimeUse::Waiting;
    return flows_[rank.flow]->scarcest;
}

}  // namespace aimerge
