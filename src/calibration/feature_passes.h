#pragma once
// This rank's texts on their way through the layers of their teachers and of the merged models (points), from stop to stop.

#include "aimerge/calibration/featcal.h"
#include "aimerge/model/decoder.h"
#include "calibration/feature_sums.h"
#include "calibration/layer_states.h"
#include "calibration/text_parts.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace aimerge {

/// An input of a layer with modules that are fitted.
struct Stop {
    std::int64_t number = 0;      // of the input in its layer
    std::size_t firstModule = 0;  // in LoadedLayer
    bool isNorm = false;
    double eps = 0;                        // of a norm
    std::vector<std::size_t> fitted;       // of the input's modules
    std::vector<std::string> modules;      // their names
    std::int64_t inputs = 0, outputs = 0;  // channels; outputs of all fitted modules together, of a norm none
    bool hasBiases = false;                // in any model

    /// Without tokens.
    FeatureSums sums(at::Device device) const;
};

class FeaturePasses {
public:
    /// @param own this rank's parts @param job, own must outlive the passes
    FeaturePasses(World& world, const FeatcalJob& job, std::span<const TextPart> own);

    /// A merged model without weights: all of them run alike.
    const Decoder& decoder() const { return *students_.front(); }
    std::uint64_t bytesRead() const;

    /// To the first layer.
    void enterTexts();
    /// What the teachers need for the next layer.
    void loadTeachers(std::int64_t layer);
    /// Takes all steps to the stop, and sums up there. @param merged the layer's weights, per point
    /// @return per point and teacher
    std::vector<std::vector<PartTree>> gather(std::int64_t layer, const Stop& stop, const std::vector<LoadedLayer>& merged);
    /// To the next layer.
    void leaveLayer(std::int64_t layer, const std::vector<LoadedLayer>& merged);

private:
    /// A forward step.
    struct Step {
        std::size_t teacher = 0;
        std::int64_t firstBlock = 0, sequences = 0;
    };
    /// At a stop, in a teacher.
    struct Taught {
        at::Tensor input;
        Tensors outputs;  // of the stop's modules
    };

    std::uint64_t largestStateBytes() const;
    LayerStates::Where placeOfStates() const;
    std::span<const std::int32_t> idsOf(const Step& step) const;
    std::size_t teacherState(std::size_t step) const { return step * (1 + points_); }
    std::size_t studentState(std::size_t step, std::size_t point) const { return teacherState(step) + 1 + point; }
    void enter(const Decoder& model, std::size_t step, std::size_t state);
    template <typename Work>
    void overSteps(const Work& work);
    template <typename Change>
    void changeState(std::size_t number, const Change& change);
    std::size_t stepsBefore(std::size_t parts) const;
    Taught teach(std::int64_t layer, const Stop& stop, std::size_t step);
    std::vector<at::Tensor> wantedOutputs(const Stop& stop, std::size_t teacher, const at::Tensor& input,
                                          const Taught& taught);

    World& world_;
    const FeatcalJob& job_;
    std::span<const TextPart> own_;
    std::size_t points_;
    std::vector<Step> steps_;
    std::vector<std::unique_ptr<Decoder>> teachers_;
    std::vector<std::unique_ptr<WeightSource>> configs_;
    std::vector<std::unique_ptr<Decoder>> students_;  // per point
    std::optional<LayerStates> states_;
    std::vector<LoadedLayer> taught_;  // per teacher, where this rank has texts of it
    bool areTaughtAhead_ = false;      // the teachers stand one input behind the last stop
};

}  // namespace aimerge
