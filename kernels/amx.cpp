// The table for processors with AMX (TILE, INT8) besides what the AVX-512 table asks for. It is
// that table but for products of many integer vectors with matrices in tiles: few vectors, rows,
// affine integers and floats are multiplied as there.
#include "kernels/kernels.h"

#if defined(__AMX_TILE__) && defined(__AMX_INT8__) && defined(__AVX512F__) &&  \
    defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__) && \
    defined(__AVX512VBMI__) && defined(__AVX512VNNI__)
#include "kernels/amx_tiles.h"
#include "kernels/lanes_table.h"

namespace sluice::kernels {
namespace {

// With fewer, decoding the codes to memory takes more time than the products save, by measurement.
constexpr uint32_t kLeastAmxVectors = 7;

inline void matmul_integer_with_amx(const Matrix& w, const MatmulTask& task,
                                    const QuantizedVectors& x, float* y) {
  if (w.layout == Layout::tiles && task.vectors >= kLeastAmxVectors) {
    matmul_integer_amx(w, task, x, y);
  } else {
    matmul_integer(w, task, x, y);
  }
}

constexpr Table kTable = [] {
  Table table = table_of(Isa::amx, "amx");
  table.matmul_integer = matmul_integer_with_amx;
  return table;
}();

}  // namespace

const Table* amx_table() { return &kTable; }

}  // namespace sluice::kernels

#else  // the compiler's target is not one of them

namespace sluice::kernels {
const Table* amx_table() { return nullptr; }
}  // namespace sluice::kernels

#endif
