// What the tests of converting share: goldens as sources, a directory for what is written.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "io/error.h"
#include "model/converter.h"
#include "tests/io/temporary_directory.h"
#include "tests/model/golden_case.h"

namespace sluice {

namespace fs = std::filesystem;

inline const std::string kGoldens = SLUICE_TEST_DATA "/goldens/";

inline std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::map<std::string, std::string> read_directory(const fs::path& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(directory)) {
    files[entry.path().filename().string()] = read_file(entry.path());
  }
  return files;
}

inline ConvertOptions options_for(const fs::path& model, const fs::path& out, uint32_t bits = 3,
                                  ConvertLayout layout = ConvertLayout::records) {
  ConvertOptions options;
  options.model = model;
  options.out = out;
  options.settings.bits = bits;
  options.settings.group = 32;
  options.settings.layout = layout;
  options.threads = 2;
  options.program = "test 1";
  return options;
}

inline std::vector<float> logits_of(const fs::path& model, const std::vector<uint32_t>& ids,
                                    Compute compute) {
  ModelOptions options;
  options.compute = compute;
  options.budget.kind = BudgetRequest::Kind::all;
  options.threads = 2;
  Model loaded = Model::load(model.string(), options);
  Session session(loaded);
  return prefill_logits(session, ids);
}

class Convert : public testing::Test {
 protected:
  fs::path out(const std::string& name = "out") const { return directory_.path() / name; }
  // A copy of a golden that a test may spoil.
  fs::path copy_golden(const std::string& name) const {
    const fs::path copy = directory_.path() / name;
    fs::copy(kGoldens + name, copy);
    fs::remove(copy / "golden.safetensors");
    return copy;
  }
  void expect_nothing_left(const std::string& name = "out") const {
    EXPECT_FALSE(fs::exists(out(name)));
    EXPECT_FALSE(fs::exists(out(name + ".unfinished")));
  }

  TemporaryDirectory directory_;
};

// Throws Error with a message that has this in it.
template <class Body>
void expect_error(Body body, const std::string& part) {
  try {
    body();
    ADD_FAILURE() << "no error; expected one with: " << part;
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr(part));
  }
}

}  // namespace sluice
