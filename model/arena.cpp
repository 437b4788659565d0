#include "model/arena.h"

#include <sys/mman.h>

#include <cerrno>
#include <utility>

#include "io/check.h"
#include "io/error.h"

namespace sluice {

namespace {
constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kAlignment = 64;  // a cache line, and the widest vector
constexpr uint64_t kTailBytes = 64;  // what a vector load may touch behind an array
constexpr uint64_t kLimitBytes = 1ull << 60;
}  // namespace

Arena::~Arena() { release(); }

Arena::Arena(Arena&& other) noexcept { *this = std::move(other); }

Arena& Arena::operator=(Arena&& other) noexcept {
  if (this != &other) {
    release();
    base_ = std::exchange(other.base_, nullptr);
    mapped_bytes_ = std::exchange(other.mapped_bytes_, 0);
    used_bytes_ = std::exchange(other.used_bytes_, 0);
  }
  return *this;
}

void Arena::release() {
  if (base_ != nullptr) ::munmap(base_, mapped_bytes_);
  base_ = nullptr;
}

uint64_t Arena::bytes() const { return (used_bytes_ + kPageBytes - 1) / kPageBytes * kPageBytes; }

std::byte* Arena::take_bytes(uint64_t count, uint64_t element_bytes) {
  if (count > kLimitBytes / element_bytes || used_bytes_ > kLimitBytes - count * element_bytes) {
    throw Error("the model asks for more than 2^60 bytes of working memory; lower --context");
  }
  const uint64_t start = used_bytes_;
  const uint64_t size_bytes = count * element_bytes + kTailBytes;
  used_bytes_ = (start + size_bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (base_ == nullptr) return nullptr;
  SLUICE_CHECK(used_bytes_ <= mapped_bytes_);
  return base_ + start;
}

void Arena::allocate(const char* what) {
  SLUICE_CHECK(base_ == nullptr);
  mapped_bytes_ = bytes();
  used_bytes_ = 0;
  if (mapped_bytes_ == 0) mapped_bytes_ = kPageBytes;
  void* mapping = ::mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) {
    throw Error("cannot map ", mapped_bytes_, " bytes for ", what, ": ", errno_text(errno),
                "; lower --context or --cache-budget-gb");
  }
  base_ = static_cast<std::byte*>(mapping);
}

}  // namespace sluice
