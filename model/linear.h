// Linear: one weight matrix of the network, y = W x (+ bias), in whatever format its file stores
// it.
//
// For a TurboQuant matrix the input is first rotated with the matrix' own signs and, in the int16
// mode, quantized, which MXFP4 and affine matrices want as well; matrices that are applied to the
// same input do this and their rows in one go (apply_linears), and those whose signs and groups are
// equal share what was prepared. Rows are spread over the workers, and no row is ever split. Owns:
// converted signs, codebook, bias. Borrows: the trunk (weights). Threads: any for reading.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "model/arena.h"
#include "model/session.h"
#include "model/trunk.h"
#include "model/workers.h"
#include "stream/weight_format.h"

namespace sluice {

// What a TurboQuant matrix needs besides its indices and scales; shared by all experts of a stack.
struct TurboQuantTables {
  kernels::Codebook codebook{};
  kernels::Rotation rotation{};
  std::vector<float> signs;  // [cols]; empty: not rotated
};

// Reads "<prefix>.codebook" and "<prefix>.signs" (all signs +1 with rotation "none": not rotated).
// Null before the trunk is loaded. Throws Error: values that are not ±1, or not finite and
// ascending.
std::unique_ptr<const TurboQuantTables> read_turboquant_tables(Trunk& trunk,
                                                               const std::string& prefix,
                                                               uint32_t cols,
                                                               bool config_says_rotated);

// A plain vector (norm weight, bias) as floats, `plus` added to each; stored as F32, F16 or BF16.
std::vector<float> read_vector(Trunk& trunk, const std::string& name, uint32_t n, float plus = 0);

// The dtypes of weights that are stored plainly.
inline constexpr std::array kPlainDTypes = {DType::bf16, DType::f16, DType::f32};
// The kernels' name for a plain dtype. Requires: one of kPlainDTypes.
kernels::Format plain_format(DType dtype);

// Sets what a matrix in one of the formats with scales and no codebook tensor has besides shape and
// bytes. Requires: one of those formats.
void set_form(const ScaledForm& form, kernels::Matrix& matrix);

// The matrix "<prefix>.weight" of the trunk with its scales, in one of those formats, its bytes
// null before the trunk is loaded; nothing if it is in none. Throws Error: as find_scaled_matrix.
std::optional<kernels::Matrix> find_scaled_matrix(Trunk& trunk, const std::string& prefix,
                                                  uint32_t rows, uint32_t cols);

class Linear {
 public:
  struct Shape {
    uint32_t rows = 0;
    uint32_t cols = 0;
    bool any_rows = false;  // products may begin and end at any row, not just at multiples of 16
  };
  Linear() = default;
  // Declares or binds "<prefix>.weight" (and .scales, .codebook, .signs if there is a .codebook;
  // or what stream/weight_format.h says), and "<prefix>.bias" if with_bias. Throws Error: missing,
  // of another shape, a format not supported.
  Linear(Trunk& trunk, const std::string& prefix, Shape shape, bool with_bias,
         bool config_says_rotated);
  // A view on an embedding table as output matrix.
  static Linear tied(const kernels::Matrix& table);

  uint32_t rows() const { return matrix_.rows; }
  uint32_t cols() const { return matrix_.cols; }
  const kernels::Matrix& matrix() const { return matrix_; }
  const TurboQuantTables* tables() const { return tables_.get(); }
  std::span<const float> bias() const { return bias_; }

 private:
  kernels::Matrix matrix_;
  std::unique_ptr<const TurboQuantTables> tables_;
  std::vector<float> bias_;
};

// What the forward pass computes with: the kernels, the threads, the mode.
struct ComputeContext {
  const kernels::Table* kernels = nullptr;
  Workers* workers = nullptr;
  Compute compute = Compute::int16;
};

// Scratch for prepared inputs: for each of `slots` matrices with inputs of their own, `vectors`
// vectors of up to max_cols.
struct InputScratch {
  struct Slot {
    float* rotated = nullptr;             // [vectors, max_cols]
    kernels::QuantizedVectors quantized;  // [vectors], group_stride for groups of 32
  };
  static constexpr uint32_t kSlots = 3;  // q, k and v; or gate and up
  Slot slots[kSlots];
  uint32_t vectors = 0;
  uint32_t max_cols = 0;

  static InputScratch layout(Arena& arena, uint32_t vectors, uint32_t max_cols);
};

// An input as a matrix wants it: rotated and quantized, or as it is.
struct PreparedInput {
  const float* x = nullptr;  // float paths
  uint32_t x_stride = 0;
  kernels::QuantizedVectors quantized;  // integer path
};

// Prepares vector `vector` of x for the matrix into the slot.
void prepare_vector(const ComputeContext& context, const kernels::Matrix& matrix,
                    const TurboQuantTables* tables, const float* x, InputScratch::Slot& slot,
                    uint32_t vector, uint32_t max_cols);
// What the matrix reads after all vectors were prepared; x is used when it needs no preparation.
PreparedInput prepared_input(const ComputeContext& context, const kernels::Matrix& matrix,
                             const TurboQuantTables* tables, const float* x, uint32_t x_stride,
                             const InputScratch::Slot& slot, uint32_t max_cols);
// Whether the matrix needs its input prepared at all: rotated, or in the int16 mode quantized.
bool needs_preparation(const kernels::Matrix& matrix);
// Copies one prepared vector into a slot, so that chosen vectors lie side by side.
void gather_vector(const kernels::Matrix& matrix, const PreparedInput& from, uint32_t from_vector,
                   InputScratch::Slot& to, uint32_t to_vector, uint32_t max_cols);
// What the matrix reads after vectors prepared like `from` were gathered into the slot.
PreparedInput gathered_input(const PreparedInput& from, const InputScratch::Slot& slot,
                             uint32_t max_cols);
// Whether what was prepared for a is, bit for bit, what b wants: equal signs and equal groups.
// Looked at once, when a network is made.
bool same_preparation(const kernels::Matrix& a, const TurboQuantTables* a_tables,
                      const kernels::Matrix& b, const TurboQuantTables* b_tables);
// The same input without its first vectors.
PreparedInput skip_vectors(PreparedInput input, uint32_t vectors);
// y rows of the task, by the path the mode asks for.
void multiply(const ComputeContext& context, const kernels::Matrix& matrix,
              const kernels::MatmulTask& task, const PreparedInput& input, float* y);

struct LinearCall {
  const Linear* linear = nullptr;
  float* y = nullptr;  // [n, y_stride]
  uint32_t y_stride = 0;
  // Which call prepares this one's input: itself, or an earlier one (share_inputs).
  std::optional<uint32_t> input = std::nullopt;
  uint32_t first = 0;  // ≤ n: vectors of y before it are left as they are
};

// For matrices that are applied to the same input: whose preparation each one reads, its own index
// or an earlier one's.
std::array<uint32_t, InputScratch::kSlots> share_inputs(std::span<const Linear* const> linears);

// y_i = W_i x + b_i for up to InputScratch::kSlots matrices on the same n vectors x [n, x_stride].
// Requires: n ≤ scratch.vectors.
void apply_linears(const ComputeContext& context, std::span<const LinearCall> calls, const float* x,
                   uint32_t x_stride, uint32_t n, InputScratch& scratch);

// How many rows one task takes, for about this many bytes of weights a task: small enough to
// balance the threads, large enough to outweigh a task's cost; a multiple of 16.
uint32_t rows_per_task(const kernels::Matrix& matrix, uint32_t n, uint32_t threads);

}  // namespace sluice
