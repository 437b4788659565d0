// The table for processors with AVX-512 (F, BW, DQ, VL, VBMI, VNNI); kernels/CMakeLists.txt names
// the flags.
#include "kernels/kernels.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && \
    defined(__AVX512VL__) && defined(__AVX512VBMI__) && defined(__AVX512VNNI__)
#include "kernels/lanes_table.h"

namespace sluice::kernels {
namespace {
constexpr Table kTable = table_of(Isa::avx512, "avx512");
}  // namespace

const Table* avx512_table() { return &kTable; }

}  // namespace sluice::kernels

#else  // the compiler's target is not one of them

namespace sluice::kernels {
const Table* avx512_table() { return nullptr; }
}  // namespace sluice::kernels

#endif
