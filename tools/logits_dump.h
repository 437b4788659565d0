// LogitsDump: every position's logits in one safetensors file, for comparison with a reference.
//
//   logits     F32 [positions, vocabulary]: row i is what the model says after token i
//   token_ids  I64 [positions]: the tokens that were fed in, prompt and generated
//
// How many positions there will be is known only at the end, so rows go to an unnamed temporary
// file beside the target first: that much disk space twice, but memory for one row. The target
// appears when finish() succeeds, or not at all. Threads: one.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace sluice {

class LogitsDump {
 public:
  // Throws Error (cannot create a file there).
  LogitsDump(std::string path, uint32_t vocabulary);

  // logits: [vocabulary], of the position after id. Throws Error (disk full).
  void add(uint32_t id, std::span<const float> logits);
  // Writes the target. Throws Error.
  void finish();

 private:
  std::string path_;
  uint32_t vocabulary_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> rows_;
  std::vector<int64_t> ids_;
};

}  // namespace sluice
