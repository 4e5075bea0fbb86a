#include "aimerge/report/csv.h"

#include "aimerge/core/error.h"

#include <gmock/gmock.h>

using namespace aimerge;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

namespace {

std::vector<std::vector<std::string>> fieldsOf(std::string_view text) {
    std::vector<std::vector<std::string>> fields;
    for (const CsvRecord& record : parseCsv(text, "s.csv")) fields.push_back(record.fields);
    return fields;
}

TEST(Csv, QuotedFieldsHoldCommasQuotesAndLineBreaks) {
    EXPECT_THAT(fieldsOf("a,\"b,c\",\"say \"\"so\"\"\"\n\"two\nlines\",,x\n"),
                ElementsAre(ElementsAre("a", "b,c", "say \"so\""), ElementsAre("two\nlines", "", "x")));
}

TEST(Csv, LineEndsMayBeCrlfAndTheLastMayBeMissing) {
    EXPECT_THAT(fieldsOf("a,b\r\n\"c\",d\r\n\r\ne,f"),
                ElementsAre(ElementsAre("a", "b"), ElementsAre("c", "d"), ElementsAre("e", "f")));
}

TEST(Csv, ByteOrderMarkIsSkipped) {
    EXPECT_THAT(fieldsOf("\xEF\xBB\xBFmodel\n\"x\""), ElementsAre(ElementsAre("model"), ElementsAre("x")));
}

TEST(Csv, AnEmptyLastFieldIsAField) {
    EXPECT_THAT(fieldsOf("a,\n,"), ElementsAre(ElementsAre("a", ""), ElementsAre("", "")));
}

TEST(Csv, LinesAreCountedThroughQuotedLineBreaks) {
    const auto records = parseCsv("a\n\"b\nb\"\n\nc\n", "s.csv");

    EXPECT_EQ(records[1].line, 2u);
    EXPECT_EQ(records[2].line, 5u);
}

TEST(Csv, BadQuotesAreErrorsWithTheirLine) {
    EXPECT_THAT([] { parseCsv("a\n\"b\nc", "s.csv"); },
                ThrowsMessage<InputError>(HasSubstr("s.csv: line 2: a quoted field")));
    EXPECT_THAT([] { parseCsv("a\nb\"c\n", "s.csv"); }, ThrowsMessage<InputError>(HasSubstr("s.csv: line 2: a quote in")));
    EXPECT_THAT([] { parseCsv("\"a\"b\n", "s.csv"); }, ThrowsMessage<InputError>(HasSubstr("s.csv: line 1: text after")));
}

TEST(Csv, WrittenFieldsAreReadBack) {
    for (const std::string value : {"plain", "a,b", "\"", "line\nbreak", ""}) {
        const std::string line = csvField(value) + "," + csvField("x") + "\n";
        EXPECT_THAT(fieldsOf(line), ElementsAre(ElementsAre(value, "x")));
    }
}

}  // namespace
