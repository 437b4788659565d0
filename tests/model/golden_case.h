// A golden case: a tiny checkpoint with the original implementation's logits (tests/data/goldens).
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "model/session.h"
#include "tests/reference/tensors.h"

namespace sluice {

struct GoldenCase {
  explicit GoldenCase(const std::string& name)
      : directory(std::string(SLUICE_TEST_DATA "/goldens/") + name) {
    const std::string file = directory + "/golden.safetensors";
    for (const double id : reference::read_all_values(file, "input_ids")) {
      ids.push_back(static_cast<uint32_t>(id));
    }
    prompt_length = static_cast<size_t>(reference::read_all_values(file, "prompt_len").front());
    logits = reference::read_all_values(file, "logits");
    vocabulary = logits.size() / ids.size();
  }

  std::span<const double> logits_at(size_t position) const {
    return std::span(logits).subspan(position * vocabulary, vocabulary);
  }

  std::string directory;
  std::vector<uint32_t> ids;  // a prompt and its greedy continuation
  size_t prompt_length = 0;
  size_t vocabulary = 0;
  std::vector<double> logits;  // [ids, vocabulary]
};

template <class Values>
uint32_t argmax(const Values& values) {
  return static_cast<uint32_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

// All positions' logits of one prefill, [positions * vocabulary].
inline std::vector<float> prefill_logits(Session& session, std::span<const uint32_t> ids) {
  std::vector<float> all;
  session.prefill(ids, [&](uint64_t, std::span<const float> logits) {
    all.insert(all.end(), logits.begin(), logits.end());
  });
  return all;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return false;
  return a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace sluice
