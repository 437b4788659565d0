// Meter: what one rendering may use, so that a hostile template ends in bounded time and memory.
//
// A step is one node of the syntax tree visited, or 16 bytes or 4 elements worked through by a
// built-in. Memory counts everything that a rendering makes; but for the variables of loops, all of
// it stays until the rendering ends. Threads: one.
#pragma once

#include <cstdint>

#include "io/error.h"

namespace sluice::jinja {

// Published templates take 140 to 230 steps and under 5 KB of memory for a message, so the defaults
// leave them conversations of more than 50,000.
struct Limits {
  uint64_t steps = 20'000'000;  // seconds, at worst
  uint64_t output_bytes = uint64_t{64} << 20;
  uint64_t memory_bytes = uint64_t{256} << 20;  // as counted; vectors may have twice their size
  // Nested nodes, macro calls and values. A level takes under 10 KB of stack even with sanitizers.
  uint32_t depth = 400;
};

class Meter {
 public:
  explicit Meter(const Limits& limits) : limits_(limits) {}

  void step(uint64_t count = 1) {
    steps_ += count;
    if (steps_ > limits_.steps) {
      throw Error("more than ", limits_.steps, " steps: the template does not end in a sane time");
    }
  }
  void memory(uint64_t bytes) {
    memory_ += bytes;
    if (memory_ > limits_.memory_bytes) {
      throw Error("more than ", limits_.memory_bytes, " bytes of memory for one rendering");
    }
  }
  void give_back(uint64_t bytes) { memory_ -= bytes; }
  void output(uint64_t bytes) {
    output_ += bytes;
    if (output_ > limits_.output_bytes) {
      throw Error("more than ", limits_.output_bytes, " bytes of output");
    }
  }
  // To be called before `bytes` bytes or `count` elements are worked through.
  void bytes(uint64_t bytes) { step(1 + bytes / 16); }
  void elements(uint64_t count) { step(1 + count / 4); }
  // Before a name of `bytes` bytes is hashed, or compared with `count` others; nothing for the
  // short names that templates have.
  void name(uint64_t bytes, uint64_t count = 1) { step(bytes / 16 * count); }

 private:
  friend class Nesting;
  Limits limits_;
  uint64_t steps_ = 0;
  uint64_t memory_ = 0;
  uint64_t output_ = 0;
  uint32_t depth_ = 0;
};

// One level of nesting, for as long as it lives.
class Nesting {
 public:
  explicit Nesting(Meter& meter) : meter_(meter) {
    if (meter.depth_ == meter.limits_.depth) {
      throw Error("nested deeper than ", meter.limits_.depth, " levels");
    }
    ++meter_.depth_;
  }
  ~Nesting() { --meter_.depth_; }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;

 private:
  Meter& meter_;
};

}  // namespace sluice::jinja
