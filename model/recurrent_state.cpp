#include "model/recurrent_state.h"

#include <algorithm>

#include "io/error.h"
#include "kernels/kernels.h"

namespace sluice {

namespace {

uint64_t history_floats(const RecurrentShape& shape) {
  return shape.layers == 0 ? 0 : uint64_t{shape.kernel - 1} * shape.channels;
}

struct Places {
  float* histories = nullptr;
  float* heads = nullptr;
};

Places layout(Arena& arena, const RecurrentShape& shape) {
  Places places;
  places.histories = arena.take<float>(shape.layers * history_floats(shape));
  places.heads = arena.take<float>(uint64_t{shape.layers} * shape.heads * shape.head_floats);
  return places;
}

}  // namespace

RecurrentShape RecurrentShape::of(const ModelConfig& config) {
  RecurrentShape shape;
  shape.layers = static_cast<uint32_t>(std::ranges::count(config.mixers, Mixer::recurrent));
  if (shape.layers == 0) return shape;
  shape.channels = config.recurrent.channels();
  shape.kernel = config.recurrent.kernel;
  shape.heads = config.recurrent.value_heads;
  shape.head_floats =
      kernels::recurrent_state_size(config.recurrent.key_dim, config.recurrent.value_dim);
  return shape;
}

RecurrentState::RecurrentState(const RecurrentShape& shape) : shape_(shape) {
  if (shape.layers == 0) return;
  layout(arena_, shape);
  arena_.allocate("the state of the recurrent layers");
  const Places places = layout(arena_, shape);
  histories_ = places.histories;
  heads_ = places.heads;
}

uint64_t RecurrentState::bytes(const RecurrentShape& shape) {
  if (shape.layers == 0) return 0;
  Arena measure;
  layout(measure, shape);
  return measure.bytes();
}

float* RecurrentState::history(uint32_t layer) const {
  return histories_ + layer * history_floats(shape_);
}

float* RecurrentState::head(uint32_t layer, uint32_t head) const {
  return heads_ + (uint64_t{layer} * shape_.heads + head) * shape_.head_floats;
}

void RecurrentState::begin() {
  if (shape_.layers == 0) return;
  if (torn_) {
    throw Error(
        "an earlier call of this session failed or was abandoned half-way, and the state of its "
        "recurrent layers cannot go back; reset the session and start over");
  }
  torn_ = true;
}

void RecurrentState::reset() {
  torn_ = false;
  std::fill_n(histories_, shape_.layers * history_floats(shape_), 0.0f);
  std::fill_n(heads_, uint64_t{shape_.layers} * shape_.heads * shape_.head_floats, 0.0f);
}

}  // namespace sluice
