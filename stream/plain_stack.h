// Experts as stacks of plain numbers (F32, F16, BF16): one tensor holds a matrix of all experts of
// a layer, an expert being an axis-0 slab of it. How they lie is ExpertNames::plain_stack:
//
//   rows      <prefix>.<projection>     [experts, rows, cols]
//   rows      <prefix>.<gate_and_up>    [experts, 2 * rows, cols]: the gate's rows, then up's
//   columns   <prefix>.<projection>     [experts, cols, rows]
//
// and the biases that any layout may have beside it. stream/expert_layout.cpp asks here.
// Threads: any.
#pragma once

#include <string_view>

#include "io/checkpoint.h"
#include "stream/expert_layout.h"

namespace sluice {

// Whether a tensor under one of the experts' prefixes has a name of the above.
bool is_plain_stack(const ExpertNames& names, std::string_view prefix, std::string_view name);
// Whether it has that of a bias.
bool is_expert_bias(const ExpertNames& names, std::string_view prefix, std::string_view name);

// The tensor that holds a projection in a plain stack, and the first of its rows there.
struct PlainStackPlace {
  const TensorInfo* tensor = nullptr;
  uint32_t first_row = 0;
};
// Throws Error: it is missing, of another type or shape than promised.
PlainStackPlace find_in_plain_stack(const Checkpoint& checkpoint, const ExpertNames& names,
                                    const std::string& prefix,
                                    const ExpertNames::Projection& projection);

// Throws Error as above. Requires: some tensor is_plain_stack() under prefix.
ExpertLayout read_plain_stack(const Checkpoint& checkpoint, const ExpertNames& names,
                              const std::string& prefix);

// Notes the bias of every format where names promises them. Throws Error: one is missing, there
// twice, of a type that is not plain, or not [experts, rows].
void find_expert_biases(const Checkpoint& checkpoint, const ExpertNames& names,
                        ExpertLayout& layout);

}  // namespace sluice
