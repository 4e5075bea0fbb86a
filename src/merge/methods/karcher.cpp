#include "merge/methods/karcher.h"

#include "merge/combine/weighted_changes.h"

#include <algorithm>
#include <cmath>

namespace aimerge {
namespace {

enum KarcherParameter { kMaxIter, kTol };

/// The mean of unit vectors, as coefficients of them. Works on their inner products alone.
class SphereMean {
public:
    SphereMean(const InnerProducts& products, const std::vector<double>& norms, std::vector<std::size_t> valid)
        : products_(products), norms_(norms), valid_(std::move(valid)), mean_(norms.size()) {}

    std::vector<double> find(double tolerance, std::size_t iterations) {
        const double share = 1.0 / static_cast<double>(valid_.size());
        for (const std::size_t i : valid_) mean_[i] = share;
        const double length = lengthOf(mean_);
        if (length < tolerance) {
            std::ranges::fill(mean_, 0.0);
            mean_[valid_.front()] = 1;
        } else {
            scale(mean_, 1 / length);
        }
        for (std::size_t i = 0; i < iterations; ++i)
            if (!step(share, tolerance)) break;
        return mean_;
    }

private:
    double cosine(std::size_t i, std::size_t j) const { return products_(0, i, j) / (norms_[i] * norms_[j]); }

    double dotWithUnit(const std::vector<double>& vector, std::size_t unit) const {
        double sum = 0;
        for (const std::size_t j : valid_) sum += vector[j] * cosine(unit, j);
        return sum;
    }

    double lengthOf(const std::vector<double>& vector) const {
        double square = 0;
        for (const std::size_t i : valid_) square += vector[i] * dotWithUnit(vector, i);
        return std::sqrt(std::max(square, 0.0));
    }

    static void scale(std::vector<double>& vector, double factor) {
        for (double& value : vector) value *= factor;
    }

    /// One step along the mean tangent. @return false when there is nowhere to go
    bool step(double share, double tolerance) {
        std::vector<double> tangent(mean_.size());
        double alongMean = 0;
        for (const std::size_t i : valid_) {
            const double dot = std::clamp(dotWithUnit(mean_, i), -1.0, 1.0), angle = std::acos(dot);
            if (angle < tolerance) continue;
            const double factor = share * angle / std::sin(angle);
            tangent[i] += factor;
            alongMean += factor * dot;
        }
        for (std::size_t i = 0; i < tangent.size(); ++i) tangent[i] -= alongMean * mean_[i];
        const double length = lengthOf(tangent);
        if (length < tolerance) return false;
        for (std::size_t i = 0; i < tangent.size(); ++i)
            mean_[i] = std::cos(length) * mean_[i] + std::sin(length) / length * tangent[i];
        if (const double meanLength = lengthOf(mean_); meanLength > tolerance) scale(mean_, 1 / meanLength);
        return true;
    }

    const InnerProducts& products_;
    const std::vector<double>& norms_;
    std::vector<std::size_t> valid_;
    std::vector<double> mean_;
};

std::vector<double> coefficientsFrom(const InnerProducts& products, double tolerance, std::size_t iterations) {
    std::vector<double> norms(products.vectors());
    std::vector<std::size_t> valid;
    double radius = 0;
    for (std::size_t i = 0; i < norms.size(); ++i) {
        norms[i] = std::sqrt(products(0, i, i));
        radius += norms[i] / static_cast<double>(norms.size());
        if (norms[i] > tolerance) valid.push_back(i);
    }
    if (valid.empty()) return std::vector<double>(norms.size());
    std::vector<double> mean = SphereMean(products, norms, valid).find(tolerance, iterations);
    for (const std::size_t i : valid) mean[i] *= radius / norms[i];
    return mean;
}

class Karcher : public Method {
public:
    const MethodInfo& info() const override {
        using enum ParameterType;
        using enum ParameterScope;
        static const MethodInfo info{.name = "karcher",
                                     .description = "Centre of all models on the sphere, with their mean length",
                                     .paper = "Karcher 1977, Riemannian center of mass and mollifier smoothing",
                                     .base = BaseUse::Ordinary,
                                     .minInputs = 1,
                                     .parameters = {{.name = "max_iter",
                                                     .type = WholeNumber,
                                                     .scope = Shared,
                                                     .fallback = 10,
                                                     .description = "most steps",
                                                     .minimum = 0},
                                                    {.name = "tol",
                                                     .type = Number,
                                                     .scope = Shared,
                                                     .fallback = 1e-5,
                                                     .description = "angle and length that count as none",
                                                     .minimum = 0,
                                                     .minimumExcluded = true}}};
        return info;
    }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader& parameter, const ResolvedParameters& values) const override {
        const InnerProducts products = innerProducts(parameter, Vectors::Inputs, Along::Tensor);
        WeightedChanges changes(Reference::FirstInput, Along::Tensor, {}, parameter.inputs());
        changes.set(0, Coefficients::ofSum(coefficientsFrom(products, values.shared[kTol],
                                                            static_cast<std::size_t>(values.shared[kMaxIter]))));
        return std::move(changes).prepared();
    }
};

}  // namespace

const Method& karcherMethod() {
    static const Karcher method;
    return method;
}

}  // namespace aimerge
