#include "model/time_steps.h"

#include <algorithm>
#include <cmath>

namespace sluice {

float sigmoid_of(float x) {
  return static_cast<float>(1 / (1 + std::exp(-static_cast<double>(x))));
}

TimeSteps::TimeSteps(Trunk& trunk, const std::string& prefix, uint32_t heads)
    : rates_(read_vector(trunk, prefix + ".A_log", heads)),
      bias_(read_vector(trunk, prefix + ".dt_bias", heads)) {}

double TimeSteps::step(uint32_t head, float x) const {
  const double sum = static_cast<double>(x + bias_[head]);
  // Above 40 the 1 no longer shows, and far above e^sum would overflow.
  const double step = sum > 40 ? sum : std::log1p(std::exp(sum));
  return most_ > 0 ? std::clamp(step, least_, most_) : step;
}

float TimeSteps::decay(uint32_t head, double step) const {
  return static_cast<float>(std::exp(-std::exp(static_cast<double>(rates_[head])) * step));
}

}  // namespace sluice
