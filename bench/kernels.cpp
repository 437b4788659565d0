// kernels: how near the products with weights of every format come to the speed of memory, what
// they cost in the cache, how they gain from many tokens; and how fast the encoder of TurboQuant
// is.
//
//   kernels [--shape RxC,...] [--isa NAME,...] [--threads N,...] [--tokens N,...] [--group N]
//           [--mb N] [--cache-kb N] [--rounds N] [--json] [--quick] [--benchmark_filter=REGEX ...]
//
// The sections memory, cache, tokens and encode, their names and counters are those of
// kernel_products.h and kernel_encoder.h; --benchmark_filter picks from them, and all other flags
// of Google Benchmark work too. Everything takes some ten minutes. (Debian builds that library with
// its assertions, and it warns of that; the times here are none of its.)
//
// Of the weights in memory there are more than four times the last cache, as the system tells its
// size, and at most --mb. That cache is often the whole processor's, and others' for the most part:
// four times is beyond it in any case. The scalar table runs in the cache alone (it is slow),
// unless there is no other.
#include <benchmark/benchmark.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench/bench_main.h"
#include "bench/ceiling.h"
#include "bench/kernel_encoder.h"
#include "bench/kernel_products.h"

namespace sluice::bench {
namespace {

struct Settings {
  std::vector<std::string> shapes = {"768x2048", "2048x768"};  // the experts of Qwen3-30B-A3B
  std::vector<std::string> isas = {"amx", "avx512", "avx2", "scalar"};
  std::vector<uint32_t> threads = {1, 2};
  std::vector<uint32_t> tokens = {1, 2, 4, 8, 32, 128, 512};
  uint32_t group = 64;
  uint64_t mb = 4096;
  uint64_t cache_kb = 256;
  uint32_t rounds = 7;
  bool json = false;
  bool quick = false;
};

Shape shape_of(const std::string& text) {
  Shape shape;
  int end = 0;
  const int parts = std::sscanf(text.c_str(), "%ux%u%n", &shape.rows, &shape.cols, &end);
  if (parts != 2 || static_cast<size_t>(end) != text.size() || shape.rows == 0 ||
      shape.rows > 1u << 20 || shape.cols == 0 || shape.cols > 1u << 20 || shape.cols % 128 != 0) {
    throw std::invalid_argument("--shape " + text +
                                ": expected ROWSxCOLUMNS, columns a multiple of 128");
  }
  return shape;
}

std::vector<kernels::Isa> supported_isas(const std::vector<std::string>& names) {
  std::vector<kernels::Isa> isas;
  for (const kernels::Isa isa : {kernels::Isa::amx, kernels::Isa::avx512, kernels::Isa::avx2,
                                 kernels::Isa::scalar}) {  // the best first
    if (!kernels::supported(isa)) continue;
    const std::string name = kernels::table(isa).name;
    if (std::find(names.begin(), names.end(), name) != names.end()) isas.push_back(isa);
  }
  if (isas.empty()) throw std::invalid_argument("--isa: this processor runs none of these");
  return isas;
}

ProductSettings product_settings(const Settings& settings) {
  ProductSettings products;
  const uint64_t beyond = 4 * last_cache_bytes() + last_cache_bytes() / 4;
  products.memory_bytes = std::min(settings.mb << 20, beyond);
  products.cache_bytes = settings.cache_kb << 10;
  products.group = settings.group;
  products.rounds = settings.rounds;
  products.threads = settings.threads;
  products.tokens = settings.tokens;
  for (const std::string& shape : settings.shapes) products.shapes.push_back(shape_of(shape));
  products.isas = supported_isas(settings.isas);
  products.memory_isas = products.isas;
  if (products.memory_isas.size() > 1) std::erase(products.memory_isas, kernels::Isa::scalar);
  products.round_products = settings.quick ? 1 << 20 : uint64_t{3} << 30;
  products.cache_seconds = settings.quick ? 0 : 0.01;
  return products;
}

// What the figures depend on, above the table and in the JSON.
void describe(const ProductSettings& products, const ProductBench& bench) {
  char text[160];
  std::snprintf(
      text, sizeof text, "%llu MiB, %.1f times the last cache of %llu MiB%s",
      static_cast<unsigned long long>(products.memory_bytes >> 20),
      static_cast<double>(products.memory_bytes) / static_cast<double>(last_cache_bytes()),
      static_cast<unsigned long long>(last_cache_bytes() >> 20),
      products.memory_bytes < 4 * last_cache_bytes() ? ": too little for figures about memory"
                                                     : "");
  benchmark::AddCustomContext("weights in memory", text);
  std::snprintf(text, sizeof text, "%llu KiB",
                static_cast<unsigned long long>(products.cache_bytes >> 10));
  benchmark::AddCustomContext("weights in the cache", text);
  benchmark::AddCustomContext("cycles/weight", bench.cycles().description());
}

// A line for each benchmark: its name and its counters, under a header for each section. Times of
// rounds, which Google's own table begins with, say nothing here.
class TableReporter : public benchmark::ConsoleReporter {
 public:
  TableReporter() : ConsoleReporter(OO_None) {}

  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      std::string header;
      for (const auto& [name, counter] : run.counters) header += padded(name);
      if (header != header_) std::printf("\n%-*s%s\n", kNameWidth, "", header.c_str());
      header_ = header;
      std::printf("%-*s", kNameWidth, run.run_name.function_name.c_str());
      for (const auto& [name, counter] : run.counters) std::printf("%14.4g", counter.value);
      std::printf("\n");
      std::fflush(stdout);
    }
  }

 private:
  static constexpr int kNameWidth = 60;
  static std::string padded(const std::string& name) {
    return std::string(14 - std::min<size_t>(name.size(), 13), ' ') + name;
  }
  std::string header_;
};

void run(Settings settings, const std::vector<std::string>& benchmark_flags) {
  if (settings.quick) {
    settings.shapes = {"64x256"};
    settings.mb = 1;
    settings.cache_kb = 16;
    settings.rounds = 1;
  }
  std::sort(settings.threads.begin(), settings.threads.end());
  std::vector<std::string> arguments = {"kernels"};
  if (settings.json) arguments.push_back("--benchmark_format=json");
  arguments.insert(arguments.end(), benchmark_flags.begin(), benchmark_flags.end());
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  auto count = static_cast<int>(pointers.size());
  benchmark::Initialize(&count, pointers.data());
  if (benchmark::ReportUnrecognizedArguments(count, pointers.data())) {
    throw std::invalid_argument("unknown arguments; --help shows what there is");
  }

  const ProductSettings products = product_settings(settings);
  ProductBench bench(products);
  bench.register_all();
  const uint64_t encoded = settings.quick ? 1 : 4 << 20;
  register_encoder(products.memory_isas, settings.group, encoded, settings.rounds);
  describe(products, bench);
  const bool own_table = std::none_of(
      arguments.begin(), arguments.end(),
      [](const std::string& argument) { return argument.starts_with("--benchmark_format"); });
  TableReporter table;
  if (own_table) {
    benchmark::RunSpecifiedBenchmarks(&table);
  } else {
    benchmark::RunSpecifiedBenchmarks();
  }
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  sluice::bench::Settings settings;
  CLI::App app("Products of every format beside the speed of memory, and the encoder.");
  app.add_option("--shape", settings.shapes, "Matrices, ROWSxCOLUMNS")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--isa", settings.isas, "Instruction sets, as far as this processor runs them")
      ->delimiter(',')
      ->check(CLI::IsMember({"scalar", "avx2", "avx512", "amx"}))
      ->capture_default_str();
  app.add_option("--threads", settings.threads, "Numbers of threads of the memory section")
      ->delimiter(',')
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_option("--tokens", settings.tokens, "Numbers of tokens of the tokens section")
      ->delimiter(',')
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option("--group", settings.group, "Inputs that share a scale (TurboQuant, affine)")
      ->check(CLI::IsMember({32, 64, 128}))
      ->capture_default_str();
  app.add_option("--mb", settings.mb, "At most so many MiB of weights in memory")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--cache-kb", settings.cache_kb, "About so many KiB of weights in the cache")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--rounds", settings.rounds)->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_flag("--json", settings.json, "As --benchmark_format=json");
  app.add_flag("--quick", settings.quick, "A moment's run, to see that it works");
  app.footer("All flags of Google Benchmark work too: --benchmark_filter=REGEX and so on.");
  app.allow_extras();
  return sluice::bench::bench_main(app, argc, argv,
                                   [&] { sluice::bench::run(settings, app.remaining()); });
}
