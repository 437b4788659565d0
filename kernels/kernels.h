// Kernels: the arithmetic of a transformer on plain spans, once per instruction set.
//
// One struct of function pointers; scalar.cpp, avx2.cpp, avx512.cpp and amx.cpp each fill one,
// dispatch.cpp picks once (SLUICE_ISA=scalar|avx2|avx512|amx forces one). Nothing here allocates,
// locks, throws or keeps state; every function may be called from any thread. Arrays of floats are
// contiguous and need no alignment unless said; weights come as stored in their files, at any
// address.
//
// Determinism. Every table gives the same bits for the same input, for any split of the rows among
// threads and of the tokens among calls:
//  * A float dot product of n terms has 16 lanes; lane j accumulates terms j, j+16, j+32, ... in
//    order with fma, a short last block being padded with zero weights and zero inputs. The lanes
//    are then summed by halves: l[j] += l[j+8], then +4, +2, +1 (kernels::sum of scalar.cpp). Sums
//    (RMS norm, softmax) do the same with plain additions.
//  * Integer dot products are exact in int32, so their order is free; the group results are
//  accumulated
//    in float, group after group: acc = fma(float(dot), weight_scale * input_scale, acc).
//  * exp is one polynomial with fixed fma steps (exp_f32 in scalar.cpp); sqrt and division are
//  IEEE's.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sluice::kernels {

enum class Isa : uint8_t { scalar, avx2, avx512, amx };

enum class Format : uint8_t {
  f32,
  f16,
  bf16,
  turboquant,  // codebook indices + F16 scales, see Matrix
  mxfp4,       // E2M1 indices of mxfp4_codebook() + E8M0 scales
  f8_e4m3,     // bytes + a scale for each block of rows and columns
  affine,      // unsigned integers of 2 to 8 bits + a scale and a bias for each group of inputs
};

// How a matrix lies in memory.
enum class Layout : uint8_t {
  rows,     // row after row; of TurboQuant the words of MLX files
  tiles,    // TurboQuant and MXFP4: the kernels' own order, 16 rows at once; see kernels/tiles.h
  columns,  // f32, f16, bf16 alone: input after input, of each the weights of all rows
};

// The centroids of a TurboQuant matrix, prepared for the kernels (make_codebook); or of MXFP4.
struct alignas(64) Codebook {
  float values[16];  // centroids as stored; unused entries 0
  // values[i] ≈ quantized[i] * step. All even or all odd, and at most 255 in magnitude: half the
  // distance to the lowest such number is a byte, which is what dot products look up.
  int16_t quantized[16];
  float step;
  // 3 (ternary), 4, 8, 16, or 256: 8 bits. The last is uniform, (2i - 255) * step for every i, all
  // exact; its arrays hold the first 16, and kernels compute the values from the codes.
  uint32_t length;
};

// One weight matrix, as its file stores it: y = W x, W [rows, cols].
//
//              data                                           scales
// f32 f16 bf16 [rows, cols], row-major; in columns
//              [cols, rows], which gives the same bits
// turboquant   indices                                        F16 [rows, cols / group]
// mxfp4        indices of 4 bits (a published block of 16     E8M0 [rows, cols / 32], a byte s:
//              bytes is 4 words)                              2^(s - 127), and NaN for 255
// f8_e4m3      bytes [rows, cols]                             scale_format [rows / block_rows,
//                                                             cols / group], both rounded up
// affine       integers                                       scale_format [rows, cols / group]
//
// indices, in rows: U32 [rows, row_words]: floor(32/bits) of them per word (ternary: 20 base-3
// digits), the first in the lowest bits, the last word of a row zero padded; row_words as
// row_words() says. In tiles: [tiles, units, 64 * bits] bytes, best 64-byte aligned, and scales
// [tiles, cols / group, 16]; not for ternary.
// integers: a row is cols * bits bits, lowest first: integer i is bits [i * bits, (i + 1) * bits),
// across bytes and words.
struct Matrix {
  Format format = Format::f32;
  Layout layout = Layout::rows;
  uint32_t rows = 0;
  uint32_t cols = 0;
  const std::byte* data = nullptr;
  const std::byte* scales = nullptr;
  // affine alone, shaped like scales: a weight is scale * integer + bias.
  const std::byte* biases = nullptr;
  // Inputs that share a scale. turboquant, affine: 32, 64 or 128; mxfp4: 32; divides cols.
  // f8_e4m3: a multiple of 16, and of cols any part may be left for the last block.
  uint32_t group = 0;
  uint32_t block_rows = 0;             // f8_e4m3: rows that share a scale
  uint32_t bits = 0;                   // affine: 2, 3, 4, 5, 6 or 8
  Format scale_format = Format::f16;   // f8_e4m3, affine: f32, f16 or bf16, of scales and biases
  const Codebook* codebook = nullptr;  // turboquant, and mxfp4: mxfp4_codebook()
};

// What a vector load may touch past the last byte of data or scales: callers keep that many
// readable (not necessarily meaningful) bytes behind every matrix.
inline constexpr size_t kOverreadBytes = 64;

// Whether matmul_integer multiplies matrices of this format.
constexpr bool takes_integers(Format format) {
  return format == Format::turboquant || format == Format::mxfp4 || format == Format::affine;
}

// U32 words of a TurboQuant row of cols indices of a codebook of this length.
uint32_t row_words(uint32_t cols, uint32_t codebook_length);

// E2M1: 0, 0.5, 1, 1.5, 2, 3, 4, 6, and from 8 on their negatives; step 1/4, which is exact. Static
// storage.
const Codebook& mxfp4_codebook();

// values: length ascending finite floats. Chooses step and the parity of quantized so that the
// squared error of quantized * step, weighted with the Gaussian density at each centroid, is
// smallest. Requires: length is 3, 4, 8 or 16 and some value ≠ 0, or is_uniform(values, length).
// The uniform ones of 256 are taken as they are.
Codebook make_codebook(const float* values, uint32_t length);

// Whether these are centroids of 8 bits as kernels support them: length is 256 and values[i] is
// exactly (2i - 255) * values[128], with values[128] > 0 and all finite.
bool is_uniform(const float* values, uint32_t length);

// Vectors of inputs as 16-bit integers with a scale per group: x ≈ value * scale.
//   scale = max|x| / 32512 over the group; value = round to nearest even of x * (32512 / max|x|);
//   all 0 if max is 0.
// 32512 = 127 * 256, so a value is 256 * high + low of two int8: products with bytes, which is what
// processors multiply fastest, still give the exact sum. (Inputs of 8 bits would cost the output
// 0.6 % of its size in every matrix; these cost 0.002 %.) The order of the values in memory is the
// table's own: quantize and matmul_integer of one table belong together. The arrays are the
// caller's; rows are padded with zeros to whole 64 inputs.
struct QuantizedVectors {
  std::byte* values = nullptr;  // [vectors, 2 * value_stride], 64-byte aligned; 2 bytes an input
  float* scales = nullptr;      // [vectors, cols / group]
  int32_t* sums = nullptr;      // [vectors, cols / group]: Σ values
  uint32_t value_stride = 0;    // inputs between vectors: multiple of 64, ≥ cols
  uint32_t group_stride = 0;    // ≥ cols / group
};

// Rows [row_begin, row_end) of a matrix times several vectors.
struct MatmulTask {
  uint32_t row_begin = 0;  // in tiles: a multiple of 16
  uint32_t row_end = 0;    // in tiles: a multiple of 16, or the matrix's rows
  uint32_t vectors = 1;
  uint32_t x_stride = 0;  // floats between input vectors (float paths)
  uint32_t y_stride = 0;  // floats between output vectors
};

// The randomized Hadamard of TurboQuant on vectors of n: runs of run = m * 2^k, each
// (1/√run) (H_m ⊗ H_2^k); m is 1, 12, 20 or 28. Fast Walsh–Hadamard within each of a run's m parts
// of 2^k (stages h = 1, 2, 4, ...: a+b, a-b), then H_m across the parts (out_j = Σ_k ±x_k, k
// ascending from the first term), then the factor. The tables are N. Sloane's.
struct Rotation {
  uint32_t n = 0;
  uint32_t run = 0;  // largest m * 2^k that divides n
  uint32_t m = 1;
  float factor = 1;               // 1/√run, rounded once from double
  const int8_t* table = nullptr;  // [m, m] of ±1 for m > 1; static storage
};
// Requires: n > 0. Total for every n (an odd prime gives run = 1, the identity).
Rotation make_rotation(uint32_t n);

// How the scale of a group of values is found, before it is rounded to F16.
enum class ScaleRule : uint8_t {
  // rms = max(1e-7, √(Σv² / group)): what Lloyd–Max centroids are made for.
  rms,
  // The scale with the least squared error among those tried: groups are small, so each has its own
  // best one. With u = v / rms and for every factor of kScaleFactors: c = the centroids of the
  // codes
  // of u under the edges times the factor; the best scale for these codes is rms * (Σuc / Σc²), and
  // it leaves Σu² - (Σuc)² / Σc². The factor with the largest (Σuc)² / Σc² wins, the first of
  // equals; codes are then decided anew on that scale. Sums are of magnitudes, in 16 lanes by fma;
  // centroids must be symmetric. Of a uniform codebook: max|v| at the outermost centroid.
  search,
};
constexpr float kScaleFactors[] = {0.8f, 0.9f, 1.0f, 1.1f, 1.2f};

// How the values of a row become TurboQuant codes and scales. For each group of them:
//   scale = F16(what the rule says, within 1e-7 and 65504)
//   code = the number of edges e with e * scale ≤ v, the products rounded to float32; or, of a
//   uniform codebook of 256, v * (0.5 / (step * scale)) + 127.5 to nearest even, within 0 to 255
struct Encoding {
  uint32_t cols = 0;
  uint32_t group = 0;   // a multiple of 16 that divides cols
  uint32_t length = 0;  // of the codebook
  ScaleRule rule = ScaleRule::rms;
  // [length] centroids, exact F16 values, and [length - 1] edges, ascending; a uniform codebook has
  // a step instead.
  const float* centroids = nullptr;
  const float* edges = nullptr;
  float step = 0;
};

// What encoding lost, in sums over weights: relative mean squared error = error / size. Group by
// group in 16 lanes of float32, the groups in order in double.
struct EncodingError {
  double error = 0;  // Σ (v - centroid * scale)²
  double size = 0;   // Σ v²
};

enum class KvFormat : uint8_t { f32, f16 };

// Attention of one token for one key/value head and the query heads that share it. Values may be as
// wide as keys, or narrower and lie in rows of another length: those of latent attention are the
// first part of the keys themselves.
struct AttentionTask {
  const float* q = nullptr;      // [heads, head_dim], already normed and rotated
  const std::byte* k = nullptr;  // [positions, head_dim] of format
  const std::byte* v = nullptr;  // [positions, value_dim], rows value_stride values apart
  KvFormat format = KvFormat::f16;
  uint32_t head_dim = 0;
  uint32_t value_dim = 0;     // 0: head_dim
  uint32_t value_stride = 0;  // ≥ value_dim; 0: value_dim
  uint32_t heads = 0;
  uint32_t positions = 0;  // ≥ 1
  float scale = 1;         // scores are scale * (q·k), the scale applied after the dot
  // [heads]: of each head the score of one more position, which takes its share of the softmax and
  // has no value; null: none. Its term of the softmax' sum is added last.
  const float* sinks = nullptr;
  float* scores = nullptr;  // scratch [heads, positions]
  float* out = nullptr;     // [heads, value_dim]: Σ_t p_t v_t, t ascending, by fma
};

// Causal convolution of each channel over the tokens, and SiLU:
//   y[t] = silu(bias + Σ_j weights[j] x[t + j - (kernel - 1)]), j ascending by fma from the bias
//   on,
// where x[-1], x[-2], ... are what the history holds of earlier calls.
struct ConvolutionTask {
  const float* x = nullptr;        // [tokens, x_stride]; not the same memory as y
  const float* weights = nullptr;  // [kernel, stride]
  const float* bias = nullptr;     // [channels], or null: 0
  float* history = nullptr;  // [kernel - 1, stride]: the last inputs, the oldest first; moved on
  float* y = nullptr;        // [tokens, y_stride]
  uint32_t channels = 0;
  uint32_t kernel = 0;  // ≥ 2
  uint32_t stride = 0;  // floats between the rows of weights, and of history
  uint32_t tokens = 0;
  uint32_t x_stride = 0;
  uint32_t y_stride = 0;
};

// One token through the state of one head, a matrix S [key_dim, value_dim]. It lies in blocks of 16
// values, [ceil(value_dim / 16), key_dim, 16], so that a block stays in the first-level cache while
// it is read, changed and read again; what lies behind value_dim is kept as it is.
struct RecurrentStep {
  float* state = nullptr;
  const float* query = nullptr;  // [key_dim]
  const float* key = nullptr;    // [key_dim]
  const float* value = nullptr;  // [value_dim]
  float* out = nullptr;          // [value_dim]; not value
  uint32_t key_dim = 0;
  uint32_t value_dim = 0;
  float decay = 1;
  float rate = 1;
};
// Floats of one head's state.
constexpr uint64_t recurrent_state_size(uint32_t key_dim, uint32_t value_dim) {
  return uint64_t{key_dim} * ((uint64_t{value_dim} + 15) / 16 * 16);
}

struct Table {
  Isa isa;
  const char* name;

  // y[v * y_stride + r] = Σ_i W[r,i] x[v * x_stride + i] for the task's rows and vectors, in
  // float32:
  //  * turboquant (x is already rotated), mxfp4: inside a group the 16 lanes accumulate codebook
  //    value * x, and the group's lanes go into the row's lanes by fma with the group's scale.
  //  * f8_e4m3: the same inside a block of columns, with value / 256 and scale * 256 (as F16 the
  //    bits of an E4M3 are its value / 256). A row with a NaN code (0x7f, 0xff) is NaN, and
  //    every NaN is the same one, 0x7fc00000.
  //  * affine: the lanes accumulate fma(integer, scale, bias) * x over the whole row.
  void (*matmul)(const Matrix& w, const MatmulTask& task, const float* x, float* y);
  // The same from integer inputs; turboquant, mxfp4 and affine only (takes_integers).
  //  * turboquant, mxfp4: the row's result is Σ_g fma(float(dot_g), weight_scale_g * (step *
  //    input_scale_g), acc), dot_g the exact Σ quantized[index] * value. The products are rounded
  //    in that order: (step * input_scale) first, then times the weight scale.
  //  * affine: for each group fma(float(dot_g), scale_g * input_scale_g, acc), then
  //    fma(float(sum_g), bias_g * input_scale_g, acc), dot_g the exact Σ integer * value.
  void (*matmul_integer)(const Matrix& w, const MatmulTask& task, const QuantizedVectors& x,
                         float* y);
  // Fills one vector of out (index `vector`) from x [cols]. Requires: group is a multiple of 16 and
  // divides cols.
  void (*quantize)(const float* x, uint32_t cols, uint32_t group, const QuantizedVectors& out,
                   uint32_t vector);
  // y = H(x ∘ signs), x and y [rotation.n], may be the same array. signs [n] of ±1.
  void (*rotate)(const Rotation& rotation, const float* signs, const float* x, float* y);
  // One row of values [cols] to codes [cols], one a byte, and F16 scales that lie scale_stride
  // bytes apart, at any address. Adds to *error unless that is null. False, with the row half done,
  // if some group has an RMS that no F16 holds: a value not finite, or an RMS over 65504.
  bool (*encode)(const Encoding& encoding, const float* values, uint8_t* codes, std::byte* scales,
                 size_t scale_stride, EncodingError* error);
  // y = x * (1/√(mean(x²) + epsilon)) * weight; may be in place.
  void (*rms_norm)(const float* x, const float* weight, uint32_t n, float epsilon, float* y);
  // Rotates pairs (x[i], x[i + dim/2]) of each of `heads` vectors of head_dim floats, the first dim
  // of each: (a cos - b sin, b cos + a sin) as fma(a, cos, -(b*sin)), fma(b, cos, a*sin). cos, sin
  // [dim/2].
  void (*rope_halves)(float* x, uint32_t heads, uint32_t head_dim, uint32_t dim, const float* cos,
                      const float* sin);
  // The same for pairs of neighbours (x[2i], x[2i + 1]).
  void (*rope_pairs)(float* x, uint32_t heads, uint32_t head_dim, uint32_t dim, const float* cos,
                     const float* sin);
  // x = exp(x - max) / Σ. n ≥ 1.
  void (*softmax)(float* x, uint32_t n);
  // x = 1 / (1 + exp(-x)).
  void (*sigmoid)(float* x, uint32_t n);
  // out = gate / (1 + exp(-gate)) * up; out may be gate.
  void (*swiglu)(const float* gate, const float* up, uint32_t n, float* out);
  // The same of pairs [n] of gate and up, the gate at most `limit` and up within ±limit:
  // out = gate / (1 + exp(-alpha * gate)) * (up + 1); out [n] overlaps pairs only if it is pairs.
  void (*swiglu_clamped)(const float* pairs, uint32_t n, float limit, float alpha, float* out);
  // x = max(x, 0)².
  void (*relu_squared)(float* x, uint32_t n);
  // y += x;   y = fma(factor, x, y).
  void (*add)(const float* x, uint32_t n, float* y);
  void (*add_scaled)(float factor, const float* x, uint32_t n, float* y);
  void (*attention)(const AttentionTask& task);
  void (*convolve)(const ConvolutionTask& task);
  // S_i is row i of the state, d a row of values:
  //   add_step (state-space models):  d = rate * value
  //   delta_step (the delta rule):    d = rate * (value - decay * Σ_i key_i S_i)
  // then  S_i = fma(key_i, d, decay * S_i)  and  out = Σ_i query_i S_i  of the new state.
  // A sum adds term i by fma to the (i mod 4)th of four, which then are added as (0 + 2) + (1 + 3).
  void (*add_step)(const RecurrentStep& step);
  void (*delta_step)(const RecurrentStep& step);
  // Conversions of n values of f32, f16, bf16. To f16: round to nearest even, overflow to infinity.
  // From f32, f16, bf16: exact. Source and destination at any address.
  void (*to_f16)(const float* x, size_t n, std::byte* out);
  void (*to_f32)(Format format, const std::byte* x, size_t n, float* out);
};

// The smallest RMS that a scale stands for: its F16 is not zero, so that dividing by it is defined;
// and the largest.
constexpr float kSmallestRms = 1e-7f;
constexpr float kLargestF16 = 65504.0f;

// What exp_f32 of scalar.cpp is made of; every table takes the same steps with the same constants.
constexpr float kExpLowest = -105.0f;  // below, e^x is less than half of the smallest denormal
constexpr float kExpHighest = 89.0f;   // e^89 overflows
constexpr float kExpLog2E = 0x1.715476p+0f;
constexpr float kExpShift = 0x1.8p+23f;  // adding it rounds to an integer, in the lowest bits
// ln 2 in two parts; the first has so few bits that n * it is exact for every n that occurs.
constexpr float kExpLn2High = 0x1.62e4p-1f;
constexpr float kExpLn2Low = 0x1.7f7d1cp-20f;
constexpr float kExpTaylor[8] = {1.0f / 5040, 1.0f / 720, 1.0f / 120, 1.0f / 24,
                                 1.0f / 6,    1.0f / 2,   1.0f,       1.0f};

// Defined by the files of that name; null where the compiler lacks the instruction set.
const Table* scalar_table();
const Table* avx2_table();
const Table* avx512_table();
const Table* amx_table();

// The best table this processor runs, or the one SLUICE_ISA names. Picked once. A wrong name, or
// one this processor cannot run, prints what was expected to stderr and exits with status 2.
const Table& table();
// Whether this processor (and operating system) runs that table.
bool supported(Isa isa);
const Table& table(Isa isa);  // Requires: supported(isa)

}  // namespace sluice::kernels
