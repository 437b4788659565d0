// The table for processors with AVX-512 (F, BW, DQ, VL, VBMI, VNNI); kernels/CMakeLists.txt names
// the flags.
#include "kernels/kernels.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && \
    defined(__AVX512VL__) && defined(__AVX512VBMI__) && defined(__AVX512VNNI__)
#include "kernels/avx512_many.h"
#include "kernels/lanes_table.h"

namespace sluice::kernels {
namespace {

// With fewer, decoding the codes to memory takes more time than it saves, by measurement.
constexpr uint32_t kLeastManyVectors = 24;

inline void matmul_integer_with_many(const Matrix& w, const MatmulTask& task,
                                     const QuantizedVectors& x, float* y) {
  if (w.layout == Layout::tiles && task.vectors >= kLeastManyVectors) {
    matmul_integer_many(w, task, x, y);
  } else {
    matmul_integer(w, task, x, y);
  }
}

constexpr Table kTable = [] {
  Table table = table_of(Isa::avx512, "avx512");
  table.matmul_integer = matmul_integer_with_many;
  return table;
}();

}  // namespace

const Table* avx512_table() { return &kTable; }

}  // namespace sluice::kernels

#else  // the compiler's target is not one of them

namespace sluice::kernels {
const Table* avx512_table() { return nullptr; }
}  // namespace sluice::kernels

#endif
