// The table for processors with AVX2, FMA and F16C; kernels/CMakeLists.txt names the flags.
#include "kernels/kernels.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "kernels/lanes_table.h"

namespace sluice::kernels {
namespace {
constexpr Table kTable = table_of(Isa::avx2, "avx2");
}  // namespace

const Table* avx2_table() { return &kTable; }

}  // namespace sluice::kernels

#else  // the compiler's target is not one of them

namespace sluice::kernels {
const Table* avx2_table() { return nullptr; }
}  // namespace sluice::kernels

#endif
