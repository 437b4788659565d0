#include "model/causal_convolution.h"

#include <array>

#include "model/recurrent_state.h"

namespace sluice {

CausalConvolution::CausalConvolution(Trunk& trunk, const std::string& prefix, bool with_bias,
                                     const RecurrentConfig& config)
    : channels_(config.channels()), kernel_(config.kernel) {
  const bool mlx = is_mlx(trunk.checkpoint(), prefix);
  const std::string name = prefix + ".weight";
  const std::array<uint64_t, 3> shape = {channels_, mlx ? kernel_ : 1, mlx ? 1 : kernel_};
  const std::byte* bytes = trunk.tensor(name, kPlainDTypes, shape);
  const uint64_t size = uint64_t{channels_} * kernel_;
  trunk.count_converted(size * sizeof(float));
  if (with_bias) bias_ = read_vector(trunk, prefix + ".bias", channels_);
  if (bytes == nullptr) return;
  // Either order has a channel's weights side by side; the kernel wants a tap's.
  std::vector<float> stored(size);
  kernels::table().to_f32(plain_format(trunk.checkpoint().at(name).dtype), bytes, size,
                          stored.data());
  weights_.resize(size);
  for (uint64_t channel = 0; channel < channels_; ++channel) {
    for (uint64_t tap = 0; tap < kernel_; ++tap) {
      weights_[tap * channels_ + channel] = stored[channel * kernel_ + tap];
    }
  }
}

void CausalConvolution::apply(const Channels& channels, const float* x, uint32_t x_stride,
                              uint32_t state_layer, const Run& run, float* y) const {
  run.compute.kernels->convolve({.x = x + channels.source,
                                 .weights = weights_.data() + channels.first,
                                 .bias = bias_.empty() ? nullptr : bias_.data() + channels.first,
                                 .history = run.recurrent->history(state_layer) + channels.first,
                                 .y = y + channels.first,
                                 .channels = channels.count,
                                 .kernel = kernel_,
                                 .stride = channels_,
                                 .tokens = run.tokens,
                                 .x_stride = x_stride,
                                 .y_stride = channels_});
}

bool CausalConvolution::is_mlx(const Checkpoint& checkpoint, const std::string& prefix) {
  const TensorInfo* info = checkpoint.find(prefix + ".weight");
  return info != nullptr && info->shape.size() == 3 && info->shape[2] == 1;
}

}  // namespace sluice
