#include "cache/slab.h"

#include <sys/mman.h>

#include <cerrno>
#include <limits>

#include "io/check.h"
#include "io/error.h"

namespace sluice {

Slab::Slab(uint64_t size_bytes) : size_bytes_(size_bytes) {
  SLUICE_CHECK(size_bytes > 0);
  const uint64_t huge_bytes = size_bytes / kHugePageBytes * kHugePageBytes;
  const bool want_huge_pages = huge_bytes > 0;
  const uint64_t alignment = want_huge_pages ? kHugePageBytes : kPageBytes;
  // mmap aligns to pages only; what a larger alignment needs is mapped on top and never touched.
  const uint64_t extra = (alignment - kPageBytes) + kPageBytes;
  if (size_bytes > std::numeric_limits<size_t>::max() / 2) {
    throw Error("cannot map ", size_bytes, " bytes of memory: more than an address space");
  }
  mapping_bytes_ = static_cast<size_t>(size_bytes + extra);
  void* mapping =
      mmap(nullptr, mapping_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) {
    // ENOMEM: more than overcommit or RLIMIT_AS allows. Nothing else can come of these arguments.
    throw Error(
        "cannot map ", size_bytes, " bytes of memory: ", errno_text(errno),
        "; lower --cache-budget-gb or --context, or raise the limit on address space (ulimit -v)");
  }
  mapping_ = static_cast<std::byte*>(mapping);
  const auto address = reinterpret_cast<uintptr_t>(mapping_);
  data_ = mapping_ + (alignment - address % alignment) % alignment;
  if (want_huge_pages) {
    // Refused (EINVAL) by kernels built without huge pages; the slab works the same, slower.
    huge_pages_ = madvise(data_, static_cast<size_t>(huge_bytes), MADV_HUGEPAGE) == 0;
  }
}

Slab::~Slab() { munmap(mapping_, mapping_bytes_); }

std::string Slab::description() const { return huge_pages_ ? "huge pages" : "4 KiB pages"; }

}  // namespace sluice
