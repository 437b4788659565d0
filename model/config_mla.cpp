// Of config.json: multi-head latent attention, and the indexer of its sparse kind.
#include "io/error.h"
#include "model/config_reader.h"

namespace sluice {
namespace {

void check_width(const JsonObject& json, const char* what, uint64_t width) {
  if (width > kMaxWidth) {
    throw Error(json.what(), ": ", what, " is ", width, ", over the limit of ", kMaxWidth);
  }
}

}  // namespace

void read_mla(const JsonObject& json, ModelConfig& config) {
  MlaConfig& mla = config.mla;
  config.heads = required_count(json, "num_attention_heads", kMaxWidth);
  // A missing q_lora_rank is a null one to every reader of these files: queries in one step.
  mla.q_rank = optional_count(json, "q_lora_rank", kMaxWidth, 0);
  mla.kv_rank = required_count(json, "kv_lora_rank", kMaxWidth);
  mla.nope_dim = required_count(json, "qk_nope_head_dim", kMaxWidth);
  mla.rope_dim = required_count(json, "qk_rope_head_dim", kMaxWidth);
  mla.value_dim = required_count(json, "v_head_dim", kMaxWidth);
  mla.rope_pairs = json.boolean("rope_interleave").value_or(true);
  if (mla.rope_dim % 2 != 0) {
    throw Error(json.what(), ": qk_rope_head_dim is ", mla.rope_dim,
                "; expected an even number, for rotary embeddings turn pairs");
  }
  if (mla.nope_dim % 2 != 0) {
    throw Error(json.what(), ": qk_nope_head_dim is ", mla.nope_dim, "; expected an even number");
  }
  const uint64_t heads = config.heads;
  check_width(json, "num_attention_heads times qk_nope_head_dim + qk_rope_head_dim",
              heads * (uint64_t{mla.nope_dim} + mla.rope_dim));
  check_width(json, "num_attention_heads times v_head_dim", heads * mla.value_dim);
  check_width(json, "kv_lora_rank + qk_rope_head_dim", uint64_t{mla.kv_rank} + mla.rope_dim);
  config.kv_heads = 1;
  config.attention_bias = json.boolean("attention_bias").value_or(false);
  config.head_dim = mla.rope_dim;  // to rope, what turns is a head of its own
  read_rope(json, config);
  if (config.rope.dimensions != mla.rope_dim) {
    throw Error(json.what(), ": partial_rotary_factor or rotary_dim turns ", config.rope.dimensions,
                " dimensions; expected all of qk_rope_head_dim, ", mla.rope_dim);
  }
  config.head_dim = mla.nope_dim + mla.rope_dim;
}

void read_indexer(const JsonObject& json, ModelConfig& config) {
  MlaConfig& mla = config.mla;
  mla.index_heads = required_count(json, "index_n_heads", kMaxWidth);
  mla.index_dim = required_count(json, "index_head_dim", kMaxWidth);
  mla.index_topk = required_count(json, "index_topk", kMaxPositions);
  check_width(json, "index_n_heads times index_head_dim",
              uint64_t{mla.index_heads} * mla.index_dim);
  if (mla.index_dim < mla.rope_dim) {
    throw Error(json.what(), ": index_head_dim is ", mla.index_dim,
                "; expected at least qk_rope_head_dim, ", mla.rope_dim);
  }
  if (mla.q_rank == 0) {
    throw Error(json.what(), ": q_lora_rank is missing; the indexer's queries are made of it");
  }
}

}  // namespace sluice
