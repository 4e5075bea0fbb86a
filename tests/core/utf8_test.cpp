#include "aimerge/core/utf8.h"

#include <gtest/gtest.h>

#include <string>

namespace aimerge {
namespace {

TEST(Utf8, AcceptsWellFormedText) {
    EXPECT_EQ(firstInvalidUtf8(""), std::nullopt);
    EXPECT_EQ(firstInvalidUtf8("plain"), std::nullopt);
    EXPECT_EQ(firstInvalidUtf8("\u00e9 \u20ac \U0001F600 \U0010FFFF"), std::nullopt);
}

TEST(Utf8, FindsTheFirstByteThatIsNone) {
    EXPECT_EQ(firstInvalidUtf8("ab\xff"), 2u);
    EXPECT_EQ(firstInvalidUtf8("a\x80"), 1u);             // continuation without a start
    EXPECT_EQ(firstInvalidUtf8("\xc0\x80"), 0u);          // overlong
    EXPECT_EQ(firstInvalidUtf8("\xe0\x9f\xbf"), 0u);      // overlong
    EXPECT_EQ(firstInvalidUtf8("\xed\xa0\x80"), 0u);      // surrogate
    EXPECT_EQ(firstInvalidUtf8("\xf4\x90\x80\x80"), 0u);  // beyond U+10FFFF
    EXPECT_EQ(firstInvalidUtf8("\xe2\x82"), 0u);          // cut
    EXPECT_EQ(firstInvalidUtf8("\xe2\x82x"), 0u);
}

TEST(Utf8, StripsWhatPythonStrips) {
    EXPECT_EQ(stripWhiteSpace(" \t\n a b \r\n"), "a b");
    EXPECT_EQ(stripWhiteSpace("\u3000\u00a0x\u2009\u0085"), "x");
    EXPECT_EQ(stripWhiteSpace("\x1c\x1f"), "");
    EXPECT_EQ(stripWhiteSpace("\u200bx"), "\u200bx");  // a zero-width space is no white space
    EXPECT_EQ(stripWhiteSpaceLeft(" x "), "x ");
    EXPECT_EQ(stripWhiteSpaceRight(" x "), " x");
}

TEST(Utf8, DropsACharacterThatIsCut) {
    const std::string euro = "a\u20ac";
    EXPECT_EQ(wholeCharacters(euro), euro);
    EXPECT_EQ(wholeCharacters(euro.substr(0, 3)), "a");
    EXPECT_EQ(wholeCharacters(euro.substr(0, 2)), "a");
    EXPECT_EQ(wholeCharacters(""), "");
}

}  // namespace
}  // namespace aimerge
