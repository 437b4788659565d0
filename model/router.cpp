#include "model/router.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

namespace sluice {

namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();

// Puts the `count` best of order first, the best one at the front: the higher score, then the lower
// number.
void best_first(const float* scores, std::span<uint32_t> order, uint32_t count) {
  const auto better = [scores](uint32_t a, uint32_t b) {
    return scores[a] > scores[b] || (scores[a] == scores[b] && a < b);
  };
  std::partial_sort(order.begin(), order.begin() + count, order.end(), better);
}

}  // namespace

void RouterRule::choose(const kernels::Table& kernels, float* logits, float* by_score,
                        uint32_t* order, uint32_t* chosen, float* weights) const {
  std::replace_if(
      logits, logits + experts, [](float logit) { return std::isnan(logit); }, kLowest);
  if (score == RouterScore::sigmoid) kernels.sigmoid(logits, experts);
  for (uint32_t e = 0; e < experts; ++e) {
    const float value = correction.empty() ? logits[e] : logits[e] + correction[e];
    by_score[e] = std::isnan(value) ? kLowest : value;
  }
  if (limits.groups_per_token < limits.groups) drop_groups(by_score, order);
  std::iota(order, order + experts, 0u);
  best_first(by_score, std::span(order, experts), experts_per_token);
  for (uint32_t j = 0; j < experts_per_token; ++j) {
    chosen[j] = order[j];
    weights[j] = logits[order[j]];
  }
  if (score == RouterScore::softmax) weigh_among_all(kernels, logits, by_score, weights);
  if (score == RouterScore::chosen_softmax) kernels.softmax(weights, experts_per_token);
  if (limits.normalize) {
    // All sigmoids may round to zero; a tiny divisor leaves the weights zero then.
    float sum = std::numeric_limits<float>::min();
    for (uint32_t j = 0; j < experts_per_token; ++j) sum += weights[j];
    for (uint32_t j = 0; j < experts_per_token; ++j) weights[j] /= sum;
  }
  if (limits.scale != 1) {
    for (uint32_t j = 0; j < experts_per_token; ++j) weights[j] *= limits.scale;
  }
}

// Turns the chosen logits into their softmax among all. The terms are summed in descending order,
// so that it does not show how the experts are numbered (a repacked model numbers them anew).
void RouterRule::weigh_among_all(const kernels::Table& kernels, float* logits, float* shares,
                                 float* weights) const {
  std::sort(logits, logits + experts, std::greater<>());
  std::copy(logits, logits + experts, shares);
  kernels.softmax(shares, experts);
  for (uint32_t j = 0; j < experts_per_token; ++j) {
    const float* place = std::lower_bound(logits, logits + experts, weights[j], std::greater<>());
    weights[j] = shares[place - logits];
  }
}

// Lowers the experts of all but the best groups below every other.
void RouterRule::drop_groups(float* by_score, uint32_t* order) const {
  const uint32_t size = experts / limits.groups;
  const uint32_t judged = std::min(best_of_group, size);
  std::vector<float> group_scores(limits.groups, 0.0f);
  std::iota(order, order + experts, 0u);
  for (uint32_t g = 0; g < limits.groups; ++g) {
    const std::span<uint32_t> members(order + uint64_t{g} * size, size);
    best_first(by_score, members, judged);
    for (uint32_t i = 0; i < judged; ++i) group_scores[g] += by_score[members[i]];
    if (std::isnan(group_scores[g])) group_scores[g] = kLowest;
  }
  std::vector<uint32_t> groups(limits.groups);
  std::iota(groups.begin(), groups.end(), 0u);
  best_first(group_scores.data(), groups, limits.groups_per_token);
  for (uint32_t i = limits.groups_per_token; i < limits.groups; ++i) {
    std::fill_n(by_score + uint64_t{groups[i]} * size, size, kLowest);
  }
}

Router::Router(Trunk& trunk, const std::string& prefix, const RouterVariant& variant,
               const ModelConfig& config)
    : hidden_(config.hidden),
      weight_(trunk, prefix + "." + variant.weight, {.rows = config.experts, .cols = config.hidden},
              variant.bias, config.turboquant.rotated) {
  rule_.score = variant.score;
  rule_.experts = config.experts;
  rule_.experts_per_token = config.experts_per_token;
  rule_.limits = config.router;
  rule_.best_of_group = variant.best_of_group;
  if (!variant.correction.empty()) {
    rule_.correction = read_vector(trunk, prefix + "." + variant.correction, config.experts);
  }
}

void Router::forward(const float* x, Run& run) const {
  Activations& a = *run.activations;
  const uint64_t experts = rule_.experts;
  const uint64_t k = rule_.experts_per_token;
  const LinearCall call[] = {{&weight_, a.router, rule_.experts}};
  apply_linears(run.compute, call, x, hidden_, run.tokens, a.inputs);
  run.compute.workers->run(run.tokens, [&](uint32_t t, uint32_t worker) {
    rule_.choose(*run.compute.kernels, a.router + t * experts, a.router_scores + worker * experts,
                 a.router_order + worker * experts, a.chosen + t * k, a.chosen_weights + t * k);
  });
}

void Router::foresee(const float* x, Run& run) const {
  Activations& a = *run.activations;
  const LinearCall call[] = {{&weight_, a.router, rule_.experts}};
  apply_linears(run.compute, call, x, hidden_, 1, a.inputs);
  rule_.choose(*run.compute.kernels, a.router, a.router_scores, a.router_order, a.foreseen,
               a.foreseen_weights);
}

}  // namespace sluice
