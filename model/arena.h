// Arena: many arrays in one mapping, laid out by the same code that counts them.
//
//   Arena arena;                 // measuring: take() returns null and adds up
//   layout(arena);
//   plan.scratch_bytes = arena.bytes();
//   arena.allocate("activations");
//   layout(arena);               // the same calls now return memory
//
// So the memory plan and the allocation cannot disagree. The memory is zero and costs nothing until
// it is touched. Owns: the mapping. Threads: one while laying out.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sluice {

class Arena {
 public:
  Arena() = default;
  ~Arena();
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&& other) noexcept;

  // count elements, 64-byte aligned, followed by at least 64 readable bytes. Null while measuring.
  // Throws Error when the total no longer fits in 2^60 bytes.
  template <class T>
  T* take(uint64_t count) {
    return reinterpret_cast<T*>(take_bytes(count, sizeof(T)));
  }
  // Bytes taken so far, rounded up to whole pages.
  uint64_t bytes() const;
  // Maps what was measured and starts over, now giving memory. what: for the message of the Error
  // thrown when there is not enough. Requires: measuring.
  void allocate(const char* what);

 private:
  std::byte* take_bytes(uint64_t count, uint64_t element_bytes);
  void release();

  std::byte* base_ = nullptr;
  uint64_t mapped_bytes_ = 0;
  uint64_t used_bytes_ = 0;
};

}  // namespace sluice
