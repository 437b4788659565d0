#include "tools/token_ids.h"

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <memory>
#include <system_error>

#include "io/error.h"

namespace sluice {
namespace {

constexpr std::string_view kSeparators = ", \t\r\n";
constexpr std::string_view kDigits = "0123456789";

bool is_list(std::string_view text) {
  return text.find_first_not_of(std::string(kSeparators) + std::string(kDigits)) ==
         std::string_view::npos;
}

}  // namespace

std::vector<uint32_t> parse_token_ids(std::string_view text, const std::string& what) {
  std::vector<uint32_t> ids;
  size_t at = 0;
  while ((at = text.find_first_not_of(kSeparators, at)) != std::string_view::npos) {
    const size_t end = std::min(text.find_first_of(kSeparators, at), text.size());
    const std::string_view word = text.substr(at, end - at);
    uint32_t id = 0;
    const auto [rest, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc() || rest != word.data() + word.size()) {
      constexpr size_t kLongestShown = 20;
      throw Error(what, ": \"", word.substr(0, kLongestShown), "\" at byte ", at,
                  " is no token id; expected decimal numbers separated by commas or spaces");
    }
    ids.push_back(id);
    at = end;
  }
  return ids;
}

std::vector<uint32_t> read_token_ids(const std::string& argument) {
  if (is_list(argument)) return parse_token_ids(argument, "--prompt-ids");
  return parse_token_ids(read_prompt_file(argument), argument);
}

std::string read_prompt_file(const std::string& path) {
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> opened(nullptr, &std::fclose);
  std::FILE* file = stdin;
  if (path != "-") {
    opened.reset(std::fopen(path.c_str(), "rb"));
    if (opened == nullptr) throw Error(path, ": cannot be opened: ", errno_text(errno));
    file = opened.get();
  }
  std::string text;
  char piece[16384];
  while (const size_t size = std::fread(piece, 1, sizeof piece, file)) {
    text.append(piece, size);
    if (text.size() > kMaxPromptBytes) {
      throw Error(path, ": a prompt of more than ", kMaxPromptBytes, " bytes");
    }
  }
  if (std::ferror(file) != 0) throw Error(path, ": cannot be read: ", errno_text(errno));
  return text;
}

}  // namespace sluice
