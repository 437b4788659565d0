// The forward pass of DeepSeek-V3.2 in double precision, written from the published definition:
// keys and values of every head are made in full, scores of every position, and a mask keeps those
// that the indexer chose. One plain pass, no cache, nothing of Sluice's kernels.
//
// Where scores of the indexer are equal, the definition leaves open which position is chosen; so
// that is the caller's. Threads: any.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

#include "tests/reference/tensors.h"

namespace sluice::reference {

// The `count` positions that a token attends to, of more than `count` scores [positions].
using ChoosePositions = std::function<std::vector<uint32_t>(uint32_t layer, uint32_t token,
                                                            const Vector& scores, uint32_t count)>;
// The highest; of equal ones the earlier.
std::vector<uint32_t> highest_then_earliest(const Vector& scores, uint32_t count);

// Logits [ids, vocabulary]. Requires: ids is not empty. Throws Error: another model, positions that
// are stretched.
Matrix run_deepseek_v32(const std::filesystem::path& model_directory,
                        const std::vector<uint32_t>& ids, const ChoosePositions& choose);

}  // namespace sluice::reference
