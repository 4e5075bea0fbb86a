#include "aimerge/experiment/sweep_record.h"

#include "aimerge/core/error.h"
#include "aimerge/core/exclusive_file.h"
#include "aimerge/report/csv.h"
#include "aimerge/report/score_table.h"

#include <fmt/format.h>
#include <sys/file.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <span>
#include <thread>

namespace aimerge {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kJournalName = "journal";

Json toJson(const std::string& point, const PointResult& result) {
    Json scores = Json::array();
    for (const TaskScore& score : result.scores) {
        scores.push_back({{"task", score.task},
                          {"metric", score.metric},
                          {"value", score.value},
                          {"stderr", score.standardError},
                          {"items", score.items}});
        if (!score.outcomes.empty()) scores.back()["outcomes"] = score.outcomes;
    }
    Json line{{"point", point},
              {"key", result.key},
              {"status", pointStatusName(result.status)},
              {"seconds", result.seconds},
              {"error", result.error},
              {"scored_by", result.scoredBy},
              {"scores", std::move(scores)}};
    if (!result.config.empty()) line["config"] = result.config;
    return line;
}

PointResult fromJson(const Json& line) {
    PointResult result;
    result.key = line.at("key").get<std::string>();
    result.status = line.at("status") == "done" ? PointStatus::Done : PointStatus::Failed;
    result.seconds = line.at("seconds").get<double>();
    result.error = line.at("error").get<std::string>();
    result.scoredBy = line.at("scored_by").get<std::string>();
    for (const Json& score : line.at("scores"))
        result.scores.push_back({score.at("task").get<std::string>(), score.at("metric").get<std::string>(),
                                 score.at("value").get<double>(), score.at("stderr").get<double>(),
                                 score.at("items").get<std::size_t>(), score.value("outcomes", "")});
    result.config = line.value("config", "");
    return result;
}

struct Column {
    std::string task;
    bool isPerplexity = false;
};

std::vector<Column> columnsOf(const std::vector<PointResult>& results) {
    std::vector<Column> columns;
    for (const PointResult& result : results)
        for (const TaskScore& score : result.scores)
            if (std::ranges::find(columns, score.task, &Column::task) == columns.end())
                columns.push_back({score.task, score.isPerplexity()});
    return columns;
}

/// 0 to 100, or a perplexity; nullptr when the point has none.
const TaskScore* scoreOf(const PointResult& result, const Column& column) {
    const auto found = std::ranges::find(result.scores, column.task, &TaskScore::task);
    return found == result.scores.end() ? nullptr : &*found;
}

/// Jobs that share a journal write one after the other: an append is a look at the size and a write there.
class WritingTurn {
public:
    explicit WritingTurn(const File& file) : descriptor_(file.descriptor()) {
        if (::flock(descriptor_, LOCK_EX) == 0) return;
        if (!meansNoLocks(errno)) throw RuntimeFault("{}: no lock on it: {}", file.path().string(), std::strerror(errno));
        constexpr auto kBetweenLooks = std::chrono::milliseconds(50);
        while (!turn_.has_value())
            if (auto turn = ExclusiveFile::tryCreate(file.path().string() + ".turn", ""))
                turn_.emplace(std::move(*turn));
            else
                std::this_thread::sleep_for(kBetweenLooks);
    }
    ~WritingTurn() { ::flock(descriptor_, LOCK_UN); }
    WritingTurn(const WritingTurn&) = delete;
    WritingTurn& operator=(const WritingTurn&) = delete;

private:
    int descriptor_;
    std::optional<ExclusiveFile> turn_;  // where the file system has no locks
};

}  // namespace

std::string columnName(const TaskScore& score) {
    return score.task + (score.isPerplexity() ? ":ppl" : "");
}

double shownValue(const TaskScore& score) {
    return score.isPerplexity() ? score.value : 100 * score.value;
}

std::string_view pointStatusName(PointStatus status) {
    switch (status) {
        case PointStatus::Pending:
            return "pending";
        case PointStatus::Done:
            return "done";
        case PointStatus::Failed:
            break;
    }
    return "failed";
}

SweepJournal::SweepJournal(const std::filesystem::path& folder, Use use) : path_(folder / kJournalName) {
    if (use == Use::Write) {
        file_ = File::openForWriting(path_);
        const WritingTurn turn(file_);  // a line without its end is then nobody's who still writes
        const std::string text = readTextFile(path_);
        if (!text.empty() && text.back() != '\n') file_.append("\n");
    }
    refresh();
}

void SweepJournal::refresh() {
    if (!exists(path_)) return;
    const File file = File::openForReading(path_);
    readBytes_ = std::min(readBytes_, file.size());
    std::string text(file.size() - readBytes_, '\0');
    file.readAt(readBytes_, std::as_writable_bytes(std::span(text)));
    for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t end = text.find('\n', begin);
        const std::string line = text.substr(begin, end - begin);
        begin = end == std::string::npos ? text.size() : end + 1;
        const Json parsed = Json::parse(line, nullptr, false);
        if (parsed.is_discarded()) continue;
        try {
            results_[parsed.at("point").get<std::string>()] = fromJson(parsed);
        } catch (const Json::exception&) {
            continue;  // of another version, or torn: the point is done again
        }
    }
    readBytes_ += text.rfind('\n') + 1;  // npos + 1 is 0
}

const PointResult* SweepJournal::find(const std::string& point, const std::string& key) const {
    const auto found = results_.find(point);
    return found == results_.end() || found->second.key != key ? nullptr : &found->second;
}

void SweepJournal::record(const std::string& point, const PointResult& result) {
    {
        const WritingTurn turn(file_);
        file_.append(toJson(point, result).dump() + "\n");
        file_.sync();
    }
    results_[point] = result;
}

std::string pointsCsv(const std::vector<SweepPoint>& points, const std::vector<PointResult>& results) {
    const std::vector<Column> columns = columnsOf(results);
    const std::vector<std::string> gridKeys = gridKeysOf(points);
    std::string text = "model,kind,method,combination,omega,aim,status,seconds,error,scored_by";
    for (const std::string& key : gridKeys) text += fmt::format(",{}{}", kGridColumn, key);
    for (const Column& column : columns)
        text += fmt::format(",{}", csvField(column.task + (column.isPerplexity ? ":ppl" : "")));
    text += "\n";
    for (std::size_t i = 0; i < points.size(); ++i) {
        const SweepPoint& point = points[i];
        const PointResult& result = results[i];
        text +=
            fmt::format("{},{},{},{},{},{},{},{:.3f},{},{}", point.name, pointKindName(point.kind), point.method,
                        point.combination, point.omega ? fmt::format("{}", *point.omega) : "",
                        point.kind == PointKind::Merged ? (point.isRelaxed() ? "yes" : "no") : "",
                        pointStatusName(result.status), result.seconds, csvField(result.error), csvField(result.scoredBy));
        for (const std::string& key : gridKeys) {
            const std::string* const value = point.gridValue(key);
            text += fmt::format(",{}", value ? *value : "");
        }
        for (const Column& column : columns) {
            const TaskScore* score = scoreOf(result, column);
            text += score ? fmt::format(",{}", shownValue(*score)) : ",";
        }
        text += "\n";
    }
    return text;
}

std::string pointsTable(const std::vector<SweepPoint>& points, const std::vector<PointResult>& results) {
    const std::vector<Column> columns = columnsOf(results);
    std::size_t width = 5;
    for (const SweepPoint& point : points) width = std::max(width, point.name.size());
    std::string text = fmt::format("{:<{}}", "point", width);
    for (const Column& column : columns) text += fmt::format(" {:>10}", column.task + (column.isPerplexity ? ":ppl" : ""));
    text += "\n";
    for (std::size_t i = 0; i < points.size(); ++i) {
        text += fmt::format("{:<{}}", points[i].name, width);
        if (results[i].status != PointStatus::Done) text += fmt::format(" {:>10}", pointStatusName(results[i].status));
        for (const Column& column : columns) {
            const TaskScore* score = scoreOf(results[i], column);
            if (score) text += fmt::format(" {:>10.2f}", shownValue(*score));
        }
        text += "\n";
    }
    return text;
}

}  // namespace aimerge
