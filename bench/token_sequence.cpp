#include "bench/token_sequence.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "io/error.h"
#include "model/tokenizer.h"
#include "tools/token_ids.h"

namespace sluice::bench {

std::vector<uint32_t> draw_tokens(uint32_t vocabulary, uint64_t count, double skew, uint64_t seed) {
  std::vector<double> sums(vocabulary);  // of the chances up to each id
  double sum = 0;
  for (uint32_t id = 0; id < vocabulary; ++id) sums[id] = sum += std::pow(id + 1.0, -skew);
  // The standard fixes what the engine gives, but not what its distributions make of it.
  std::mt19937_64 random(seed);
  std::vector<uint32_t> ids(count);
  for (uint32_t& id : ids) {
    const double drawn = std::ldexp(static_cast<double>(random() >> 11), -53) * sum;
    const auto first = std::ranges::upper_bound(sums, drawn) - sums.begin();
    id = std::min(static_cast<uint32_t>(first), vocabulary - 1);
  }
  return ids;
}

std::vector<uint32_t> read_tokens(const std::string& path, const std::string& model,
                                  uint32_t vocabulary, uint64_t count) {
  const std::string text = read_prompt_file(path);
  const bool is_list = text.find_first_not_of("0123456789, \t\r\n") == std::string::npos;
  std::vector<uint32_t> ids =
      is_list ? parse_token_ids(text, path)
              : Tokenizer::load(model).encode(text, /*add_special_tokens=*/true);
  if (ids.size() < count) {
    throw Error(path, ": ", ids.size(), " tokens, but the prompt, the warm-up and what is decoded ",
                "take ", count, "; give a longer file, or lower --prompt-tokens, --warm-tokens or ",
                "--decode-tokens");
  }
  ids.resize(count);
  for (const uint32_t id : ids) {
    if (id >= vocabulary) {
      throw Error(path, ": token id ", id, " is outside the model's vocabulary of ", vocabulary);
    }
  }
  return ids;
}

}  // namespace sluice::bench
