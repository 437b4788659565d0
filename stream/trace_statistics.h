// What a trace says about a model's use of its experts: how often, together with which others, and
// how much of it changes from token to token. And the decisions that follow: pins and disk order.
//
// Every result depends on the sequence alone: ties go to the lower layer, then the lower expert.
// A token has one record in each layer, so the n-th records of all layers are the n-th token's;
// that holds for prompts too, which are computed layer by layer. Threads: any.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cache/expert_cache.h"
#include "stream/cache_replay.h"

namespace sluice {

// [layers * experts]: records that chose each expert.
std::vector<uint64_t> count_uses(const DemandSequence& sequence);

// The experts used at all, the hottest first, at most `most` of them.
std::vector<ExpertKey> hottest_experts(const DemandSequence& sequence, uint64_t most);

// All experts of one layer in an order that puts those beside each other that tokens use together:
// a chain that begins with the hottest, and goes on with the one used most often together with the
// last three, as far as any was; else with the hottest that is left. O(experts² + records of the
// layer · k²).
std::vector<uint32_t> co_activation_order(const DemandSequence& sequence, uint32_t layer);

// [layers]: the mean share of a token's experts that the token before used in this layer too.
std::vector<double> token_overlap(const DemandSequence& sequence);

// [tokens]: the records of each, in their order.
std::vector<std::vector<size_t>> records_of_tokens(const DemandSequence& sequence);

struct WorkingSet {
  uint64_t tokens = 0;  // in a row
  double experts = 0;   // distinct (layer, expert) that they use, on average
};
// For windows of 1, 2, 4, ... tokens, up to a quarter of the trace; of each size, windows side by
// side.
std::vector<WorkingSet> working_sets(const DemandSequence& sequence);

}  // namespace sluice
