// Token ids as text: parsing what --prompt-ids is given.
// Threads: any.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

// More than any model's positions (kMaxPositions ids of a few digits each would be a gigabyte).
inline constexpr uint64_t kMaxPromptBytes = 64'000'000;

// "1, 2 3\n4": decimal ids separated by commas and white space. what: for messages.
// Throws Error naming the place of what is no id.
std::vector<uint32_t> parse_token_ids(std::string_view text, const std::string& what);

// argument: a list as above, or the name of a file that holds one (anything with a character that a
// list cannot have is a name). Throws Error.
std::vector<uint32_t> read_token_ids(const std::string& argument);

// The whole of a file, or of standard input for "-"; at most kMaxPromptBytes. Throws Error.
std::string read_prompt_file(const std::string& path);

}  // namespace sluice
