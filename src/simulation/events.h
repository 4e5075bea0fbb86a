#pragma once
// What ranks do, one operation after another, in simulated time. Ranks compute by themselves; what they read, write and send
// shares the machine's resources: at every moment, all that is under way gets as much as is fair (max-min), and no resource
// gives more than it has. Exchanges are as strict as those on a GPU's stream: one begins when the one before is over.

#include "aimerge/simulation/simulate.h"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <variant>
#include <vector>

namespace aimerge {

/// An amount of a shared resource, in its unit.
struct Demand {
    std::size_t resource = 0;
    double amount = 0;
    TimeUse use = TimeUse::Reading;  // where time goes while this resource is the scarcest
};

/// Takes all of its demands in step.
struct Move {
    std::vector<Demand> demands;
    double leastSeconds = 0;  // when no resource is scarce
    TimeUse use = TimeUse::Reading;
    double latency = 0;  // before it begins
};

struct Compute {
    double seconds = 0;
};

/// Starts sending to a rank and receiving from one; -1: no such message.
struct StartExchange {
    int to = -1, from = -1;
    Move outgoing;
};

/// Until a message of the rank's n-th exchange, from 0, has left or arrived.
struct WaitForMessage {
    std::size_t exchange = 0;
    bool isIncoming = false;
};

/// To rank 0, until it has taken it.
struct Give {
    Move move;
};

/// On rank 0: takes what others are giving now; what they give until all of them have ended.
struct TakeArrived {};
struct TakeRest {};

using Operation = std::variant<Move, Compute, StartExchange, WaitForMessage, Give, TakeArrived, TakeRest>;

class EventSimulation {
public:
    /// @return its number @pre perSecond > 0; infinite: never scarce
    std::size_t addResource(double perSecond);

    /// Once. @return of each rank; all have the same sum, the time until the last one has ended
    /// @param programs of each rank. @pre at least one rank
    /// @throws std::logic_error when ranks wait for each other
    std::vector<TimeUses> run(std::vector<std::vector<Operation>> programs);

private:
    struct Flow {
        Move move;
        double latencyLeft = 0, left = 1;  // of the whole
        double perSecond = 0;              // of the whole, now
        TimeUse scarcest = TimeUse::Reading;
        bool isFixed = false;  // its rate, while rates are allotted
    };
    struct Message {
        int other = -1;
        bool isOver = true;
        std::size_t flow = kNone;
    };
    struct ExchangeState {
        Move move;
        Message outgoing, incoming;
        bool isOver() const { return outgoing.isOver && incoming.isOver; }
    };
    struct Rank {
        std::vector<Operation> program;
        std::size_t next = 0;
        double computesUntil = -1;
        std::size_t flow = kNone;  // that it waits for
        std::vector<ExchangeState> started;
        std::size_t current = 0;  // the first that is not over
        bool isGiving = false;
        int takesFrom = -1;  // of rank 0: whose flow it takes
        TimeUses seconds{};
        bool hasEnded() const { return next == program.size(); }
    };
    static constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

    bool settle();
    bool step(Rank& rank);
    bool begin(Rank& rank, const Move& move);
    bool begin(Rank& rank, const Compute& compute);
    bool begin(Rank& rank, const StartExchange& exchange);
    bool begin(Rank& rank, const WaitForMessage& wait);
    bool begin(Rank& rank, const Give& give);
    bool begin(Rank& rank, const TakeArrived&);
    bool begin(Rank& rank, const TakeRest&);
    bool take(Rank& root);
    bool meet();
    bool endExchanges();
    std::size_t start(const Move& move);
    bool isOver(std::size_t flow) const { return flow != kNone && !flows_[flow]; }
    void allot();
    double untilNext() const;
    void pass(double seconds);
    TimeUse timeUseOf(const Rank& rank) const;

    std::vector<Rank> ranks_;
    std::vector<double> capacities_;
    std::vector<std::optional<Flow>> flows_;  // over: empty
    std::vector<std::size_t> underWay_;       // flows
    bool flowsChanged_ = false;
    double now_ = 0;
};

}  // namespace aimerge
