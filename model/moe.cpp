#include "model/moe.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "io/check.h"

namespace sluice {

namespace {

// In a sweep, experts computed at once at most: few, so that the slots they hold are soon free for
// the reads that run ahead; one expert's many tokens keep all threads busy anyway.
constexpr uint32_t kSweepBatch = 2;
// From this many tokens on, a forward call sweeps through a layer's experts instead of treating
// them as a decode step's working set.
constexpr uint32_t kSweepTokens = 9;

}  // namespace

Moe::Moe(Trunk& trunk, Router router, std::optional<SharedExpert> shared, const ModelConfig& config,
         const ExpertSource& source, uint32_t source_layer)
    : hidden_(config.hidden),
      width_(config.expert_intermediate),
      experts_(config.experts),
      top_k_(config.experts_per_token),
      source_layer_(source_layer),
      model_layer_(source.model_layer(source_layer)),
      router_(std::move(router)),
      shared_(std::move(shared)) {
  const std::span<const ProjectionFormat> formats = source.projections(source_layer);
  SLUICE_CHECK(formats.size() == stored_.size());
  for (uint32_t i = 0; i < stored_.size(); ++i) {
    kernels::Matrix& matrix = stored_[i];
    matrix.rows = formats[i].rows;
    matrix.cols = formats[i].cols;
    if (formats[i].dtype == DType::u32) {
      tables_[i] =
          read_turboquant_tables(trunk, formats[i].prefix, matrix.cols, config.turboquant.rotated);
      matrix.format = kernels::Format::turboquant;
      if (formats[i].layout == MatrixLayout::tiles) matrix.layout = kernels::Layout::tiles;
      matrix.group = formats[i].group;
      matrix.codebook = tables_[i] ? &tables_[i]->codebook : nullptr;
    } else {
      matrix.format = plain_format(formats[i].dtype);
    }
  }
  const bool one_input =
      same_preparation(stored_[kGate], tables_[kGate].get(), stored_[kUp], tables_[kUp].get());
  input_of_ = {kGate, one_input ? kGate : kUp};
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
  // The reads are under way. The shared expert uses the same scratch as the routed ones, so it is
  // done before their inputs are prepared.
  if (shared_) {
    shared_->forward(x, run, a.shared);
    run.experts->poll();
  }
  prepare_inputs(x, run);
  std::vector<Ready> ready;
  for (;;) {
    ready.clear();
    uint32_t rows = 0;
    const uint32_t most = sweep ? kSweepBatch : static_cast<uint32_t>(wanted.size());
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
      for (uint32_t m = 0; m < stored_.size(); ++m) {
        ready.back().matrices[m].data = view[m].data;
        ready.back().matrices[m].scales = view[m].scales;
      }
      rows += count;
      if (rows + run.tokens > a.mlp_vectors) break;  // the next might not fit
    }
    if (ready.empty()) break;
    compute(ready, x, run);
    for (const Ready& expert : ready) fetch.release(expert.fetch_index);
  }
  sum_experts(run, y);
}

void Moe::report_routing(const Run& run) const {
  for (uint32_t t = 0; t < run.tokens; ++t) {
    run.routing->routed(model_layer_,
                        {run.activations->chosen + uint64_t{t} * top_k_, size_t{top_k_}});
  }
}

// Sorts the (token, rank) pairs by expert: pairs[first_pair[e] .. first_pair[e + 1]), tokens
// ascending.
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
    a.pairs[--a.first_pair[e + 1]] = pair;
  }
  std::rotate(a.first_pair, a.first_pair + 1, a.first_pair + experts_ + 1);
  a.first_pair[experts_] = pair_count;
}

// Rotates and quantizes every token once for all experts of the layer, which share their signs; and
// for gate and up together, if they do too.
void Moe::prepare_inputs(const float* x, Run& run) const {
  Activations& a = *run.activations;
  for (const uint32_t m : {kGate, kUp}) {
    if (!needs_preparation(stored_[m]) || input_of_[m] != m) continue;
    run.compute.workers->run(run.tokens, [&](uint32_t t, uint32_t) {
      prepare_vector(run.compute, stored_[m], tables_[m].get(), x + uint64_t{t} * hidden_,
                     a.inputs.slots[m], t, a.inputs.max_cols);
    });
  }
}

std::vector<Moe::Block> Moe::blocks(std::span<const Ready> ready,
                                    std::span<const uint32_t> matrices, uint32_t threads) const {
  std::vector<Block> blocks;
  for (uint32_t r = 0; r < ready.size(); ++r) {
    for (const uint32_t m : matrices) {
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
  std::array<PreparedInput, 3> inputs;
  for (const uint32_t m : {kGate, kUp}) {
    inputs[m] = prepared_input(context, stored_[m], tables_[m].get(), x, hidden_,
                               a.inputs.slots[input_of_[m]], a.inputs.max_cols);
  }

  // Each expert's tokens side by side.
  uint32_t rows = 0;
  for (Ready& expert : ready) {
    expert.first_row = rows;
    for (uint32_t i = 0; i < expert.count; ++i, ++rows) {
      const uint32_t token = a.pairs[a.first_pair[expert.expert] + i] / top_k_;
      for (const uint32_t m : {kGate, kUp}) {
        if (input_of_[m] != m) continue;
        gather_vector(stored_[m], inputs[m], token, gathered.slots[m], rows, gathered.max_cols);
      }
    }
  }

  const uint32_t threads = context.workers->threads();
  const std::vector<Block> gate_up = blocks(ready, std::array{kGate, kUp}, threads);
  context.workers->run(static_cast<uint32_t>(gate_up.size()), [&](uint32_t task, uint32_t) {
    const Block& block = gate_up[task];
    const Ready& expert = ready[block.ready];
    float* out = (block.matrix == kGate ? a.gate : a.up) + uint64_t{expert.first_row} * width_;
    multiply(
        context, expert.matrices[block.matrix],
        {.row_begin = block.begin,
         .row_end = block.end,
         .vectors = expert.count,
         .y_stride = width_},
        skip_vectors(gathered_input(inputs[block.matrix], gathered.slots[input_of_[block.matrix]],
                                    gathered.max_cols),
                     expert.first_row),
        out);
  });
  run.experts->poll();

  context.workers->run(rows, [&](uint32_t row, uint32_t) {
    float* gate = a.gate + uint64_t{row} * width_;
    context.kernels->swiglu(gate, a.up + uint64_t{row} * width_, width_, gate);
    if (needs_preparation(stored_[kDown])) {
      prepare_vector(context, stored_[kDown], tables_[kDown].get(), gate, gathered.slots[kDown],
                     row, gathered.max_cols);
    }
  });
  inputs[kDown] = prepared_input(context, stored_[kDown], tables_[kDown].get(), a.gate, width_,
                                 gathered.slots[kDown], gathered.max_cols);

  const std::vector<Block> down = blocks(ready, std::array{kDown}, threads);
  context.workers->run(static_cast<uint32_t>(down.size()), [&](uint32_t task, uint32_t) {
    const Block& block = down[task];
    const Ready& expert = ready[block.ready];
    float* out = a.gathered + uint64_t{expert.first_row} * hidden_;
    multiply(context, expert.matrices[kDown],
             {.row_begin = block.begin,
              .row_end = block.end,
              .vectors = expert.count,
              .y_stride = hidden_},
             skip_vectors(inputs[kDown], expert.first_row), out);
    for (uint32_t i = 0; i < expert.count; ++i) {
      const uint32_t pair = a.pairs[a.first_pair[expert.expert] + i];
      std::memcpy(a.expert_rows + uint64_t{pair} * hidden_ + block.begin,
                  out + uint64_t{i} * hidden_ + block.begin,
                  (block.end - block.begin) * sizeof(float));
    }
  });
  run.experts->poll();
}

void Moe::sum_experts(Run& run, float* y) const {
  const Activations& a = *run.activations;
  run.compute.workers->run(run.tokens, [&](uint32_t t, uint32_t) {
    float* out = y + uint64_t{t} * hidden_;
    std::fill(out, out + hidden_, 0.0f);
    for (uint32_t j = 0; j < top_k_; ++j) {
      const uint64_t pair = uint64_t{t} * top_k_ + j;
      run.compute.kernels->add_scaled(a.chosen_weights[pair], a.expert_rows + pair * hidden_,
                                      hidden_, out);
    }
    if (shared_) run.compute.kernels->add(a.shared + uint64_t{t} * hidden_, hidden_, out);
  });
}

}  // namespace sluice
