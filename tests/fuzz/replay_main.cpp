// Replays stored inputs through a fuzz target, for compilers without libFuzzer:
//
//   fuzz_safetensors FILE|DIRECTORY...
//
// Every file is given whole, and cut short at evenly spaced places, as a broken download would be.
// The target must neither crash nor trip a sanitizer; what it answers does not matter. The input at
// hand is named before it is tried, so that the last line says which one did it.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size_bytes);

namespace {

constexpr size_t kCuts = 32;

// Copies the input, so that it ends where its allocation ends and an over-read is seen.
void try_input(const std::filesystem::path& path, const std::vector<uint8_t>& bytes,
               size_t length) {
  std::printf("%s: first %zu of %zu bytes\n", path.c_str(), length, bytes.size());
  std::fflush(stdout);
  const std::vector<uint8_t> input(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(length));
  LLVMFuzzerTestOneInput(input.data(), input.size());
}

void replay_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  const std::vector<uint8_t> bytes(std::istreambuf_iterator<char>(file), {});
  for (size_t cut = 0; cut < kCuts; ++cut) try_input(path, bytes, bytes.size() * cut / kCuts);
  try_input(path, bytes, bytes.size());
}

// Returns how many files were replayed, in the order of their names.
size_t replay(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) {
    replay_file(path);
    return 1;
  }
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(path)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  for (const std::filesystem::path& file : files) replay_file(file);
  return files.size();
}

}  // namespace

int main(int argc, char** argv) {
  try {
    size_t files = 0;
    for (int i = 1; i < argc; ++i) files += replay(argv[i]);
    if (files == 0) {
      std::fprintf(stderr, "%s: no inputs; expected files or directories of seeds\n", argv[0]);
      return 2;
    }
    std::printf("%zu inputs replayed, each whole and cut at %zu places\n", files, kCuts);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", argv[0], error.what());
    return 1;
  }
}
