#include "bench/expert_layers.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "bench/bench_file.h"
#include "io/checksum.h"
#include "io/error.h"
#include "model/machine.h"
#include "model/network.h"

namespace sluice::bench {
namespace {

constexpr uint32_t kTrunkPieces = 4;  // parallel regions of a layer's dense part
constexpr uint32_t kLoadDepth = 4;    // of reading codebooks and signs

// bf16 of any sign and mantissa, and a small exponent.
constexpr uint64_t kBf16Bits = 0x807f807f807f807f;
constexpr uint64_t kBf16Exponent = 0x3c003c003c003c00;

class PollBetweenTasks {
 public:
  PollBetweenTasks(Workers& workers, ExpertStream& stream) : workers_(workers) {
    workers.between_tasks([&stream] { stream.poll(); });
  }
  ~PollBetweenTasks() { workers_.between_tasks({}); }
  PollBetweenTasks(const PollBetweenTasks&) = delete;
  PollBetweenTasks& operator=(const PollBetweenTasks&) = delete;

 private:
  Workers& workers_;
};

}  // namespace

ExpertLayers::ExpertLayers(const std::filesystem::path& directory, const Options& options)
    : config_(read_config(directory)),
      checkpoint_(Checkpoint::open(directory)),
      trunk_(checkpoint_),
      workers_(options.threads),
      context_{.kernels = &kernels::table(), .workers = &workers_, .compute = Compute::int16} {
  const std::vector<ExpertNames> names = expert_names(config_, checkpoint_);
  if (names.empty()) throw Error(directory.string(), ": this model has no experts");
  for (const ExpertNames& layer : names) {
    if (layer.projections.size() == kMatrices) continue;
    throw Error(directory.string(), ": its experts have ", layer.projections.size(),
                " matrices; this bench knows those of gate, up and down");
  }
  source_.emplace(checkpoint_, names);
  files_.reserve(checkpoint_.files().size());
  for (const std::string& path : checkpoint_.files()) files_.emplace_back(path);
  for (const DirectFile& file : files_) file_list_.push_back(&file);
  bind();  // declares
  const std::unique_ptr<ReadQueue> queue = make_read_queue(ReadBackend::automatic, kLoadDepth);
  trunk_.load(file_list_, *queue, [](uint64_t, uint64_t) {});
  bind();
  make_trunk(options.trunk_bytes);
  lay_out();
  arena_.allocate("scratch");
  lay_out();
  for (uint32_t i = 0; i < config_.expert_width(); ++i) {
    x_[i] = std::sin(static_cast<float>(i));  // of any size and sign
  }
}

const DirectFile& ExpertLayers::largest_file() const {
  return *std::ranges::max_element(files_, {}, &DirectFile::size_bytes);
}

uint64_t ExpertLayers::trunk_bytes() const {
  return uint64_t{trunk_matrix_.rows} * trunk_matrix_.cols * sizeof(uint16_t);
}

// What all experts of a layer have in common.
void ExpertLayers::bind() {
  layers_.clear();
  for (uint32_t index = 0; index < source_->layers(); ++index) {
    Layer& layer = layers_.emplace_back();
    for (uint32_t m = 0; m < kMatrices; ++m) {
      const ProjectionFormat& format = source_->projections(index)[m];
      kernels::Matrix& matrix = layer.matrices[m];
      if (format.format == WeightFormat::turboquant) {
        layer.tables[m] =
            read_turboquant_tables(trunk_, format.prefix, format.cols, config_.turboquant.rotated);
        matrix.format = kernels::Format::turboquant;
        matrix.group = format.group;
        if (layer.tables[m]) matrix.codebook = &layer.tables[m]->codebook;
      } else if (format.format == WeightFormat::plain) {
        matrix.format = plain_format(format.dtype);
      } else {
        set_form(format.scaled, matrix);
      }
      if (format.layout == MatrixLayout::tiles) matrix.layout = kernels::Layout::tiles;
      if (format.layout == MatrixLayout::columns) matrix.layout = kernels::Layout::columns;
      matrix.rows = format.rows;
      matrix.cols = format.cols;
    }
    const bool shared = same_preparation(layer.matrices[0], layer.tables[0].get(),
                                         layer.matrices[1], layer.tables[1].get());
    layer.input_of = {0, shared ? 0u : 1u};
  }
}

void ExpertLayers::lay_out() {
  const uint32_t k = config_.experts_per_token;
  const uint32_t hidden = config_.expert_width(), width = config_.expert_intermediate;
  inputs_ = InputScratch::layout(arena_, 1, hidden);
  down_inputs_ = InputScratch::layout(arena_, k, width);
  x_ = arena_.take<float>(hidden);
  outputs_ = {arena_.take<float>(uint64_t{k} * width), arena_.take<float>(uint64_t{k} * width),
              arena_.take<float>(uint64_t{k} * hidden)};
  sum_ = arena_.take<float>(hidden);
  trunk_out_ = arena_.take<float>(trunk_matrix_.rows);
}

void ExpertLayers::make_trunk(uint64_t bytes) {
  trunk_matrix_.format = kernels::Format::bf16;
  trunk_matrix_.cols = config_.expert_width();
  trunk_matrix_.rows =
      static_cast<uint32_t>(bytes / (uint64_t{trunk_matrix_.cols} * sizeof(uint16_t)));
  if (trunk_matrix_.rows == 0) return;
  const uint64_t all_bytes = trunk_bytes() * source_->layers();
  trunk_slab_ = std::make_unique<Slab>((all_bytes + kPageBytes - 1) / kPageBytes * kPageBytes);
  const std::span<uint64_t> words(reinterpret_cast<uint64_t*>(trunk_slab_->data()),
                                  trunk_slab_->bytes().size() / sizeof(uint64_t));
  fill_random(0, words);
  for (uint64_t& word : words) word = (word & kBf16Bits) | kBf16Exponent;
}

void ExpertLayers::multiply_trunk(uint32_t layer, ExpertStream& stream) {
  if (trunk_matrix_.rows == 0) return;
  const PollBetweenTasks polls(workers_, stream);
  kernels::Matrix matrix = trunk_matrix_;
  matrix.data = trunk_slab_->data() + layer * trunk_bytes();
  const PreparedInput input{.x = x_, .x_stride = matrix.cols, .quantized = {}};
  const uint32_t step = rows_per_task(matrix, 1, threads());
  const uint32_t tasks = (matrix.rows + step - 1) / step;
  for (uint32_t piece = 0; piece < kTrunkPieces; ++piece) {
    const uint32_t first = tasks * piece / kTrunkPieces;
    workers_.run(tasks * (piece + 1) / kTrunkPieces - first, [&](uint32_t task, uint32_t) {
      const uint32_t begin = (first + task) * step;
      const uint32_t end = std::min(begin + step, matrix.rows);
      multiply(context_, matrix, {.row_begin = begin, .row_end = end, .y_stride = matrix.rows},
               input, trunk_out_);
    });
  }
}

PreparedInput ExpertLayers::input_of(const Layer& layer, uint32_t m) const {
  const TurboQuantTables* tables = layer.tables[m].get();
  if (m == kDown) {
    return prepared_input(context_, layer.matrices[m], tables, outputs_[0], layer.matrices[m].cols,
                          down_inputs_.slots[0], down_inputs_.max_cols);
  }
  return prepared_input(context_, layer.matrices[m], tables, x_, layer.matrices[m].cols,
                        inputs_.slots[layer.input_of[m]], inputs_.max_cols);
}

void ExpertLayers::multiply_experts(uint32_t layer_index, std::span<const uint32_t> experts,
                                    ExpertStream::Fetch& fetch, ExpertStream& stream) {
  const Layer& layer = layers_[layer_index];
  const PollBetweenTasks polls(workers_, stream);
  prepare_inputs(layer);
  for (;;) {
    ready_.clear();
    while (!fetch.done()) {
      // Waits for the first of a batch only; the others join if they are there.
      const std::optional<uint32_t> rank = ready_.empty() ? fetch.next() : fetch.try_next();
      if (!rank) break;
      ready_.push_back({*rank, fetch.view(*rank)});
    }
    if (ready_.empty()) break;
    multiply_ready(layer);
    for (const Ready& expert : ready_) fetch.release(expert.rank);
  }
  const uint32_t hidden = layer.matrices[kDown].rows;
  std::fill(sum_, sum_ + hidden, 0.0f);
  const float weight = 1 / static_cast<float>(experts.size());
  for (size_t rank = 0; rank < experts.size(); ++rank) {
    context_.kernels->add_scaled(weight, outputs_[kDown] + rank * hidden, hidden, sum_);
  }
  checksum_ = checksum_ * 31 + checksum(std::as_bytes(std::span(sum_, hidden)));
}

void ExpertLayers::sweep(uint32_t layer_index, uint32_t products, ExpertStream::Fetch& fetch,
                         ExpertStream& stream) {
  const Layer& layer = layers_[layer_index];
  const PollBetweenTasks polls(workers_, stream);
  prepare_inputs(layer);
  while (const std::optional<uint32_t> i = fetch.next()) {
    ready_.assign(1, {.rank = 0, .view = fetch.view(*i)});
    for (uint32_t product = 0; product < products; ++product) multiply_ready(layer);
    fetch.release(*i);
  }
}

uint64_t ExpertLayers::take_checksum() { return std::exchange(checksum_, 0); }

void ExpertLayers::prepare_inputs(const Layer& layer) {
  for (uint32_t m = 0; m < kDown; ++m) {
    if (!needs_preparation(layer.matrices[m]) || layer.input_of[m] != m) continue;
    prepare_vector(context_, layer.matrices[m], layer.tables[m].get(), x_, inputs_.slots[m], 0,
                   inputs_.max_cols);
  }
}

void ExpertLayers::multiply_ready(const Layer& layer) {
  const std::array<PreparedInput, kMatrices> inputs = {input_of(layer, 0), input_of(layer, 1),
                                                       input_of(layer, kDown)};
  multiply_blocks(layer, ready_, 0, kDown, inputs);
  activate(layer, ready_);
  multiply_blocks(layer, ready_, kDown, kMatrices, inputs);
}

// Gate and up to what down reads.
void ExpertLayers::activate(const Layer& layer, std::span<const Ready> ready) {
  const kernels::Matrix& down = layer.matrices[kDown];
  workers_.run(static_cast<uint32_t>(ready.size()), [&](uint32_t i, uint32_t) {
    const uint32_t rank = ready[i].rank;
    float* gate = outputs_[0] + uint64_t{rank} * down.cols;
    context_.kernels->swiglu(gate, outputs_[1] + uint64_t{rank} * down.cols, down.cols, gate);
    if (!needs_preparation(down)) return;
    prepare_vector(context_, down, layer.tables[kDown].get(), gate, down_inputs_.slots[0], rank,
                   down_inputs_.max_cols);
  });
}

void ExpertLayers::multiply_blocks(const Layer& layer, std::span<const Ready> ready,
                                   uint32_t first_matrix, uint32_t end_matrix,
                                   std::span<const PreparedInput> inputs) {
  blocks_.clear();
  for (uint32_t r = 0; r < ready.size(); ++r) {
    for (uint32_t m = first_matrix; m < end_matrix; ++m) {
      const uint32_t rows = layer.matrices[m].rows;
      const uint32_t step = rows_per_task(layer.matrices[m], 1, threads());
      for (uint32_t begin = 0; begin < rows; begin += step) {
        blocks_.push_back({r, m, begin, std::min(begin + step, rows)});
      }
    }
  }
  workers_.run(static_cast<uint32_t>(blocks_.size()), [&](uint32_t task, uint32_t) {
    const Block& block = blocks_[task];
    const Ready& expert = ready[block.ready];
    kernels::Matrix matrix = layer.matrices[block.matrix];
    matrix.data = expert.view[block.matrix].data;
    matrix.scales = expert.view[block.matrix].scales;
    matrix.biases = expert.view[block.matrix].biases;
    const PreparedInput input =
        block.matrix == kDown ? skip_vectors(inputs[kDown], expert.rank) : inputs[block.matrix];
    multiply(context_, matrix,
             {.row_begin = block.begin, .row_end = block.end, .y_stride = matrix.rows}, input,
             outputs_[block.matrix] + uint64_t{expert.rank} * matrix.rows);
  });
}

void require_cache_memory(uint64_t bytes) {
  const MemoryLimits limits = memory_limits();
  if (bytes <= limits.usable_bytes()) return;
  throw Error("the caches need ", bytes / 1'000'000, " MB and there are ", limits.text(),
              "; cache a smaller share, or let there be fewer layers");
}

}  // namespace sluice::bench
