// A layer of toy experts with something changed, and what reading it says.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "io/error.h"
#include "stream/expert_layout.h"
#include "tests/stream/toy_checkpoint.h"

namespace sluice {

inline ExpertLayout find(const ToyCheckpoint& toy, const ExpertNames& names) {
  const Checkpoint checkpoint = toy.open();
  return find_experts(checkpoint, TensorNames(checkpoint), names);
}

inline ToyTensor& named(std::vector<ToyTensor>& tensors, const std::string& ending) {
  for (ToyTensor& tensor : tensors) {
    if (tensor.name.ends_with(ending)) return tensor;
  }
  throw std::runtime_error("no tensor ends with " + ending);
}

inline void remove_tensor(std::vector<ToyTensor>& tensors, const std::string& ending) {
  const ToyTensor* tensor = &named(tensors, ending);
  tensors.erase(tensors.begin() + (tensor - tensors.data()));
}

using Change = std::function<void(std::vector<ToyTensor>&)>;

// The error that a changed layer 3 gives.
inline std::string error_of(const ToyLayer& layer, const Change& change) {
  std::vector<ToyTensor> tensors = toy_tensors(3, layer);
  change(tensors);
  const ToyCheckpoint toy(tensors, 1, 1);
  try {
    find(toy, toy_names(3, layer));
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::AllOf(testing::HasSubstr(toy.directory().string()),
                                             testing::HasSubstr("layer 3")));
    return error.what();
  }
  return "no error";
}

}  // namespace sluice
