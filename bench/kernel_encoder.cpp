#include "bench/kernel_encoder.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <bit>
#include <random>
#include <string>
#include <vector>

#include "bench/bench_file.h"
#include "bench/ceiling.h"
#include "kernels/codec.h"

namespace sluice::bench {
namespace {

enum class Output : uint8_t { rows, tiles, tiles_error, tiles_searched };
constexpr const char* kOutputNames[] = {"rows", "tiles", "tiles.error", "tiles.searched"};

struct Case {
  kernels::Isa isa;
  uint32_t group, cols, bits, count;  // count: rows, a multiple of 16
  Output output;
};

void run_encoder(benchmark::State& state, const Case& c) {
  std::mt19937 random(1);
  std::normal_distribution<float> gaussian(0, 0.02f);
  std::vector<uint16_t> weights(size_t{c.count} * c.cols);
  for (uint16_t& weight : weights) {
    weight = static_cast<uint16_t>(std::bit_cast<uint32_t>(gaussian(random)) >> 16);
  }
  std::vector<float> signs(c.cols), rows(size_t{16} * c.cols), values(c.cols);
  std::vector<uint8_t> indices(size_t{16} * c.cols);
  std::vector<std::byte> codes(size_t{16} * c.cols), scales(size_t{16} * c.cols / 16);
  kernels::random_signs(1, c.cols, signs.data());
  const kernels::Codec codec = kernels::make_codec(
      c.cols, c.group, 1u << c.bits, signs.data(),
      c.output == Output::tiles_searched ? kernels::ScaleRule::search : kernels::ScaleRule::rms);
  const kernels::Table& table = kernels::table(c.isa);
  std::vector<double> rates;
  for (auto round : state) {
    kernels::EncodingError error;
    const Seconds seconds = seconds_on(1, [&](uint32_t) {
      for (uint32_t row = 0; row < c.count; row += 16) {
        table.to_f32(kernels::Format::bf16,
                     reinterpret_cast<const std::byte*>(weights.data() + size_t{row} * c.cols),
                     size_t{16} * c.cols, rows.data());
        if (c.output == Output::rows) {
          kernels::encode_rows(codec, table, rows.data(), 16,
                               {values.data(), indices.data(), codes.data(), scales.data()});
        } else {
          kernels::encode_tiles(codec, table, rows.data(), 16,
                                {values.data(), indices.data(), codes.data(), scales.data()},
                                c.output == Output::tiles ? nullptr : &error);
        }
      }
    });
    rates.push_back(2e-6 * static_cast<double>(weights.size()) / seconds.own);
    state.SetIterationTime(seconds.wall);
  }
  state.counters["MB/s"] = median(rates);
}

}  // namespace

void register_encoder(std::span<const kernels::Isa> isas, uint32_t group, uint64_t weights,
                      uint32_t rounds) {
  for (const kernels::Isa isa : isas) {
    for (const uint32_t cols : {768u, 2048u, 7168u}) {
      for (const uint32_t bits : {2u, 3u, 4u, 8u}) {
        for (const Output output :
             {Output::rows, Output::tiles, Output::tiles_error, Output::tiles_searched}) {
          const auto count = static_cast<uint32_t>(std::max<uint64_t>(weights / cols / 16, 1)) * 16;
          const Case c = {isa, group, cols, bits, count, output};
          const std::string name = std::string("encode/") +
                                   kOutputNames[static_cast<size_t>(output)] +
                                   "/bits:" + std::to_string(bits) +
                                   "/cols:" + std::to_string(cols) + "/" + kernels::table(isa).name;
          benchmark::RegisterBenchmark(name.c_str(),
                                       [c](benchmark::State& state) { run_encoder(state, c); })
              ->Iterations(rounds)
              ->UseManualTime()
              ->Unit(benchmark::kMillisecond);
        }
      }
    }
  }
}

}  // namespace sluice::bench
