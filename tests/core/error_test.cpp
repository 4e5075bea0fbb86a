#include "aimerge/core/error.h"

#include <gtest/gtest.h>

namespace aimerge {
namespace {

TEST(Error, CarriesItsMessageAndTheExitCodeOfItsType) {
    const UsageError usage("{}: bad", "merge.yaml");

    EXPECT_STREQ(usage.what(), "merge.yaml: bad");
    EXPECT_EQ(static_cast<int>(usage.exitCode()), 2);
    EXPECT_EQ(static_cast<int>(InputError("x").exitCode()), 3);
    EXPECT_EQ(static_cast<int>(RuntimeFault("x").exitCode()), 4);
    EXPECT_EQ(static_cast<int>(DamageFound("x").exitCode()), 6);
    EXPECT_EQ(static_cast<int>(Interrupted("x").exitCode()), 75);
}

TEST(Error, HasAMessageOfOneLine) {
    EXPECT_STREQ(InputError("tensor {}", "a\nb\x1b[31m\t\u00e9").what(), "tensor a\\nb\\x1b[31m\\x09\u00e9");
    EXPECT_STREQ(InputError("tensor {}", std::string("a\0b", 3)).what(), "tensor a\\x00b");
}

}  // namespace
}  // namespace aimerge
