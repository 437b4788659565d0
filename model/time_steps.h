// TimeSteps: how far each head's state moves on with a token, which the token itself decides.
//
//   step = softplus(x + dt_bias), within limits;   decay = e^(-e^A_log · step)
//
// In double, rounded to float once, as there are few of them. Owns: its vectors. Threads: any.
#pragma once

#include <string>
#include <vector>

#include "model/linear.h"

namespace sluice {

// 1 / (1 + e^-x).
float sigmoid_of(float x);

class TimeSteps {
 public:
  TimeSteps() = default;
  // Declares or binds "<prefix>.A_log" and "<prefix>.dt_bias", [heads]. Throws Error.
  TimeSteps(Trunk& trunk, const std::string& prefix, uint32_t heads);

  void limit(double least, double most) {
    least_ = least;
    most_ = most;
  }

  double step(uint32_t head, float x) const;
  float decay(uint32_t head, double step) const;

 private:
  std::vector<float> rates_;  // [heads]: A_log
  std::vector<float> bias_;   // [heads]
  double least_ = 0;
  double most_ = 0;  // 0: no limits
};

}  // namespace sluice
