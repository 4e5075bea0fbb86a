#include "aimerge/report/answer.h"

#include "aimerge/report/ablation.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>

namespace aimerge {
namespace {

using nlohmann::ordered_json;

/// A merge with AIM and the same without, both with an HV gain.
struct Pair {
    std::size_t with = 0, without = 0;
};

std::vector<Pair> pairsOf(const Analysis& analysis) {
    std::vector<Pair> pairs;
    for (std::size_t i = 0; i < analysis.rows.size(); ++i) {
        const RowAnalysis& row = analysis.rows[i];
        if (row.plain && row.gain && analysis.rows[*row.plain].gain) pairs.push_back({i, *row.plain});
    }
    return pairs;
}

AimChange changeOver(const Analysis& analysis, GainErrors& errors, const std::vector<Pair>& pairs) {
    AimChange change;
    change.pairs = pairs.size();
    GainSum sum;
    const double share = 1 / static_cast<double>(pairs.size());
    for (const Pair& pair : pairs) {
        const double with = *analysis.rows[pair.with].gain, without = *analysis.rows[pair.without].gain;
        change.higher += with > without;
        change.lower += with < without;
        change.with += with * share;
        change.without += without * share;
        sum[pair.with] += share;
        sum[pair.without] -= share;
    }
    change.error = errors.of(sum);
    return change;
}

void addBest(const Analysis& analysis, GainErrors& errors, Answer& answer) {
    std::vector<std::size_t> ranked;
    for (std::size_t i = 0; i < analysis.rows.size(); ++i)
        if (analysis.rows[i].gain) ranked.push_back(i);
    answer.merges = ranked.size();
    std::ranges::stable_sort(ranked, std::greater(), [&](std::size_t row) { return *analysis.rows[row].gain; });
    for (const std::size_t row : ranked) {
        if (*analysis.rows[row].gain == *analysis.rows[ranked.front()].gain) {
            answer.best.push_back(row);
        } else {
            answer.next = row;
            answer.leadError = errors.of({{ranked.front(), 1.0}, {row, -1.0}});
            return;
        }
    }
}

void addPairErrors(const Analysis& analysis, GainErrors& errors, const std::vector<Pair>& pairs, Answer& answer) {
    for (const Pair& pair : pairs) {
        const auto error = errors.of({{pair.with, 1.0}, {pair.without, -1.0}});
        if (!error) continue;
        answer.pairErrors.push_back(*error);
        answer.clearPairs += std::abs(*analysis.rows[pair.with].gain - *analysis.rows[pair.without].gain) > 2 * *error;
    }
    std::ranges::sort(answer.pairErrors);
}

/// Items that every scored model has of a benchmark; 0 when one's are not recorded or differ.
std::size_t itemsOf(const ScoreTable& scores, std::size_t benchmark) {
    std::optional<std::size_t> items;
    for (const ScoreRow& row : scores.rows) {
        if (!row.done() || !row.scores[benchmark]) continue;
        if (items.value_or(row.items[benchmark].count) != row.items[benchmark].count) return 0;
        items = row.items[benchmark].count;
    }
    return items.value_or(0);
}

std::vector<ItemCount> itemCounts(const ScoreTable& scores) {
    std::vector<ItemCount> counts;
    for (std::size_t b = 0; b < scores.benchmarks.size(); ++b) {
        if (!scores.counts(b)) continue;
        const std::size_t items = itemsOf(scores, b);
        auto same = std::ranges::find(counts, items, &ItemCount::items);
        if (same == counts.end()) same = counts.insert(counts.end(), {items, {}});
        same->benchmarks.push_back(scores.benchmarks[b].name);
    }
    return counts;
}

std::string listed(const std::vector<std::string>& names) {
    if (names.size() < 2) return names.empty() ? "" : names.front();
    return fmt::format("{} and {}", fmt::join(names.begin(), names.end() - 1, ", "), names.back());
}

std::string counted(std::size_t number, std::string_view what) {
    return fmt::format("{} {}{}", number, what, number == 1 ? "" : "s");
}

/// "ties of code + math with AIM (ω 0.4)"
std::string mergeText(const ScoreRow& row) {
    const std::string omega = row.omega ? fmt::format(" (\u03C9 {:g})", *row.omega) : "";
    return fmt::format("{} of {} {}", row.method, combinationText(row.experts),
                       row.aim ? "with AIM" + omega : "without AIM");
}

/// "60 items each of code and math, 104 of mc"
std::string itemsText(const std::vector<ItemCount>& counts) {
    std::vector<std::string> parts;
    for (const ItemCount& count : counts)
        if (count.items > 0)
            parts.push_back(fmt::format("{}{}{} of {}", count.items, parts.empty() ? " items" : "",
                                        count.benchmarks.size() > 1 ? " each" : "", listed(count.benchmarks)));
    for (const ItemCount& count : counts)
        if (count.items == 0) parts.push_back(fmt::format("an unrecorded number of {}", listed(count.benchmarks)));
    return fmt::format("{}", fmt::join(parts, ", "));
}

/// What stands behind a difference of HV gains.
std::string basisText(const Answer& answer, const ScoreTable& scores, std::optional<double> error) {
    const bool known = std::ranges::any_of(answer.items, [](const ItemCount& count) { return count.items > 0; });
    if (error) return fmt::format("standard error {:.4f}, paired over {}", *error, itemsText(answer.items));
    if (known)
        return fmt::format("over {}; its standard error is not known, because the outcomes of the items are not recorded",
                           itemsText(answer.items));
    return fmt::format("its standard error is not known, because {} does not say how many items the scores rest on",
                       scores.file.filename().string());
}

std::string aimText(const Answer& answer, const ScoreTable& scores) {
    const AimChange& aim = answer.aim;
    if (aim.pairs == 0) return "No merge is here both with AIM and without it.";
    const std::size_t same = aim.pairs - aim.higher - aim.lower;
    return fmt::format(
        "AIM changed HV gain by {:+.4f} on average, from {:.4f} to {:.4f} ({}): of {} of a merge with AIM and the same "
        "without, {} improved, {} got worse{}.",
        aim.change(), aim.without, aim.with, basisText(answer, scores, aim.error), counted(aim.pairs, "pair"), aim.higher,
        aim.lower, same > 0 ? fmt::format(", {} stayed the same", same) : "");
}

}  // namespace

Answer answerOf(const ScoreTable& scores, const Analysis& analysis) {
    Answer answer;
    GainErrors errors(scores, analysis);
    addBest(analysis, errors, answer);
    const std::vector<Pair> pairs = pairsOf(analysis);
    if (!pairs.empty()) answer.aim = changeOver(analysis, errors, pairs);
    addPairErrors(analysis, errors, pairs, answer);
    answer.items = itemCounts(scores);
    return answer;
}

std::vector<std::string> answerText(const Answer& answer, const ScoreTable& scores, const Analysis& analysis) {
    if (answer.best.empty()) return {"No merge has an HV gain.", aimText(answer, scores)};
    constexpr std::size_t kMostNames = 3;
    std::vector<std::string> names;
    for (const std::size_t row : answer.best) names.push_back(mergeText(scores.rows[row]));
    if (names.size() > kMostNames) names = {names.front(), fmt::format("{} others", names.size() - 1)};
    const RowAnalysis& first = analysis.rows[answer.best.front()];
    std::string plain;
    if (answer.best.size() == 1 && first.plain && analysis.rows[*first.plain].gain)
        plain = fmt::format(" (without AIM {:.4f})", *analysis.rows[*first.plain].gain);
    return {fmt::format("Best of {} by HV gain: {}, {:.4f}{}.", counted(answer.merges, "merge"), listed(names), *first.gain,
                        plain),
            aimText(answer, scores)};
}

std::vector<std::string> answerNotes(const Answer& answer, const ScoreTable& scores, const Analysis& analysis) {
    std::vector<std::string> notes;
    if (answer.next)
        notes.push_back(fmt::format(
            "Next is {}, {:.4f}: {:.4f} less{}.", mergeText(scores.rows[*answer.next]), *analysis.rows[*answer.next].gain,
            *analysis.rows[answer.best.front()].gain - *analysis.rows[*answer.next].gain,
            answer.leadError ? fmt::format(", with a standard error of {:.4f}", *answer.leadError) : ""));
    const std::vector<double>& errors = answer.pairErrors;
    if (!errors.empty())
        notes.push_back(
            fmt::format("The change of a single pair has a standard error of {:.4f} (median; at most {:.4f}): {} of {} "
                        "changes are larger than two of theirs.",
                        errors[errors.size() / 2], errors.back(), answer.clearPairs, errors.size()));
    return notes;
}

ordered_json answerJson(const Answer& answer, const ScoreTable& scores, const Analysis& analysis) {
    const auto orNull = [](std::optional<double> value) { return value ? ordered_json(*value) : ordered_json(); };
    const auto merge = [&](std::size_t row) {
        return ordered_json{{"model", scores.rows[row].model}, {"hv_gain", *analysis.rows[row].gain}};
    };
    ordered_json best = ordered_json::array(), next, aim, items = ordered_json::object();
    for (const std::size_t row : answer.best) best.push_back(merge(row));
    if (answer.next) {
        next = merge(*answer.next);
        next["difference_stderr"] = orNull(answer.leadError);
    }
    if (answer.aim.pairs > 0)
        aim = {{"pairs", answer.aim.pairs},
               {"improved", answer.aim.higher},
               {"worse", answer.aim.lower},
               {"mean_hv_gain_without", answer.aim.without},
               {"mean_hv_gain_with", answer.aim.with},
               {"mean_change", answer.aim.change()},
               {"mean_change_stderr", orNull(answer.aim.error)}};
    for (const ItemCount& count : answer.items)
        for (const std::string& benchmark : count.benchmarks)
            items[benchmark] = count.items > 0 ? ordered_json(count.items) : ordered_json();
    return {{"best", best}, {"next", next}, {"aim", aim}, {"items", items}};
}

ReportTable aimTable(const ScoreTable& scores, const Analysis& analysis) {
    ReportTable table{
        "aim",
        "What AIM changed",
        "Mean HV gains over pairs of a merge with AIM and the same without. Standard errors: bootstrap over the benchmarks' "
        "items, drawn alike for all models; a dash where their outcomes are not recorded.",
        "",
        "",
        "",
        {{"pairs of", "pairs_of", "", false, false},
         {"pairs", "pairs", "", true, false},
         {"without AIM", "without_aim", "", true, false},
         {"with AIM", "with_aim", "", true, false},
         {"change", "change", "", true, false},
         {"standard error", "standard_error", "", true, true},
         {"improved", "improved", "", true, false},
         {"worse", "worse", "", true, true}},
        {}};
    const std::vector<Pair> pairs = pairsOf(analysis);
    GainErrors errors(scores, analysis);
    const auto add = [&](const std::string& name, const std::vector<Pair>& some, bool startsPart) {
        const AimChange change = changeOver(analysis, errors, some);
        const auto count = [](std::size_t number) { return numberCell(static_cast<double>(number), 0); };
        ReportCell difference = numberCell(change.change(), 4);
        difference.text = fmt::format("{:+.4f}", change.change());
        table.rows.push_back(
            {{textCell(name), count(change.pairs), numberCell(change.without, 4), numberCell(change.with, 4), difference,
              numberCell(change.error, 4), count(change.higher), count(change.lower)},
             startsPart});
    };
    const auto addBy = [&](auto&& nameOf) {
        std::vector<std::pair<std::string, std::vector<Pair>>> parts;
        for (const Pair& pair : pairs) {
            const std::string name = nameOf(pair.with);
            auto part = std::ranges::find(parts, name, &std::pair<std::string, std::vector<Pair>>::first);
            if (part == parts.end()) part = parts.insert(parts.end(), {name, {}});
            part->second.push_back(pair);
        }
        if (parts.size() < 2) return;
        for (const auto& [name, some] : parts) add(name, some, name == parts.front().first);
    };
    if (!pairs.empty()) add("all", pairs, true);
    const std::vector<std::string> combinations = combinationNames(scores);
    addBy([&](std::size_t row) {
        const std::optional<double>& omega = scores.rows[row].omega;
        return omega ? fmt::format("\u03C9 = {:g}", *omega) : "\u03C9 not given";
    });
    addBy([&](std::size_t row) { return scores.rows[row].method; });
    addBy([&](std::size_t row) { return combinations[row]; });
    return table;
}

}  // namespace aimerge
