#include "merge/algebra/inner_products.h"

#include "aimerge/merge/instruction_set.h"
#include "merge/memory_parameter.h"

#include <gmock/gmock.h>

namespace aimerge {
namespace {

InnerProducts productsOf(const Floats& base, const std::vector<Floats>& inputs, const Shape& shape, Vectors vectors,
                         Along along, int threads = 1, std::int64_t chunk = 1000) {
    ThreadPool pool(threads);
    MemoryReader reader(base, inputs, pool, chunk, shape);
    return innerProducts(reader, vectors, along);
}

std::vector<double> allOf(const InnerProducts& products) {
    std::vector<double> values;
    for (std::size_t position = 0; position < products.positions(); ++position)
        for (std::size_t i = 0; i < products.vectors(); ++i)
            for (std::size_t j = 0; j < products.vectors(); ++j) values.push_back(products(position, i, j));
    return values;
}

using testing::ElementsAre;

// [[1, 2, 3], [4, 5, 6]] and [[1, 0, -1], [2, 0, 1]]

TEST(InnerProducts, AreOfTheWholeTensor) {
    const auto products = productsOf({}, {{1, 2, 3, 4, 5, 6}, {1, 0, -1, 2, 0, 1}}, {2, 3}, Vectors::Inputs, Along::Tensor);
    EXPECT_THAT(allOf(products), ElementsAre(91, 12, 12, 7));
}

TEST(InnerProducts, AreOfEachRow) {
    const auto products = productsOf({}, {{1, 2, 3, 4, 5, 6}, {1, 0, -1, 2, 0, 1}}, {2, 3}, Vectors::Inputs, Along::Rows);
    EXPECT_THAT(allOf(products), ElementsAre(14, -2, -2, 2, 77, 14, 14, 5));
}

TEST(InnerProducts, AreOfEachColumn) {
    const auto products = productsOf({}, {{1, 2, 3, 4, 5, 6}, {1, 0, -1, 2, 0, 1}}, {2, 3}, Vectors::Inputs, Along::Columns);
    EXPECT_THAT(allOf(products), ElementsAre(17, 9, 9, 5, 29, 0, 0, 0, 45, 3, 3, 2));
}

TEST(InnerProducts, AreOfChangesAndTheBase) {
    const Floats base{1, 2}, input{4, 1};  // change 3, -1
    EXPECT_THAT(allOf(productsOf(base, {input}, {2}, Vectors::Changes, Along::Tensor)), ElementsAre(10));
    EXPECT_THAT(allOf(productsOf(base, {input}, {2}, Vectors::ChangesAndBase, Along::Tensor)), ElementsAre(10, 1, 1, 5));
}

/// Up to as many inputs as are compiled one by one, and one more.
TEST(InnerProducts, AreOfEveryPairOfAnyNumberOfInputs) {
    constexpr std::size_t kElements = 83;
    const auto valueOf = [](std::size_t input, std::size_t e) { return static_cast<float>((7 * e + input * e * e) % 11); };
    Floats base(kElements);
    for (std::size_t e = 0; e < kElements; ++e) base[e] = static_cast<float>(e % 5);
    for (std::size_t number = 1; number <= 9; ++number) {
        std::vector<Floats> inputs(number, Floats(kElements));
        for (std::size_t i = 0; i < number; ++i)
            for (std::size_t e = 0; e < kElements; ++e) inputs[i][e] = valueOf(i, e);
        for (const Vectors kind : {Vectors::Inputs, Vectors::Changes, Vectors::ChangesAndBase}) {
            const auto at = [&](std::size_t vector, std::size_t e) {
                if (vector == number) return double{base[e]};
                return double{inputs[vector][e]} - (kind == Vectors::Inputs ? 0.0 : double{base[e]});
            };
            for (const Along along : {Along::Tensor, Along::Columns}) {
                const auto products = productsOf(base, inputs, {kElements}, kind, along);
                for (std::size_t position = 0; position < products.positions(); ++position) {
                    for (std::size_t i = 0; i < products.vectors(); ++i) {
                        for (std::size_t j = 0; j < products.vectors(); ++j) {
                            double sum = 0;
                            for (std::size_t e = 0; e < kElements; ++e)
                                if (along == Along::Tensor || e == position) sum += at(i, e) * at(j, e);
                            if (kind == Vectors::ChangesAndBase && i != j && i != number && j != number) sum = 0;
                            ASSERT_EQ(products(position, i, j), sum) << number << " inputs, " << i << " by " << j;
                        }
                    }
                }
            }
        }
    }
}

TEST(InnerProducts, SubtractBeforeTheyRoundToFloat32) {
    const auto products = productsOf({0x1p-30f}, {{1}}, {1}, Vectors::Changes, Along::Tensor);
    EXPECT_EQ(products(0, 0, 0), (1 - 0x1p-30) * (1 - 0x1p-30));
}

TEST(InnerProducts, TakeAVectorAsOneRow) {
    EXPECT_THAT(allOf(productsOf({}, {{3, 4}}, {2}, Vectors::Inputs, Along::Rows)), ElementsAre(25));
    EXPECT_THAT(allOf(productsOf({}, {{3, 4}}, {2}, Vectors::Inputs, Along::Columns)), ElementsAre(9, 16));
}

TEST(InnerProducts, TakeTheLastOrTheFirstAxisOfATensorOfThree) {
    const Floats values{1, 2, 3, 4, 5, 6, 7, 8};  // [2, 2, 2]
    EXPECT_THAT(allOf(productsOf({}, {values}, {2, 2, 2}, Vectors::Inputs, Along::Rows)), ElementsAre(5, 25, 61, 113));
    EXPECT_THAT(allOf(productsOf({}, {values}, {2, 2, 2}, Vectors::Inputs, Along::Columns)), ElementsAre(26, 40, 58, 80));
}

class OrderOfSums : public testing::TestWithParam<Shape> {};
INSTANTIATE_TEST_SUITE_P(, OrderOfSums,
                         testing::Values(Shape{7, 13}, Shape{1, 70001}, Shape{70001, 1}, Shape{131, 1031},
                                         Shape{65536 + 1}));

TEST_P(OrderOfSums, DoesNotDependOnThreadsChunksOrInstructions) {
    const auto elements = static_cast<std::size_t>(elementCount(GetParam()));
    const Floats base = normalValues(elements, 1, 1);
    const std::vector<Floats> inputs{normalValues(elements, 2, 1), normalValues(elements, 3, 1)};
    const InstructionSet best = bestInstructionSet();
    for (const Along along : {Along::Tensor, Along::Rows, Along::Columns}) {
        const auto of = [&](int threads, std::int64_t chunk) {
            return allOf(productsOf(base, inputs, GetParam(), Vectors::ChangesAndBase, along, threads, chunk));
        };
        const auto expected = of(1, 65536);

        EXPECT_EQ(of(3, 65536), expected);
        EXPECT_EQ(of(1, 1000), expected);
        EXPECT_EQ(of(2, 37), expected);
        for (const InstructionSet set : {InstructionSet::Baseline, InstructionSet::Avx2}) {
            limitInstructionSet(set);
            EXPECT_EQ(of(2, 1000), expected) << static_cast<int>(set);
        }
        limitInstructionSet(best);
    }
}

}  // namespace
}  // namespace aimerge
