#include "stream/trace_statistics.h"

#include <algorithm>
#include <array>

#include "io/error.h"

namespace sluice {
namespace {

constexpr size_t kChainMemory = 3;

}  // namespace

std::vector<uint64_t> count_uses(const DemandSequence& sequence) {
  std::vector<uint64_t> uses(sequence.keys());
  for (const ExpertKey key : sequence.demands) ++uses[sequence.index(key)];
  return uses;
}

std::vector<ExpertKey> hottest_experts(const DemandSequence& sequence, uint64_t most) {
  const std::vector<uint64_t> uses = count_uses(sequence);
  std::vector<uint32_t> order;
  for (uint32_t i = 0; i < uses.size(); ++i) {
    if (uses[i] > 0) order.push_back(i);
  }
  std::ranges::stable_sort(order, [&](uint32_t a, uint32_t b) { return uses[a] > uses[b]; });
  if (order.size() > most) order.resize(static_cast<size_t>(most));
  std::vector<ExpertKey> hottest;
  for (const uint32_t i : order) {
    hottest.push_back({.layer = i / sequence.experts, .expert = i % sequence.experts});
  }
  return hottest;
}

std::vector<uint32_t> co_activation_order(const DemandSequence& sequence, uint32_t layer) {
  constexpr uint32_t kMostExperts = 8192;  // 512 MB of counts
  const uint32_t experts = sequence.experts;
  if (experts > kMostExperts) {
    throw Error("a layer of ", experts, " experts is too large to order; at most ", kMostExperts);
  }
  std::vector<uint64_t> uses(experts);
  std::vector<uint64_t> together(uint64_t{experts} * experts);
  for (size_t i = 0; i < sequence.records(); ++i) {
    const std::span<const ExpertKey> record = sequence.record(i);
    if (record.empty() || record.front().layer != layer) continue;
    for (const ExpertKey a : record) {
      ++uses[a.expert];
      for (const ExpertKey b : record) ++together[uint64_t{a.expert} * experts + b.expert];
    }
  }
  std::vector<uint32_t> chain;
  std::vector<bool> placed(experts);
  while (chain.size() < experts) {
    const size_t memory = std::min(chain.size(), kChainMemory);
    uint32_t best = experts;
    std::array<uint64_t, 2> best_rank{};  // together with the last ones, then by itself
    for (uint32_t expert = 0; expert < experts; ++expert) {
      if (placed[expert]) continue;
      std::array<uint64_t, 2> rank = {0, uses[expert]};
      for (const uint32_t last : std::span(chain).last(memory)) {
        rank[0] += together[uint64_t{last} * experts + expert];
      }
      if (best == experts || rank > best_rank) {
        best = expert;
        best_rank = rank;
      }
    }
    placed[best] = true;
    chain.push_back(best);
  }
  return chain;
}

std::vector<double> token_overlap(const DemandSequence& sequence) {
  std::vector<std::span<const ExpertKey>> before(sequence.layers);
  std::vector<double> shares(sequence.layers);
  std::vector<uint64_t> pairs(sequence.layers);
  for (size_t i = 0; i < sequence.records(); ++i) {
    const std::span<const ExpertKey> record = sequence.record(i);
    if (record.empty()) continue;
    const uint32_t layer = record.front().layer;
    if (!before[layer].empty()) {
      const auto again = std::ranges::count_if(record, [&](ExpertKey key) {
        return std::ranges::find(before[layer], key) != before[layer].end();
      });
      shares[layer] += static_cast<double>(again) / static_cast<double>(record.size());
      ++pairs[layer];
    }
    before[layer] = record;
  }
  for (uint32_t layer = 0; layer < sequence.layers; ++layer) {
    if (pairs[layer] > 0) shares[layer] /= static_cast<double>(pairs[layer]);
  }
  return shares;
}

std::vector<std::vector<size_t>> records_of_tokens(const DemandSequence& sequence) {
  std::vector<std::vector<size_t>> tokens;
  std::vector<size_t> next(sequence.layers);  // the token of a layer's next record
  for (size_t i = 0; i < sequence.records(); ++i) {
    const std::span<const ExpertKey> record = sequence.record(i);
    if (record.empty()) continue;
    const size_t token = next[record.front().layer]++;
    if (token == tokens.size()) tokens.emplace_back();
    tokens[token].push_back(i);
  }
  return tokens;
}

std::vector<WorkingSet> working_sets(const DemandSequence& sequence) {
  const std::vector<std::vector<size_t>> records = records_of_tokens(sequence);
  const uint64_t tokens = records.size();
  std::vector<WorkingSet> sets;
  // [keys]: the last window that saw the expert, counted from 1 over all sizes.
  std::vector<uint64_t> seen(sequence.keys());
  uint64_t window = 0;
  for (uint64_t size = 1; size == 1 || size <= tokens / 4; size *= 2) {
    uint64_t distinct = 0, windows = 0;
    for (uint64_t token = 0; token + size <= tokens; token += size, ++windows) {
      ++window;
      for (const std::vector<size_t>& of_token : std::span(records).subspan(token, size)) {
        for (const size_t record : of_token) {
          for (const ExpertKey key : sequence.record(record)) {
            uint64_t& last = seen[sequence.index(key)];
            distinct += last != window;
            last = window;
          }
        }
      }
    }
    if (windows == 0) break;
    sets.push_back(
        {.tokens = size, .experts = static_cast<double>(distinct) / static_cast<double>(windows)});
  }
  return sets;
}

}  // namespace sluice
