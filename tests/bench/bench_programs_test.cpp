// The JSON of the benches is whole: every cell that was asked for, every counter a number.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>

namespace sluice {
namespace {

nlohmann::json output_of(const std::string& command) {
  FILE* pipe = popen((command + " 2>/dev/null").c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("cannot run " + command);
  std::string output;
  char buffer[4096];
  for (size_t n; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) output.append(buffer, n);
  EXPECT_EQ(pclose(pipe), 0) << command;
  return nlohmann::json::parse(output);
}

TEST(BenchPrograms, CeilingsHasEveryThreadCountBlockAndDepth) {
  const nlohmann::json result =
      output_of(SLUICE_CEILINGS " --quick --json --threads 3 --block-kb 4,64 --depth 1,2,8");
  std::set<uint32_t> threads;
  for (const nlohmann::json& rate : result["memory"]["rates"]) {
    EXPECT_GT(rate["gb_per_second"].get<double>(), 0);
    threads.insert(rate["threads"].get<uint32_t>());
  }
  EXPECT_EQ(threads, (std::set<uint32_t>{1, 2, 3}));
  EXPECT_EQ(result["memory"]["rates"].size(), 3u);

  std::set<std::pair<uint64_t, uint32_t>> cells;
  for (const nlohmann::json& rate : result["disk"]["rates"]) {
    EXPECT_GT(rate["gb_per_second"].get<double>(), 0);
    cells.insert({rate["block_bytes"].get<uint64_t>(), rate["depth"].get<uint32_t>()});
  }
  EXPECT_EQ(cells, (std::set<std::pair<uint64_t, uint32_t>>{
                       {4096, 1}, {4096, 2}, {4096, 8}, {65536, 1}, {65536, 2}, {65536, 8}}));
  EXPECT_EQ(result["disk"]["rates"].size(), 6u);
}

TEST(BenchPrograms, KernelsCountsEveryFormatInEverySection) {
  const nlohmann::json result = output_of(SLUICE_KERNELS " --quick --json --tokens 1,4,32");
  std::map<std::string, std::set<std::string>> formats;  // by section
  std::map<std::string, int> counted;
  for (const nlohmann::json& benchmark : result["benchmarks"]) {
    const std::string name = benchmark["name"].get<std::string>();
    const std::string section = name.substr(0, name.find('/'));
    const std::string rest = name.substr(section.size() + 1);
    if (section != "encode") formats[section].insert(rest.substr(0, rest.find('/')));
    for (const char* counter : {"GB/s", "of_ceiling", "of_ceil_wall", "cycles/weight", "ns/token",
                                "of_1_token", "GMAC/s", "MB/s"}) {
      if (!benchmark.contains(counter)) continue;
      ++counted[section + " " + counter];
      const double value = benchmark[counter].get<double>();
      EXPECT_TRUE(std::isfinite(value) && value > 0) << name << ": " << counter << " " << value;
    }
  }
  ASSERT_EQ(formats.size(), 3u);
  EXPECT_EQ(formats["memory"].size(), 21u);
  EXPECT_EQ(formats["cache"], formats["memory"]);
  EXPECT_EQ(formats["tokens"], formats["memory"]);
  EXPECT_EQ(counted["tokens of_1_token"], 21 * 3);
  EXPECT_EQ(counted["tokens of_ceiling"], 21 * 3);
  EXPECT_GE(counted["memory of_ceiling"], 21 * 2);
  EXPECT_EQ(counted["memory of_ceiling"], counted["memory of_ceil_wall"]);
  EXPECT_GE(counted["cache GB/s"], 21);
  EXPECT_GE(counted["encode MB/s"], 3 * 4 * 4);
}

}  // namespace
}  // namespace sluice
