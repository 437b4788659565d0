// Rope: the angles of rotary positions. Pair i of a head of d turning dimensions turns at position
// p by p · f_i, with f_i = theta^(-2i/d) unless the positions are stretched:
//
//   linear    f_i / factor
//   dynamic   theta · (factor · n / original - (factor - 1))^(d / (d - 2)) in theta's place, for
//             sequences of n > original positions (the "NTK" rule)
//   llama3    f_i for wavelengths 2π / f_i below original / high, f_i / factor above
//             original / low, between them a mixture, linear in original / wavelength
//   yarn      f_i above, f_i / factor below two numbers of turns within the original positions
//             (beta_fast and beta_slow), a linear ramp over i between; cos and sin are multiplied
//             with 0.1 ln(factor) + 1, or the ratio of that with mscale and mscale_all_dim
//   longrope  f_i / short_i, or f_i / long_i for sequences of n > original; cos and sin times
//             √(1 + ln(factor) / ln(original))
//
// What depends on a sequence's length n takes the session's context for it: so all positions of a
// session are turned by one rule, however they are split into chunks. All is computed in double and
// rounded to float once. Threads: any.
#pragma once

#include <cstdint>
#include <vector>

#include "model/network.h"

namespace sluice {

struct RopeFrequencies {
  std::vector<double> radians;  // [dimensions / 2]: per position
  double amplitude = 1;         // of cos and sin
};

// For sessions of up to `context` positions. Cost: some microseconds.
RopeFrequencies rope_frequencies(const RopeConfig& rope, uint64_t context);

// What the scores of latent attention are multiplied with because yarn stretched the positions:
// (0.1 · mscale_all_dim · ln factor + 1)², else 1.
double yarn_score_factor(const RopeConfig& rope);

// Fills activations->rope_cos/sin [tokens, dimensions / 2] for the run's positions.
void prepare_rope(const RopeConfig& rope, Run& run);

}  // namespace sluice
