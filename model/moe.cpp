#include "model/moe.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "io/check.h"

namespace sluice {

namespace {

// In a sweep, experts computed at once at most: few, so that the slots they hold are soon free for
// the reads that run ahead; one expert's many tokens keep all threads busy anyway. More where
// all of a layer's are there: the threads then wait for one another less often.
constexpr uint32_t kSweepBatch = 2, kResidentSweepBatch = 8;
// From this many tokens on, a forward call sweeps through a layer's experts instead of treating
// them as a decode step's working set.
constexpr uint32_t kSweepTokens = 9;

// Of gpt_oss, in whose files it is not written.
constexpr float kSwigluAlpha = 1.702f;

}  // namespace

Moe::Moe(Trunk& trunk, Router router, std::optional<SharedExpert> shared, const ModelConfig& config,
         const ExpertSource& source, uint32_t source_layer, ExpertForm form)
    : hidden_(config.hidden),
      inputs_(config.expert_width()),
      width_(config.expert_intermediate),
      experts_(config.experts),
      top_k_(config.experts_per_token),
      source_layer_(source_layer),
      model_layer_(source.model_layer(source_layer)),
      router_(std::move(router)),
      shared_(std::move(shared)),
      form_(std::move(form)) {
  const std::span<const ProjectionFormat> formats = source.projections(source_layer);
  const bool gate_apart = form_.activation == ExpertActivation::swiglu;
  SLUICE_CHECK(formats.size() == (gate_apart ? 3u : 2u));
  SLUICE_CHECK(form_.latent.has_value() == (config.expert_latent > 0));
  down_ = static_cast<uint32_t>(formats.size()) - 1;
  for (uint32_t m = 0; m <= down_; ++m) bind(trunk, config, formats[m], m);
  const bool one_input =
      gate_apart && same_preparation(stored_[0], tables_[0].get(), stored_[1], tables_[1].get());
  input_of_ = {0, one_input ? 0u : 1u};
}

// What all experts have in common of one matrix.
void Moe::bind(Trunk& trunk, const ModelConfig& config, const ProjectionFormat& format,
               uint32_t m) {
  kernels::Matrix& matrix = stored_[m];
  matrix.rows = format.rows;
  matrix.cols = format.cols;
  if (format.layout == MatrixLayout::tiles) matrix.layout = kernels::Layout::tiles;
  if (format.format == WeightFormat::turboquant) {
    tables_[m] =
        read_turboquant_tables(trunk, format.prefix, matrix.cols, config.turboquant.rotated);
    matrix.format = kernels::Format::turboquant;
    matrix.group = format.group;
    matrix.codebook = tables_[m] ? &tables_[m]->codebook : nullptr;
  } else if (format.format != WeightFormat::plain) {
    set_form(format.scaled, matrix);
  } else {
    matrix.format = plain_format(format.dtype);
    if (format.layout == MatrixLayout::columns) matrix.layout = kernels::Layout::columns;
  }
  if (format.bias.empty()) return;
  biases_[m].data =
      trunk.tensor(format.bias, kPlainDTypes, std::array<uint64_t, 2>{experts_, format.rows});
  biases_[m].format = plain_format(trunk.checkpoint().at(format.bias).dtype);
}

void Moe::forward(const float* x, Run& run, float* y) const {
  router_.forward(x, run);
  if (run.routing != nullptr) report_routing(run);
  group_pairs(run);

  Activations& a = *run.activations;
  std::vector<uint32_t> wanted;
  if (run.tokens == 1) {
    wanted.assign(a.chosen, a.chosen + top_k_);
  } else {
    for (uint32_t e = 0; e < experts_; ++e) {
      if (a.first_pair[e + 1] > a.first_pair[e]) wanted.push_back(e);
    }
  }
  const bool sweep = run.tokens >= kSweepTokens;
  ExpertStream::Fetch fetch =
      run.experts->fetch(source_layer_, wanted, sweep ? FetchMode::sweep : FetchMode::decode);
  if (run.while_reading) run.while_reading();
  // The reads are under way. The shared expert uses the same scratch as the routed ones, so it is
  // done before their inputs are prepared.
  if (shared_) shared_->forward(x, run, a.shared);
  const float* input = experts_input(x, run);
  prepare_inputs(input, run);
  uint32_t largest = 0;  // tokens of one expert
  for (const uint32_t e : wanted) {
    largest = std::max(largest, a.first_pair[e + 1] - a.first_pair[e]);
  }
  const uint32_t most = !sweep              ? static_cast<uint32_t>(wanted.size())
                        : fetch.all_ready() ? kResidentSweepBatch
                                            : kSweepBatch;
  std::vector<Ready> ready;
  for (;;) {
    ready.clear();
    uint32_t rows = 0;
    while (ready.size() < most && !fetch.done()) {
      // Waits for the first expert of a batch only; the others join if they are there.
      const std::optional<uint32_t> i = ready.empty() ? fetch.next() : fetch.try_next();
      if (!i) break;
      const uint32_t expert = wanted[*i];
      const uint32_t count = a.first_pair[expert + 1] - a.first_pair[expert];
      ready.push_back({.fetch_index = *i,
                       .expert = expert,
                       .first_row = 0,
                       .count = count,
                       .matrices = stored_});
      const ExpertView view = fetch.view(*i);
      for (uint32_t m = 0; m <= down_; ++m) {
        ready.back().matrices[m].data = view[m].data;
        ready.back().matrices[m].scales = view[m].scales;
        ready.back().matrices[m].biases = view[m].biases;
      }
      rows += count;
      if (rows + largest > a.mlp_vectors) break;  // the next might not fit
    }
    if (ready.empty()) break;
    compute(ready, input, run);
    for (const Ready& expert : ready) fetch.release(expert.fetch_index);
  }
  sum_experts(run, y);
}

void Moe::foresee(const float* x, uint32_t tokens, Run& run) const {
  if (tokens > 1) {
    // Where each expert is chosen four times on average, 98 of 100 are chosen at all.
    if (uint64_t{tokens} * top_k_ < uint64_t{4} * experts_) return;
    std::vector<uint32_t> all(experts_);
    std::iota(all.begin(), all.end(), 0u);
    run.experts->look_ahead(source_layer_, all, FetchMode::sweep);
    return;
  }
  router_.foresee(x, run);
  const uint32_t count = std::min(run.look_ahead, top_k_);
  run.experts->look_ahead(source_layer_, {run.activations->foreseen, count});
}

// x [tokens, hidden] as the experts read it, [tokens, inputs_].
const float* Moe::experts_input(const float* x, Run& run) const {
  if (!form_.latent) return x;
  Activations& a = *run.activations;
  const LinearCall call[] = {{&form_.latent->in, a.latent, inputs_}};
  apply_linears(run.compute, call, x, hidden_, run.tokens, a.inputs);
  return a.latent;
}

void Moe::report_routing(const Run& run) const {
  for (uint32_t t = 0; t < run.tokens; ++t) {
    run.routing->routed(model_layer_,
                        {run.activations->chosen + uint64_t{t} * top_k_, size_t{top_k_}});
  }
}

// Sorts the (token, rank) pairs by expert: pairs[first_pair[e] .. first_pair[e + 1]), tokens
// ascending; places[pair] is where each pair is.
void Moe::group_pairs(Run& run) const {
  Activations& a = *run.activations;
  const uint32_t pair_count = run.tokens * top_k_;
  std::fill(a.first_pair, a.first_pair + experts_ + 1, 0u);
  for (uint32_t pair = 0; pair < pair_count; ++pair) ++a.first_pair[a.chosen[pair] + 1];
  for (uint32_t e = 0; e < experts_; ++e) a.first_pair[e + 1] += a.first_pair[e];
  // Fill from the back with the starts of the next expert as cursors, which leaves them as the
  // starts.
  for (uint32_t pair = pair_count; pair-- > 0;) {
    const uint32_t e = a.chosen[pair];
    a.places[pair] = --a.first_pair[e + 1];
    a.pairs[a.places[pair]] = pair;
  }
  std::rotate(a.first_pair, a.first_pair + 1, a.first_pair + experts_ + 1);
  a.first_pair[experts_] = pair_count;
}

// Rotates and quantizes every token once for all experts of the layer, which share their signs; and
// for gate and up together, if they do too.
void Moe::prepare_inputs(const float* x, Run& run) const {
  Activations& a = *run.activations;
  for (uint32_t m = 0; m < down_; ++m) {
    if (!needs_preparation(stored_[m]) || input_of_[m] != m) continue;
    run.compute.workers->run(run.tokens, [&](uint32_t t, uint32_t) {
      prepare_vector(run.compute, stored_[m], tables_[m].get(), x + uint64_t{t} * inputs_,
                     a.inputs.slots[m], t, a.inputs.max_cols);
    });
  }
}

std::vector<Moe::Block> Moe::blocks(std::span<const Ready> ready, uint32_t first_matrix,
                                    uint32_t end_matrix, uint32_t threads) const {
  std::vector<Block> blocks;
  for (uint32_t r = 0; r < ready.size(); ++r) {
    for (uint32_t m = first_matrix; m < end_matrix; ++m) {
      const uint32_t rows = stored_[m].rows;
      const uint32_t step = rows_per_task(stored_[m], ready[r].count, threads);
      for (uint32_t begin = 0; begin < rows; begin += step) {
        blocks.push_back({r, m, begin, std::min(begin + step, rows)});
      }
    }
  }
  return blocks;
}

void Moe::compute(std::span<Ready> ready, const float* x, Run& run) const {
  const ComputeContext& context = run.compute;
  Activations& a = *run.activations;
  InputScratch& gathered = a.gathered_inputs;
  std::array<PreparedInput, kMaxProjections> inputs;
  for (uint32_t m = 0; m < down_; ++m) {
    inputs[m] = prepared_input(context, stored_[m], tables_[m].get(), x, inputs_,
                               a.inputs.slots[input_of_[m]], a.inputs.max_cols);
  }

  // Each expert's tokens side by side.
  std::vector<uint32_t> pairs;  // of the rows
  for (Ready& expert : ready) {
    expert.first_row = static_cast<uint32_t>(pairs.size());
    const uint32_t* first = a.pairs + a.first_pair[expert.expert];
    pairs.insert(pairs.end(), first, first + expert.count);
  }
  const auto rows = static_cast<uint32_t>(pairs.size());
  const auto gather = [&](uint32_t row, uint32_t) {
    for (uint32_t m = 0; m < down_; ++m) {
      if (input_of_[m] != m) continue;
      gather_vector(stored_[m], inputs[m], pairs[row] / top_k_, gathered.slots[m], row,
                    gathered.max_cols);
    }
  };
  if (run.tokens == 1) {
    // Less than waking another thread.
    for (uint32_t row = 0; row < rows; ++row) gather(row, 0);
  } else {
    context.workers->run(rows, gather);
  }
  for (uint32_t m = 0; m < down_; ++m) {
    inputs[m] = gathered_input(inputs[m], gathered.slots[input_of_[m]], gathered.max_cols);
  }
  multiply_blocks(ready, 0, down_, inputs, run, {a.gate, a.up, nullptr});

  context.workers->run(rows, [&](uint32_t row, uint32_t) {
    const float* activated = activate(row, run);
    if (needs_preparation(stored_[down_])) {
      prepare_vector(context, stored_[down_], tables_[down_].get(), activated,
                     gathered.slots[down_], row, gathered.max_cols);
    }
  });
  const float* activated = form_.activation == ExpertActivation::swiglu_clamped ? a.up : a.gate;
  inputs[down_] = prepared_input(context, stored_[down_], tables_[down_].get(), activated, width_,
                                 gathered.slots[down_], gathered.max_cols);
  std::array<float*, kMaxProjections> outputs{};
  outputs[down_] = a.expert_rows;
  multiply_blocks(ready, down_, down_ + 1, inputs, run, outputs);
}

// Matrices [first_matrix, end_matrix) of the experts that are ready times their gathered inputs, to
// outputs[matrix], [rows, the matrix' rows]; those of down to all experts' rows, [pairs].
void Moe::multiply_blocks(std::span<const Ready> ready, uint32_t first_matrix, uint32_t end_matrix,
                          std::span<const PreparedInput> inputs, Run& run,
                          const std::array<float*, kMaxProjections>& outputs) const {
  const ComputeContext& context = run.compute;
  const std::vector<Block> tasks =
      blocks(ready, first_matrix, end_matrix, context.workers->threads());
  context.workers->run(static_cast<uint32_t>(tasks.size()), [&](uint32_t task, uint32_t) {
    const Block& block = tasks[task];
    const Ready& expert = ready[block.ready];
    const uint32_t stride = stored_[block.matrix].rows;
    const uint64_t row =
        block.matrix == down_ ? run.activations->first_pair[expert.expert] : expert.first_row;
    float* out = outputs[block.matrix] + row * stride;
    multiply(context, expert.matrices[block.matrix],
             {.row_begin = block.begin,
              .row_end = block.end,
              .vectors = expert.count,
              .y_stride = stride},
             skip_vectors(inputs[block.matrix], expert.first_row), out);
    add_bias(context, block, expert, out);
  });
}

// To the block's rows of out [expert.count, rows]. The biases stay as they are stored: as floats
// those of a large model would take twice as much.
void Moe::add_bias(const ComputeContext& context, const Block& block, const Ready& expert,
                   float* out) const {
  const Bias& bias = biases_[block.matrix];
  if (bias.data == nullptr) return;
  const uint64_t width = bias.format == kernels::Format::f32 ? 4 : 2;
  const uint64_t stride = stored_[block.matrix].rows;
  const std::byte* of_expert = bias.data + expert.expert * stride * width;
  std::array<float, 256> values;
  for (uint32_t begin = block.begin; begin < block.end;) {
    const auto count = std::min<uint32_t>(block.end - begin, values.size());
    context.kernels->to_f32(bias.format, of_expert + begin * width, count, values.data());
    for (uint32_t v = 0; v < expert.count; ++v) {
      context.kernels->add(values.data(), count, out + v * stride + begin);
    }
    begin += count;
  }
}

// One row of the first matrices' outputs to what down reads, [width_]; returns it.
const float* Moe::activate(uint32_t row, Run& run) const {
  const Activations& a = *run.activations;
  const kernels::Table& kernels = *run.compute.kernels;
  float* first = a.gate + uint64_t{row} * stored_[0].rows;
  float* second = a.up + uint64_t{row} * width_;
  switch (form_.activation) {
    case ExpertActivation::swiglu:
      kernels.swiglu(first, second, width_, first);
      return first;
    case ExpertActivation::swiglu_clamped:
      kernels.swiglu_clamped(first, width_, kSwigluLimit, kSwigluAlpha, second);
      return second;
    case ExpertActivation::relu_squared:
      break;
  }
  kernels.relu_squared(first, width_);
  return first;
}

void Moe::sum_experts(Run& run, float* y) const {
  Activations& a = *run.activations;
  float* sums = form_.latent ? a.latent : y;
  run.compute.workers->run(run.tokens, [&](uint32_t t, uint32_t) {
    float* out = sums + uint64_t{t} * inputs_;
    std::fill(out, out + inputs_, 0.0f);
    for (uint32_t j = 0; j < top_k_; ++j) {
      const uint64_t pair = uint64_t{t} * top_k_ + j;
      run.compute.kernels->add_scaled(
          a.chosen_weights[pair], a.expert_rows + uint64_t{a.places[pair]} * inputs_, inputs_, out);
    }
  });
  if (form_.latent) {
    const LinearCall call[] = {{&form_.latent->out, y, hidden_}};
    apply_linears(run.compute, call, sums, inputs_, run.tokens, a.inputs);
  }
  if (!shared_) return;
  run.compute.workers->run(run.tokens, [&](uint32_t t, uint32_t) {
    run.compute.kernels->add(a.shared + uint64_t{t} * hidden_, hidden_, y + uint64_t{t} * hidden_);
  });
}

}  // namespace sluice
