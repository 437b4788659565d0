#include "tests/reference/deepseek.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>

#include "io/error.h"
#include "tests/reference/layers.h"

namespace sluice::reference {
namespace {

using Index = Eigen::Index;
using Json = nlohmann::json;

// Of the norms inside attention, which config.json's does not reach.
constexpr double kInnerEpsilon = 1e-6;

struct Config {
  explicit Config(const Json& json)
      : layers(json.at("num_hidden_layers")),
        dense_layers(json.at("first_k_dense_replace")),
        heads(json.at("num_attention_heads")),
        kv_rank(json.at("kv_lora_rank")),
        nope(json.at("qk_nope_head_dim")),
        rope(json.at("qk_rope_head_dim")),
        value(json.at("v_head_dim")),
        index_heads(json.at("index_n_heads")),
        index_dim(json.at("index_head_dim")),
        index_topk(json.at("index_topk")),
        experts(json.at("n_routed_experts")),
        experts_per_token(json.at("num_experts_per_tok")),
        groups(json.at("n_group")),
        groups_per_token(json.at("topk_group")),
        epsilon(json.at("rms_norm_eps")),
        theta(json.at("rope_theta")),
        routed_scale(json.at("routed_scaling_factor")) {
    if (json.at("model_type") != "deepseek_v32" || !json.at("rope_scaling").is_null() ||
        !json.at("norm_topk_prob").get<bool>()) {
      throw Error("the reference knows deepseek_v32 with unstretched positions");
    }
  }

  Index layers, dense_layers, heads, kv_rank, nope, rope, value;
  Index index_heads, index_dim, index_topk;
  Index experts, experts_per_token, groups, groups_per_token;
  double epsilon, theta, routed_scale;
};

// Row t is position t. Pair i of the first `dim` columns: (2i, 2i + 1), or (i, i + dim / 2) by
// halves.
Matrix turned(Matrix x, Index dim, double theta, bool by_halves) {
  for (Index t = 0; t < x.rows(); ++t) {
    for (Index i = 0; i < dim / 2; ++i) {
      const double exponent = static_cast<double>(2 * i) / static_cast<double>(dim);
      const double angle = static_cast<double>(t) * std::pow(theta, -exponent);
      double& a = x(t, by_halves ? i : 2 * i);
      double& b = x(t, by_halves ? i + dim / 2 : 2 * i + 1);
      const double first = a * std::cos(angle) - b * std::sin(angle);
      b = b * std::cos(angle) + a * std::sin(angle);
      a = first;
    }
  }
  return x;
}

Matrix layer_norm(const Matrix& x, const Vector& weight, const Vector& bias) {
  const Matrix centred = x.colwise() - Vector(x.rowwise().mean());
  return (rms_norm(centred, weight, kInnerEpsilon).rowwise() + bias.transpose()).eval();
}

// The numbers of the highest, best first.
std::vector<Index> highest(const Vector& scores, Index count) {
  std::vector<Index> order(static_cast<size_t>(scores.size()));
  std::iota(order.begin(), order.end(), Index{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](Index a, Index b) { return scores(a) > scores(b); });
  order.resize(static_cast<size_t>(count));
  return order;
}

class Model {
 public:
  Model(const std::filesystem::path& directory, const ChoosePositions& choose)
      : config_(read(directory)), tensors_(directory), choose_(choose) {}

  Matrix run(const std::vector<uint32_t>& ids) const {
    const Matrix table = tensors_.matrix("model.embed_tokens");
    Matrix x(ids.size(), table.cols());
    for (size_t t = 0; t < ids.size(); ++t) x.row(static_cast<Index>(t)) = table.row(ids[t]);
    for (Index layer = 0; layer < config_.layers; ++layer) {
      const std::string path = "model.layers." + std::to_string(layer);
      x += attention(normed(x, path + ".input_layernorm"), layer, path + ".self_attn.");
      const Matrix h = normed(x, path + ".post_attention_layernorm");
      x += layer < config_.dense_layers ? mlp(h, path + ".mlp.") : moe(h, path + ".mlp.");
    }
    return normed(x, "model.norm") * tensors_.matrix("lm_head").transpose();
  }

 private:
  static Config read(const std::filesystem::path& directory) {
    std::ifstream file(directory / "config.json");
    if (!file) throw Error((directory / "config.json").string(), ": cannot be read");
    return Config(Json::parse(file));
  }

  Matrix normed(const Matrix& x, const std::string& path) const {
    return rms_norm(x, tensors_.vector(path + ".weight"), config_.epsilon);
  }

  Matrix apply(const Matrix& x, const std::string& path) const {
    return x * tensors_.matrix(path).transpose();
  }

  Matrix mlp(const Matrix& x, const std::string& path) const {
    return swiglu(x, tensors_.matrix(path + "gate_proj"), tensors_.matrix(path + "up_proj"),
                  tensors_.matrix(path + "down_proj"));
  }

  Matrix attention(const Matrix& x, Index layer, const std::string& path) const;
  Matrix seen(const Matrix& x, const Matrix& q_low, Index layer, const std::string& path) const;
  Matrix moe(const Matrix& x, const std::string& path) const;
  Vector weights_of_experts(const Vector& logits, const Vector& correction) const;

  Config config_;
  Tensors tensors_;
  ChoosePositions choose_;
};

Matrix Model::attention(const Matrix& x, Index layer, const std::string& path) const {
  const Config& c = config_;
  const Matrix q_low = rms_norm(apply(x, path + "q_a_proj"),
                                tensors_.vector(path + "q_a_layernorm.weight"), kInnerEpsilon);
  const Matrix q = apply(q_low, path + "q_b_proj");
  const Matrix kv = apply(x, path + "kv_a_proj_with_mqa");
  const Matrix latent = rms_norm(kv.leftCols(c.kv_rank),
                                 tensors_.vector(path + "kv_a_layernorm.weight"), kInnerEpsilon);
  const Matrix k_rope = turned(kv.rightCols(c.rope), c.rope, c.theta, false);
  const Matrix kv_of_heads = apply(latent, path + "kv_b_proj");
  const Matrix mask = seen(x, q_low, layer, path + "indexer.");
  Matrix heads(x.rows(), c.heads * c.value);
  for (Index head = 0; head < c.heads; ++head) {
    const Matrix q_head = q.middleCols(head * (c.nope + c.rope), c.nope + c.rope);
    const Matrix kv_head = kv_of_heads.middleCols(head * (c.nope + c.value), c.nope + c.value);
    const Matrix q_rope = turned(q_head.rightCols(c.rope), c.rope, c.theta, false);
    const Matrix scores = (q_head.leftCols(c.nope) * kv_head.leftCols(c.nope).transpose() +
                           q_rope * k_rope.transpose()) /
                          std::sqrt(static_cast<double>(c.nope + c.rope));
    heads.middleCols(head * c.value, c.value) = softmax(scores + mask) * kv_head.rightCols(c.value);
  }
  return apply(heads, path + "o_proj");
}

// 0 where a token attends to a position, else -infinity.
Matrix Model::seen(const Matrix& x, const Matrix& q_low, Index layer,
                   const std::string& path) const {
  const Config& c = config_;
  const Matrix q = apply(q_low, path + "wq_b");
  const Matrix k = turned(layer_norm(apply(x, path + "wk"), tensors_.vector(path + "k_norm.weight"),
                                     tensors_.vector(path + "k_norm.bias")),
                          c.rope, c.theta, true);
  const Matrix weights =
      apply(x, path + "weights_proj") / std::sqrt(static_cast<double>(c.index_heads));
  Matrix scores = Matrix::Zero(x.rows(), x.rows());
  for (Index head = 0; head < c.index_heads; ++head) {
    const Matrix turned_q =
        turned(q.middleCols(head * c.index_dim, c.index_dim), c.rope, c.theta, true);
    const Matrix products = turned_q * k.transpose() / std::sqrt(static_cast<double>(c.index_dim));
    scores += weights.col(head).asDiagonal() * products.cwiseMax(0);
  }
  Matrix mask = Matrix::Constant(x.rows(), x.rows(), -HUGE_VAL);
  for (Index t = 0; t < x.rows(); ++t) {
    if (t < c.index_topk) {
      mask.row(t).head(t + 1).setZero();
      continue;
    }
    for (const uint32_t position :
         choose_(static_cast<uint32_t>(layer), static_cast<uint32_t>(t), scores.row(t).head(t + 1),
                 static_cast<uint32_t>(c.index_topk))) {
      mask(t, position) = 0;
    }
  }
  return mask;
}

// Σ weight · expert(x), and the shared expert.
Matrix Model::moe(const Matrix& x, const std::string& path) const {
  const Matrix logits = apply(x, path + "gate");
  const Vector correction = tensors_.vector(path + "gate.e_score_correction_bias");
  Matrix weights(x.rows(), config_.experts);
  for (Index t = 0; t < x.rows(); ++t) {
    weights.row(t) = weights_of_experts(logits.row(t), correction);
  }
  Matrix result = mlp(x, path + "shared_experts.");
  for (Index e = 0; e < config_.experts; ++e) {
    const Matrix y = mlp(x, path + "experts." + std::to_string(e) + ".");
    result += weights.col(e).asDiagonal() * y;
  }
  return result;
}

// Of all experts, 0 of those not chosen. Groups are judged by their two best.
Vector Model::weights_of_experts(const Vector& logits, const Vector& correction) const {
  const Config& c = config_;
  const Vector scores = (1 + (-logits.array()).exp()).inverse();
  Vector by = scores + correction;
  const Index size = c.experts / c.groups;
  Vector of_groups(c.groups);
  for (Index g = 0; g < c.groups; ++g) {
    const Vector members = by.segment(g * size, size);
    of_groups(g) = 0;
    for (const Index i : highest(members, 2)) of_groups(g) += members(i);
  }
  const std::vector<Index> kept = highest(of_groups, c.groups_per_token);
  for (Index g = 0; g < c.groups; ++g) {
    if (std::find(kept.begin(), kept.end(), g) == kept.end()) {
      by.segment(g * size, size).setConstant(-HUGE_VAL);
    }
  }
  Vector weights = Vector::Zero(c.experts);
  for (const Index e : highest(by, c.experts_per_token)) weights(e) = scores(e);
  return weights / weights.sum() * c.routed_scale;
}

}  // namespace

std::vector<uint32_t> highest_then_earliest(const Vector& scores, uint32_t count) {
  std::vector<uint32_t> positions;
  for (const Index position : highest(scores, count)) {
    positions.push_back(static_cast<uint32_t>(position));
  }
  return positions;
}

Matrix run_deepseek_v32(const std::filesystem::path& model_directory,
                        const std::vector<uint32_t>& ids, const ChoosePositions& choose) {
  return Model(model_directory, choose).run(ids);
}

}  // namespace sluice::reference
