// Router: which experts each token goes to, and with what weights.
//
// From the logits l = W x of all experts:
//
//   softmax         p = softmax(l); the k largest, weighted with p
//   chosen_softmax  the k largest of l, weighted with the softmax of those k
//   sigmoid         s = sigmoid(l); the k largest of s + b, weighted with s; b is a correction that
//                   balanced the experts' load in training
//
// Then, each where the config says so: the experts stand in groups, and only the groups whose best
// (two) experts sum highest are chosen from; the k weights are divided by their sum; and scaled.
// Experts come in descending order of what they were chosen by, equal ones by their number; nothing
// else depends on how they are numbered, but for groups.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "model/network.h"

namespace sluice {

enum class RouterScore : uint8_t { softmax, chosen_softmax, sigmoid };

// One token's choice, apart from the matrix.
struct RouterRule {
  RouterScore score = RouterScore::softmax;
  uint32_t experts = 0;
  uint32_t experts_per_token = 0;
  RouterConfig limits;
  uint32_t best_of_group = 2;     // how many experts a group is judged by
  std::vector<float> correction;  // [experts], or empty: none

  // logits [experts], overwritten; chosen and weights [experts_per_token].
  // Scratch: by_score [experts], order [experts]. A score that is no number counts as the lowest.
  void choose(const kernels::Table& kernels, float* logits, float* by_score, uint32_t* order,
              uint32_t* chosen, float* weights) const;

 private:
  void drop_groups(float* by_score, uint32_t* order) const;
  void weigh_among_all(const kernels::Table& kernels, float* logits, float* shares,
                       float* weights) const;
};

// What a family calls its router's tensors, and how it scores.
struct RouterVariant {
  RouterScore score = RouterScore::softmax;
  std::string weight = "gate";  // "<weight>.weight" behind the prefix of the experts' block
  bool bias = false;            // and "<weight>.bias", of the logits
  std::string correction = {};  // "gate.e_score_correction_bias"; empty: none
  uint32_t best_of_group = 2;   // how many experts a group is judged by
};

class Router {
 public:
  // prefix: "model.layers.3.mlp".
  Router(Trunk& trunk, const std::string& prefix, const RouterVariant& variant,
         const ModelConfig& config);

  // Of x [tokens, hidden]: activations->chosen and chosen_weights.
  void forward(const float* x, Run& run) const;
  // Of x [hidden], what forward would choose: activations->foreseen.
  void foresee(const float* x, Run& run) const;

 private:
  uint32_t hidden_;
  RouterRule rule_;
  Linear weight_;
};

}  // namespace sluice
