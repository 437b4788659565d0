// Tokens to feed a model instead of its own choices.
//
// A network of random weights that is fed what it finds likeliest soon repeats itself, and then any
// cache seems to be good. So benches feed a given sequence: drawn by chance, or a text's.
// Threads: any.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice::bench {

// count ids below vocabulary; the same ones for the same arguments on every machine. The id i is
// drawn with a chance in proportion to 1 / (i + 1)^skew: 0 for equal chances, 1 for about what
// words of a text have.
std::vector<uint32_t> draw_tokens(uint32_t vocabulary, uint64_t count, double skew, uint64_t seed);

// The first count ids of a file: decimal ids separated by commas and white space, or else a text,
// for the tokenizer of the model directory. Throws Error: unreadable, too short, an id outside of
// the vocabulary.
std::vector<uint32_t> read_tokens(const std::string& path, const std::string& model,
                                  uint32_t vocabulary, uint64_t count);

}  // namespace sluice::bench
