#include "model/linear.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "io/check.h"
#include "io/error.h"
#include "kernels/tiles.h"
#include "stream/record_format.h"

namespace sluice {

namespace {

constexpr std::array kHalf = {DType::f16};
constexpr std::array kIndices = {DType::u32};

std::string at(const Trunk& trunk, const std::string& name) {
  const TensorInfo& info = trunk.checkpoint().at(name);
  return trunk.checkpoint().files()[info.file] + ": tensor " + name;
}

// Multiply-adds that a task should at least hold: some microseconds of work, several times what it
// costs to hand a task to another thread.
constexpr uint64_t kTaskWork = uint64_t{64} * 1024;

// Whether inputs are rotated before such a matrix.
bool rotates(const TurboQuantTables* tables) { return tables != nullptr && !tables->signs.empty(); }

}  // namespace

kernels::Format plain_format(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return kernels::Format::f32;
    case DType::f16:
      return kernels::Format::f16;
    default:
      SLUICE_CHECK(dtype == DType::bf16);
      return kernels::Format::bf16;
  }
}

std::vector<float> read_vector(Trunk& trunk, const std::string& name, uint32_t n, float plus) {
  const std::array<uint64_t, 1> shape = {n};
  const std::byte* bytes = trunk.tensor(name, kPlainDTypes, shape);
  trunk.count_converted(n * sizeof(float));
  if (bytes == nullptr) return {};
  std::vector<float> values(n);
  kernels::table().to_f32(plain_format(trunk.checkpoint().at(name).dtype), bytes, n, values.data());
  if (plus != 0) {
    for (float& value : values) value += plus;
  }
  return values;
}

std::unique_ptr<const TurboQuantTables> read_turboquant_tables(Trunk& trunk,
                                                               const std::string& prefix,
                                                               uint32_t cols,
                                                               bool config_says_rotated) {
  const TensorInfo& codebook = trunk.checkpoint().at(prefix + ".codebook");
  const uint64_t length = codebook.shape.empty() ? 0 : codebook.shape[0];
  if (codebook.shape.size() != 1 || !is_codebook_length(length)) {
    throw Error(at(trunk, prefix + ".codebook"), " has the shape ", shape_text(codebook.shape),
                "; expected 3 (ternary), 4, 8, 16 or 256 centroids");
  }
  const std::array<uint64_t, 1> codebook_shape = {length};
  const std::array<uint64_t, 1> signs_shape = {cols};
  const std::byte* codebook_bytes = trunk.tensor(prefix + ".codebook", kHalf, codebook_shape);
  const std::byte* signs_bytes = trunk.tensor(prefix + ".signs", kHalf, signs_shape);
  trunk.count_converted(sizeof(TurboQuantTables) + cols * sizeof(float));
  if (codebook_bytes == nullptr) return nullptr;

  const kernels::Table& table = kernels::table();
  auto tables = std::make_unique<TurboQuantTables>();
  float centroids[256] = {};
  table.to_f32(kernels::Format::f16, codebook_bytes, length, centroids);
  for (uint64_t i = 0; i < length; ++i) {
    if (!std::isfinite(centroids[i]) || (i > 0 && centroids[i] <= centroids[i - 1])) {
      throw Error(at(trunk, prefix + ".codebook"), " is not ascending and finite at entry ", i,
                  " (", centroids[i], "); the file is damaged");
    }
  }
  if (length == 256 && !kernels::is_uniform(centroids, static_cast<uint32_t>(length))) {
    throw Error(at(trunk, prefix + ".codebook"),
                " is not (2i - 255) times a step: codebooks of 8 bits are read in the form that "
                "stream-convert writes");
  }
  tables->codebook = kernels::make_codebook(centroids, static_cast<uint32_t>(length));

  std::vector<float> signs(cols);
  table.to_f32(kernels::Format::f16, signs_bytes, cols, signs.data());
  bool any_negative = false;
  for (uint32_t i = 0; i < cols; ++i) {
    if (signs[i] != 1.0f && signs[i] != -1.0f) {
      throw Error(at(trunk, prefix + ".signs"), " holds ", signs[i], " at ", i,
                  "; signs are +1 or -1. The file is damaged");
    }
    any_negative = any_negative || signs[i] < 0;
  }
  // A single -1 means rotated, whatever the config says.
  if (any_negative || config_says_rotated) {
    tables->rotation = kernels::make_rotation(cols);
    tables->signs = std::move(signs);
  }
  return tables;
}

void set_form(const ScaledForm& form, kernels::Matrix& matrix) {
  matrix.group = form.group;
  switch (form.format) {
    case WeightFormat::mxfp4:
      matrix.format = kernels::Format::mxfp4;
      matrix.codebook = &kernels::mxfp4_codebook();
      return;
    case WeightFormat::f8_blocks:
      matrix.format = kernels::Format::f8_e4m3;
      matrix.block_rows = form.block_rows;
      matrix.scale_format = plain_format(form.scale_dtype);
      return;
    default:
      SLUICE_CHECK(form.format == WeightFormat::affine);
      matrix.format = kernels::Format::affine;
      matrix.bits = form.bits;
      matrix.scale_format = plain_format(form.scale_dtype);
  }
}

std::optional<kernels::Matrix> find_scaled_matrix(Trunk& trunk, const std::string& prefix,
                                                  uint32_t rows, uint32_t cols) {
  const Checkpoint& checkpoint = trunk.checkpoint();
  const std::optional<ScaledMatrix> found = find_scaled_matrix(
      checkpoint, prefix, std::nullopt, rows, cols, checkpoint.directory().string());
  if (!found) return std::nullopt;
  const auto bytes = [&](const TensorInfo& info) {
    return trunk.tensor(info.name, std::array{info.dtype}, info.shape);
  };
  kernels::Matrix matrix{.rows = rows, .cols = cols};
  set_form(found->form, matrix);
  matrix.data = bytes(*found->data);
  matrix.scales = bytes(*found->scales);
  if (found->biases != nullptr) matrix.biases = bytes(*found->biases);
  return matrix;
}

Linear::Linear(Trunk& trunk, const std::string& prefix, Shape shape, bool with_bias,
               bool config_says_rotated) {
  const Checkpoint& checkpoint = trunk.checkpoint();
  matrix_.rows = shape.rows;
  matrix_.cols = shape.cols;
  const std::string weight = prefix + ".weight";
  if (checkpoint.find(prefix + ".codebook") != nullptr) {
    if (checkpoint.find(prefix + ".qjl_packed") != nullptr) {
      throw Error(at(trunk, prefix + ".qjl_packed"),
                  ": QJL residuals (use_qjl) are not supported; convert the model without them");
    }
    tables_ = read_turboquant_tables(trunk, prefix, shape.cols, config_says_rotated);
    const TensorInfo& scales = checkpoint.at(prefix + ".scales");
    const uint64_t groups = scales.shape.size() == 2 ? scales.shape[1] : 0;
    const uint64_t group = groups > 0 && shape.cols % groups == 0 ? shape.cols / groups : 0;
    if (group != 32 && group != 64 && group != 128) {
      throw Error(at(trunk, prefix + ".scales"), " has the shape ", shape_text(scales.shape),
                  " for ", shape.cols,
                  " inputs; expected one scale for every 32, 64 or 128 of them");
    }
    const auto length = static_cast<uint32_t>(checkpoint.at(prefix + ".codebook").shape[0]);
    matrix_.format = kernels::Format::turboquant;
    matrix_.group = static_cast<uint32_t>(group);
    if (!shape.any_rows && shape.rows % kernels::kRowsPerTile == 0 &&
        kernels::has_tiles(shape.cols, matrix_.group, length)) {
      const Trunk::Tiles tiles = trunk.tiles(
          weight, prefix + ".scales",
          {.rows = shape.rows, .cols = shape.cols, .group = matrix_.group, .length = length});
      matrix_.layout = kernels::Layout::tiles;
      matrix_.data = tiles.codes;
      matrix_.scales = tiles.scales;
    } else {
      const std::array<uint64_t, 2> data_shape = {shape.rows,
                                                  kernels::row_words(shape.cols, length)};
      const std::array<uint64_t, 2> scales_shape = {shape.rows, groups};
      matrix_.data = trunk.tensor(weight, kIndices, data_shape);
      matrix_.scales = trunk.tensor(prefix + ".scales", kHalf, scales_shape);
    }
    matrix_.codebook = tables_ ? &tables_->codebook : nullptr;
  } else if (const std::optional<kernels::Matrix> scaled =
                 find_scaled_matrix(trunk, prefix, shape.rows, shape.cols)) {
    matrix_ = *scaled;
  } else {
    for (const char* other : {".qweight", ".weight_scale"}) {
      if (checkpoint.find(prefix + other) != nullptr) {
        throw Error(at(trunk, prefix + other),
                    ": this quantization is not supported; supported are "
                    "F32, F16, BF16, F8_E4M3 with scales for blocks, MXFP4, MLX affine "
                    "quantization and TurboQuant (see docs/formats.md)");
      }
    }
    const std::array<uint64_t, 2> plain_shape = {shape.rows, shape.cols};
    matrix_.data = trunk.tensor(weight, kPlainDTypes, plain_shape);
    matrix_.format = plain_format(checkpoint.at(weight).dtype);
  }
  if (with_bias) bias_ = read_vector(trunk, prefix + ".bias", shape.rows);
}

Linear Linear::tied(const kernels::Matrix& table) {
  Linear linear;
  linear.matrix_ = table;
  return linear;
}

InputScratch InputScratch::layout(Arena& arena, uint32_t vectors, uint32_t max_cols) {
  InputScratch scratch;
  scratch.vectors = vectors;
  // An odd number of 64: vectors that lie a multiple of 4 KiB apart would share a few sets of the
  // first cache.
  scratch.max_cols = (max_cols + 63) / 64 * 64 | 64;
  const uint64_t elements = uint64_t{vectors} * scratch.max_cols;
  const uint32_t group_stride = scratch.max_cols / 32;  // the smallest group
  for (Slot& slot : scratch.slots) {
    slot.rotated = arena.take<float>(elements);
    slot.quantized.values = arena.take<std::byte>(2 * elements);
    slot.quantized.scales = arena.take<float>(uint64_t{vectors} * group_stride);
    slot.quantized.sums = arena.take<int32_t>(uint64_t{vectors} * group_stride);
    slot.quantized.value_stride = scratch.max_cols;
    slot.quantized.group_stride = group_stride;
  }
  return scratch;
}

bool needs_preparation(const kernels::Matrix& matrix) {
  return kernels::takes_integers(matrix.format);
}

void prepare_vector(const ComputeContext& context, const kernels::Matrix& matrix,
                    const TurboQuantTables* tables, const float* x, InputScratch::Slot& slot,
                    uint32_t vector, uint32_t max_cols) {
  const float* input = x;
  if (rotates(tables)) {
    float* rotated = slot.rotated + uint64_t{vector} * max_cols;
    context.kernels->rotate(tables->rotation, tables->signs.data(), x, rotated);
    input = rotated;
  }
  if (context.compute == Compute::int16) {
    context.kernels->quantize(input, matrix.cols, matrix.group, slot.quantized, vector);
  }
}

PreparedInput prepared_input(const ComputeContext& context, const kernels::Matrix& matrix,
                             const TurboQuantTables* tables, const float* x, uint32_t x_stride,
                             const InputScratch::Slot& slot, uint32_t max_cols) {
  PreparedInput input;
  input.x = x;
  input.x_stride = x_stride;
  if (!needs_preparation(matrix)) return input;
  if (context.compute == Compute::int16) {
    input.quantized = slot.quantized;
  } else if (rotates(tables)) {
    input.x = slot.rotated;
    input.x_stride = max_cols;
  }
  return input;
}

void gather_vector(const kernels::Matrix& matrix, const PreparedInput& from, uint32_t from_vector,
                   InputScratch::Slot& to, uint32_t to_vector, uint32_t max_cols) {
  const kernels::QuantizedVectors& source = from.quantized;
  if (source.values == nullptr) {
    std::memcpy(to.rotated + uint64_t{to_vector} * max_cols,
                from.x + uint64_t{from_vector} * from.x_stride, matrix.cols * sizeof(float));
    return;
  }
  const kernels::QuantizedVectors& target = to.quantized;
  const uint64_t groups = matrix.cols / matrix.group;
  const uint64_t padded = (uint64_t{matrix.cols} + 63) / 64 * 64;
  std::memcpy(target.values + 2 * uint64_t{to_vector} * target.value_stride,
              source.values + 2 * uint64_t{from_vector} * source.value_stride, 2 * padded);
  std::memcpy(target.scales + uint64_t{to_vector} * target.group_stride,
              source.scales + uint64_t{from_vector} * source.group_stride, groups * sizeof(float));
  std::memcpy(target.sums + uint64_t{to_vector} * target.group_stride,
              source.sums + uint64_t{from_vector} * source.group_stride, groups * sizeof(int32_t));
}

PreparedInput gathered_input(const PreparedInput& from, const InputScratch::Slot& slot,
                             uint32_t max_cols) {
  PreparedInput input;
  if (from.quantized.values != nullptr) {
    input.quantized = slot.quantized;
  } else {
    input.x = slot.rotated;
    input.x_stride = max_cols;
  }
  return input;
}

bool same_preparation(const kernels::Matrix& a, const TurboQuantTables* a_tables,
                      const kernels::Matrix& b, const TurboQuantTables* b_tables) {
  if (!needs_preparation(a) || !needs_preparation(b) || a.cols != b.cols || a.group != b.group) {
    return false;
  }
  // Of TurboQuant, none before the trunk is loaded: then nothing is known.
  const auto known = [](const kernels::Matrix& matrix, const TurboQuantTables* tables) {
    return matrix.format != kernels::Format::turboquant || tables != nullptr;
  };
  if (!known(a, a_tables) || !known(b, b_tables)) return false;
  if (!rotates(a_tables) || !rotates(b_tables)) return rotates(a_tables) == rotates(b_tables);
  return a_tables->signs == b_tables->signs;
}

std::array<uint32_t, InputScratch::kSlots> share_inputs(std::span<const Linear* const> linears) {
  SLUICE_CHECK(linears.size() <= InputScratch::kSlots);
  std::array<uint32_t, InputScratch::kSlots> inputs{};
  for (uint32_t i = 0; i < linears.size(); ++i) {
    uint32_t& input = inputs[i];
    while (input < i && !same_preparation(linears[input]->matrix(), linears[input]->tables(),
                                          linears[i]->matrix(), linears[i]->tables())) {
      ++input;
    }
  }
  return inputs;
}

PreparedInput skip_vectors(PreparedInput input, uint32_t vectors) {
  if (input.quantized.values != nullptr) {
    input.quantized.values += 2 * uint64_t{vectors} * input.quantized.value_stride;
    input.quantized.scales += uint64_t{vectors} * input.quantized.group_stride;
    input.quantized.sums += uint64_t{vectors} * input.quantized.group_stride;
  } else {
    input.x += uint64_t{vectors} * input.x_stride;
  }
  return input;
}

void multiply(const ComputeContext& context, const kernels::Matrix& matrix,
              const kernels::MatmulTask& task, const PreparedInput& input, float* y) {
  if (input.quantized.values != nullptr) {
    context.kernels->matmul_integer(matrix, task, input.quantized, y);
  } else {
    kernels::MatmulTask strided = task;
    strided.x_stride = input.x_stride;
    context.kernels->matmul(matrix, strided, input.x, y);
  }
}

uint32_t rows_per_task(const kernels::Matrix& matrix, uint32_t n, uint32_t threads) {
  const uint64_t work_per_row = std::max<uint64_t>(1, uint64_t{matrix.cols} * n);
  const uint64_t least = (kTaskWork + work_per_row - 1) / work_per_row;
  const uint64_t tasks = uint64_t{4} * threads;
  const uint64_t balanced = (matrix.rows + tasks - 1) / tasks;
  const uint64_t rows = std::min<uint64_t>(std::max(least, balanced), matrix.rows);
  return static_cast<uint32_t>((rows + 15) / 16 * 16);
}

void apply_linears(const ComputeContext& context, std::span<const LinearCall> calls, const float* x,
                   uint32_t x_stride, uint32_t n, InputScratch& scratch) {
  SLUICE_CHECK(calls.size() <= InputScratch::kSlots && n <= scratch.vectors);
  const auto count = static_cast<uint32_t>(calls.size());
  std::array<uint32_t, InputScratch::kSlots> to_prepare{};
  std::array<uint32_t, InputScratch::kSlots> first_read;  // of a call's input, by whom it serves
  first_read.fill(n);
  uint32_t preparations = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t input = calls[i].input.value_or(i);
    first_read[input] = std::min(first_read[input], calls[i].first);
    if (input == i && needs_preparation(calls[i].linear->matrix())) to_prepare[preparations++] = i;
  }
  const auto prepare = [&](uint32_t task, uint32_t) {
    const uint32_t i = to_prepare[task / n];
    if (task % n < first_read[i]) return;
    const Linear& linear = *calls[i].linear;
    prepare_vector(context, linear.matrix(), linear.tables(), x + uint64_t{task % n} * x_stride,
                   scratch.slots[i], task % n, scratch.max_cols);
  };
  if (n == 1) {
    // A few microseconds in all: less than waking another thread.
    for (uint32_t task = 0; task < preparations; ++task) prepare(task, 0);
  } else {
    context.workers->run(preparations * n, prepare);
  }

  // One parallel region over the row blocks of all matrices.
  std::array<uint32_t, InputScratch::kSlots> block_rows{};
  std::array<uint32_t, InputScratch::kSlots + 1> first_task{};
  std::array<PreparedInput, InputScratch::kSlots> inputs{};
  for (uint32_t i = 0; i < count; ++i) {
    const Linear& linear = *calls[i].linear;
    first_task[i + 1] = first_task[i];
    if (calls[i].first == n) continue;
    block_rows[i] = rows_per_task(linear.matrix(), n - calls[i].first, context.workers->threads());
    first_task[i + 1] += (linear.rows() + block_rows[i] - 1) / block_rows[i];
    const PreparedInput all =
        prepared_input(context, linear.matrix(), linear.tables(), x, x_stride,
                       scratch.slots[calls[i].input.value_or(i)], scratch.max_cols);
    inputs[i] = skip_vectors(all, calls[i].first);
  }
  context.workers->run(first_task[count], [&](uint32_t task, uint32_t) {
    uint32_t i = 0;
    while (task >= first_task[i + 1]) ++i;
    const Linear& linear = *calls[i].linear;
    const uint32_t begin = (task - first_task[i]) * block_rows[i];
    const uint32_t end = std::min(begin + block_rows[i], linear.rows());
    const uint32_t stride = calls[i].y_stride;
    const uint32_t vectors = n - calls[i].first;
    float* const y = calls[i].y + uint64_t{calls[i].first} * stride;
    multiply(context, linear.matrix(),
             {.row_begin = begin, .row_end = end, .vectors = vectors, .y_stride = stride},
             inputs[i], y);
    if (linear.bias().empty()) return;
    for (uint32_t v = 0; v < vectors; ++v) {
      context.kernels->add(linear.bias().data() + begin, end - begin,
                           y + uint64_t{v} * stride + begin);
    }
  });
}

}  // namespace sluice
