#include "tests/reference/reference.h"

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

// The keys of config.json that the two families use; those that were renamed are read by either
// name.
struct Config {
  Index layers, hidden, heads, kv_heads, head_dim;
  double epsilon, rope_theta;
  bool tied;
  bool rotation_none;
  Index experts, experts_per_token, sparse_step;
  bool normalize_weights;
  std::vector<Index> dense_layers;

  bool is_moe(Index layer) const {
    return experts > 0 && (layer + 1) % sparse_step == 0 &&
           std::find(dense_layers.begin(), dense_layers.end(), layer) == dense_layers.end();
  }
};

Config read_config(const std::filesystem::path& directory) {
  std::ifstream file(directory / "config.json");
  if (!file) throw Error((directory / "config.json").string(), ": cannot be read");
  const Json json = Json::parse(file);
  const auto type = json.at("model_type").get<std::string>();
  if (type != "qwen3" && type != "qwen3_moe") {
    throw Error("the reference knows qwen3 and qwen3_moe, not ", type);
  }
  Config config{};
  config.layers = json.at("num_hidden_layers");
  config.hidden = json.at("hidden_size");
  config.heads = json.at("num_attention_heads");
  config.kv_heads = json.at("num_key_value_heads");
  config.head_dim = json.value("head_dim", config.hidden / config.heads);
  config.epsilon = json.at("rms_norm_eps");
  const Json& rope = json.contains("rope_parameters") ? json.at("rope_parameters") : json;
  config.rope_theta = rope.at("rope_theta");
  config.tied = json.value("tie_word_embeddings", false);
  const Json quantization = json.value("quantization", Json::object());
  config.rotation_none = quantization.value("rotation", "") == "none";
  if (type == "qwen3_moe") {
    config.experts = json.at(json.contains("num_experts") ? "num_experts" : "num_local_experts");
    config.experts_per_token = json.at("num_experts_per_tok");
    config.sparse_step = json.value("decoder_sparse_step", 1);
    config.normalize_weights = json.value("norm_topk_prob", false);
    config.dense_layers = json.value("mlp_only_layers", std::vector<Index>{});
  }
  return config;
}

// Row t is position t; the pair (i, i + dim/2) turns by the angle t · θ^(−2i/dim).
Matrix rope(const Matrix& x, double theta) {
  const Index half = x.cols() / 2;
  Matrix result(x.rows(), x.cols());
  for (Index t = 0; t < x.rows(); ++t) {
    for (Index i = 0; i < half; ++i) {
      const double exponent = static_cast<double>(2 * i) / static_cast<double>(x.cols());
      const double angle = static_cast<double>(t) * std::pow(theta, -exponent);
      const double a = x(t, i);
      const double b = x(t, i + half);
      result(t, i) = a * std::cos(angle) - b * std::sin(angle);
      result(t, i + half) = b * std::cos(angle) + a * std::sin(angle);
    }
  }
  return result;
}

class Model {
 public:
  explicit Model(const std::filesystem::path& directory)
      : config_(read_config(directory)), tensors_(directory, config_.rotation_none) {}

  Output run(const std::vector<uint32_t>& ids) const;

 private:
  Matrix embed(const std::vector<uint32_t>& ids, const Matrix& table) const;
  Matrix linear(const Matrix& x, const std::string& path) const;
  Matrix attention(const Matrix& x, const std::string& path) const;
  Matrix head_attention(const Matrix& q, const Matrix& k, const Matrix& v) const;
  std::vector<std::vector<Choice>> route(const Matrix& x, const std::string& path) const;
  Matrix experts(const Matrix& x, const std::string& path,
                 const std::vector<std::vector<Choice>>& choices) const;
  Matrix expert_weight(const std::string& path, uint32_t expert, const std::string& matrix) const;

  Config config_;
  Tensors tensors_;
};

Output Model::run(const std::vector<uint32_t>& ids) const {
  Output output;
  const Matrix table = tensors_.matrix("model.embed_tokens");
  Matrix x = embed(ids, table);
  output.hidden_states.push_back(x);
  for (Index layer = 0; layer < config_.layers; ++layer) {
    const std::string path = "model.layers." + std::to_string(layer);
    const Vector input_norm = tensors_.vector(path + ".input_layernorm.weight");
    const Vector post_norm = tensors_.vector(path + ".post_attention_layernorm.weight");
    x += attention(rms_norm(x, input_norm, config_.epsilon), path + ".self_attn");
    const Matrix normed = rms_norm(x, post_norm, config_.epsilon);
    std::vector<std::vector<Choice>> choices;
    if (config_.is_moe(layer)) {
      choices = route(normed, path + ".mlp.gate");
      x += experts(normed, path + ".mlp", choices);
    } else {
      x += swiglu(normed, tensors_.matrix(path + ".mlp.gate_proj"),
                  tensors_.matrix(path + ".mlp.up_proj"), tensors_.matrix(path + ".mlp.down_proj"));
    }
    output.choices.push_back(std::move(choices));
    output.hidden_states.push_back(x);
  }
  x = rms_norm(x, tensors_.vector("model.norm.weight"), config_.epsilon);
  output.hidden_states.back() = x;
  output.logits = x * (config_.tied ? table : tensors_.matrix("lm_head")).transpose();
  return output;
}

Matrix Model::embed(const std::vector<uint32_t>& ids, const Matrix& table) const {
  Matrix x(ids.size(), config_.hidden);
  for (size_t t = 0; t < ids.size(); ++t) {
    if (ids[t] >= table.rows()) throw Error("token ", ids[t], " is not in the vocabulary");
    x.row(static_cast<Index>(t)) = table.row(ids[t]);
  }
  return x;
}

// W x, plus the bias where there is one, for every row x.
Matrix Model::linear(const Matrix& x, const std::string& path) const {
  Matrix y = x * tensors_.matrix(path).transpose();
  if (tensors_.contains(path + ".bias")) {
    y.rowwise() += tensors_.vector(path + ".bias").transpose();
  }
  return y;
}

Matrix Model::attention(const Matrix& x, const std::string& path) const {
  const Matrix q = linear(x, path + ".q_proj");
  const Matrix k = linear(x, path + ".k_proj");
  const Matrix v = linear(x, path + ".v_proj");
  const Vector q_norm = tensors_.vector(path + ".q_norm.weight");
  const Vector k_norm = tensors_.vector(path + ".k_norm.weight");
  const Index dim = config_.head_dim;
  const auto normed_and_turned = [&](const Matrix& all, Index head, const Vector& norm) {
    return rope(rms_norm(all.middleCols(head * dim, dim), norm, config_.epsilon),
                config_.rope_theta);
  };
  Matrix heads(x.rows(), config_.heads * dim);
  for (Index head = 0; head < config_.heads; ++head) {
    const Index kv_head = head / (config_.heads / config_.kv_heads);
    heads.middleCols(head * dim, dim) =
        head_attention(normed_and_turned(q, head, q_norm), normed_and_turned(k, kv_head, k_norm),
                       v.middleCols(kv_head * dim, dim));
  }
  return linear(heads, path + ".o_proj");
}

// softmax(q kᵀ / √dim) v; a position sees itself and those before it.
Matrix Model::head_attention(const Matrix& q, const Matrix& k, const Matrix& v) const {
  Matrix scores = q * k.transpose() / std::sqrt(static_cast<double>(config_.head_dim));
  for (Index t = 0; t < scores.rows(); ++t) {
    scores.row(t).tail(scores.cols() - t - 1).setConstant(-HUGE_VAL);
  }
  return softmax(scores) * v;
}

// Softmax over all experts' scores, then the largest few, then (if asked) their sum brought to 1.
std::vector<std::vector<Choice>> Model::route(const Matrix& x, const std::string& path) const {
  const Matrix probabilities = softmax(x * tensors_.matrix(path).transpose());
  std::vector<std::vector<Choice>> result;
  for (Index t = 0; t < x.rows(); ++t) {
    std::vector<uint32_t> order(static_cast<size_t>(config_.experts));
    std::iota(order.begin(), order.end(), 0u);
    std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
      return probabilities(t, a) > probabilities(t, b);
    });
    order.resize(static_cast<size_t>(config_.experts_per_token));
    double sum = 0;
    for (const uint32_t expert : order) sum += probabilities(t, expert);
    std::vector<Choice> chosen;
    for (const uint32_t expert : order) {
      const double weight = probabilities(t, expert);
      chosen.push_back({expert, config_.normalize_weights ? weight / sum : weight});
    }
    result.push_back(std::move(chosen));
  }
  return result;
}

// Σ weight · expert(x) over each row's choices, one expert after the other, for the rows that chose
// it.
Matrix Model::experts(const Matrix& x, const std::string& path,
                      const std::vector<std::vector<Choice>>& choices) const {
  Matrix result = Matrix::Zero(x.rows(), x.cols());
  for (uint32_t expert = 0; expert < config_.experts; ++expert) {
    std::vector<Index> rows;
    std::vector<double> weights;
    for (size_t t = 0; t < choices.size(); ++t) {
      for (const Choice& choice : choices[t]) {
        if (choice.expert != expert) continue;
        rows.push_back(static_cast<Index>(t));
        weights.push_back(choice.weight);
      }
    }
    if (rows.empty()) continue;
    const Matrix y =
        swiglu(x(rows, Eigen::all), expert_weight(path, expert, "gate_proj"),
               expert_weight(path, expert, "up_proj"), expert_weight(path, expert, "down_proj"));
    for (size_t i = 0; i < rows.size(); ++i) {
      result.row(rows[i]) += weights[i] * y.row(static_cast<Index>(i));
    }
  }
  return result;
}

// Published checkpoints hold a matrix per expert, TurboQuant ones stack them.
Matrix Model::expert_weight(const std::string& path, uint32_t expert,
                            const std::string& matrix) const {
  const std::string stacked = path + ".switch_mlp." + matrix;
  if (tensors_.contains(stacked + ".weight")) return tensors_.expert_matrix(stacked, expert);
  return tensors_.matrix(path + ".experts." + std::to_string(expert) + "." + matrix);
}

}  // namespace

Output run(const std::filesystem::path& model_directory, const std::vector<uint32_t>& ids) {
  return Model(model_directory).run(ids);
}

}  // namespace sluice::reference
