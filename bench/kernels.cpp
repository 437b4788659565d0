// kernels: how near the products with TurboQuant weights come to the speed of memory, and how fast
// the encoder is.
//
//   kernels [--mb N] [--cols N] [--group N] [--rounds N] [--threads N] [--quick]
//
// Weights far larger than the last cache are multiplied once from end to end with 1 to 8 vectors,
// in rows and in tiles, each thread its own part; beside it a plain loop reads the same bytes. The
// figures are GB/s of stored bytes, medians of the rounds, and the median of the rounds' ratios to
// that loop (of rows too the tiles' bytes are counted, so that times compare); with --mb 1 the
// weights come from the cache instead. The encoder works on one thread from bf16 in memory: MB/s of
// bf16. Times are the processor's own (own_seconds).
#include "kernels/kernels.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <functional>
#include <random>
#include <span>
#include <stdexcept>
#include <thread>
#include <vector>

#include "cache/slab.h"
#include "kernels/codec.h"
#include "kernels/tiles.h"

namespace sluice::bench {
namespace {

struct Settings {
  uint64_t mb = 512;
  uint32_t cols = 2048;
  uint32_t group = 64;
  uint32_t rounds = 7;
  uint32_t threads = 2;
  bool quick = false;
  bool products = true, encoder = true;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double own_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// work(thread) on that many threads at once; the processor time of the one that took longest, which
// waiting for memory is part of and waiting for a processor is not: these machines are shared.
double seconds_on(uint32_t threads, const std::function<void(uint32_t)>& work) {
  std::vector<double> times(threads);
  const auto timed = [&](uint32_t t) {
    const double start = own_seconds();
    work(t);
    times[t] = own_seconds() - start;
  };
  {
    std::vector<std::jthread> others;
    for (uint32_t t = 1; t < threads; ++t) others.emplace_back(timed, t);
    timed(0);
  }
  return *std::max_element(times.begin(), times.end());
}

std::atomic<uint64_t> kept_sum;  // keeps the reading from being optimized away

void read_plainly(std::span<const std::byte> bytes) {
  using Words = uint64_t __attribute__((vector_size(16)));  // every processor of x86-64 has these
  constexpr size_t kSums = 8;
  Words sums[kSums] = {};
  for (size_t i = 0; i + sizeof(sums) <= bytes.size(); i += sizeof(sums)) {
    const auto* words = reinterpret_cast<const Words*>(bytes.data() + i);
    for (size_t k = 0; k < kSums; ++k) sums[k] += words[k];
  }
  uint64_t total = 0;
  for (const Words& sum : sums) total += sum[0] + sum[1];
  kept_sum = total;
}

std::vector<float> values_of(uint32_t length) {
  const std::span<const float> values = kernels::gaussian_centroids(length);
  return {values.begin(), values.end()};
}

// A matrix of any bytes, as each layout takes them: every code and (as its exponent is bounded)
// every scale is legal.
struct Weights {
  kernels::Codebook codebook;
  kernels::Matrix rows, tiles;
  uint64_t code_bytes = 0, scale_bytes = 0;

  Weights(const Settings& settings, uint32_t length, const Slab& slab) {
    const uint64_t row_bytes = uint64_t{kernels::row_words(settings.cols, length)} * 4 +
                               uint64_t{settings.cols / settings.group} * 2;
    const auto count = static_cast<uint32_t>((settings.mb << 20) / row_bytes / 64 * 64);
    if (count == 0) throw std::invalid_argument("--mb is less than 64 rows of --cols");
    codebook = kernels::make_codebook(values_of(length).data(), length);
    rows = {.format = kernels::Format::turboquant,
            .rows = count,
            .cols = settings.cols,
            .data = slab.bytes().data(),
            .group = settings.group,
            .codebook = &codebook};
    code_bytes = kernels::tile_bytes(count, settings.cols, length);
    scale_bytes = kernels::tile_scale_bytes(count, settings.cols, settings.group);
    const uint64_t word_bytes = uint64_t{count} * kernels::row_words(settings.cols, length) * 4;
    rows.scales = slab.bytes().data() + (std::max(code_bytes, word_bytes) + 63) / 64 * 64;
    tiles = rows;
    tiles.layout = kernels::Layout::tiles;
  }
  uint64_t bytes() const { return code_bytes + scale_bytes; }
};

class Inputs {
 public:
  Inputs(const Settings& settings, uint32_t vectors)
      : value_stride_((settings.cols + 63) / 64 * 64),
        values_(uint64_t{vectors} * value_stride_ * 2),
        scales_(uint64_t{vectors} * (settings.cols / settings.group)),
        sums_(scales_.size()) {
    view = {.values = values_.bytes().data(),
            .scales = scales_.data(),
            .sums = sums_.data(),
            .value_stride = value_stride_,
            .group_stride = settings.cols / settings.group};
    std::mt19937 random(1);
    std::normal_distribution<float> gaussian;
    std::vector<float> x(settings.cols);
    for (uint32_t v = 0; v < vectors; ++v) {
      for (float& value : x) value = gaussian(random);
      kernels::table().quantize(x.data(), settings.cols, settings.group, view, v);
    }
  }
  kernels::QuantizedVectors view;

 private:
  uint32_t value_stride_;
  Slab values_;
  std::vector<float> scales_;
  std::vector<int32_t> sums_;
};

// Tasks of as many rows as the runtime gives its threads for one expert's matrix.
void multiply(const kernels::Matrix& w, const Inputs& inputs, uint32_t vectors, uint32_t thread,
              uint32_t threads, std::vector<float>& y) {
  constexpr uint32_t kTaskRows = 192;
  const uint32_t tasks = (w.rows + kTaskRows - 1) / kTaskRows;
  const uint32_t end = tasks * (thread + 1) / threads;
  for (uint32_t task = tasks * thread / threads; task < end; ++task) {
    const kernels::MatmulTask rows = {.row_begin = task * kTaskRows,
                                      .row_end = std::min(w.rows, (task + 1) * kTaskRows),
                                      .vectors = vectors,
                                      .y_stride = w.rows};
    kernels::table().matmul_integer(w, rows, inputs.view, y.data());
  }
}

void run_products(const Settings& settings) {
  constexpr uint32_t kVectors[] = {1, 2, 4, 8};
  const Slab slab((settings.mb << 20) + (settings.mb << 17) + kernels::kOverreadBytes);
  std::mt19937 random(1);
  for (size_t i = 0; i < slab.bytes().size() / 4; ++i) {
    // No F16 among them is infinite or NaN: the second highest exponent bit of each is 0.
    const uint32_t bits = static_cast<uint32_t>(random()) & 0xdfffdfffu;
    std::memcpy(slab.bytes().data() + i * 4, &bits, 4);
  }
  for (uint32_t threads = 1; threads <= settings.threads; ++threads) {
    std::printf("%u thread%s   plain  %s\n", threads, threads == 1 ? " " : "s",
                "tiles: GB/s (share of plain) with 1, 2, 4, 8 vectors | rows with 1");
    for (const uint32_t length : {4u, 8u, 16u, 256u}) {
      const Weights weights(settings, length, slab);
      const Inputs inputs(settings, 8);
      std::vector<float> y(size_t{8} * weights.rows.rows);
      const double gb = static_cast<double>(weights.bytes()) / 1e9;
      std::vector<double> plain, speed[5], share[5];
      for (uint32_t round = 0; round < settings.rounds; ++round) {
        const std::span<const std::byte> bytes = slab.bytes().first(weights.bytes());
        plain.push_back(gb / seconds_on(threads, [&](uint32_t t) {
                          const size_t part = bytes.size() / threads / 64 * 64;
                          read_plainly(bytes.subspan(t * part, part));
                        }));
        for (size_t i = 0; i < 5; ++i) {
          const kernels::Matrix& w = i < 4 ? weights.tiles : weights.rows;
          const uint32_t vectors = i < 4 ? kVectors[i] : 1;
          speed[i].push_back(gb / seconds_on(threads, [&](uint32_t t) {
                               multiply(w, inputs, vectors, t, threads, y);
                             }));
          share[i].push_back(speed[i].back() / plain.back());
        }
      }
      std::printf("%3d bits %9.1f ", std::countr_zero(length), median(plain));
      for (size_t i = 0; i < 5; ++i) {
        std::printf("%s%5.1f (%3.0f %%)", i == 4 ? " |" : " ", median(speed[i]),
                    100 * median(share[i]));
      }
      std::printf("\n");
    }
  }
}

// One thread from bf16 in memory to bytes in memory, rows as wide as published models have.
void run_encoder(const Settings& settings) {
  std::printf(
      "encoder, 1 thread: MB/s of bf16 into rows, into tiles, into tiles with its error; the same "
      "with searched scales\n");
  for (const uint32_t cols : {768u, 2048u, 7168u}) {
    const uint32_t count = settings.quick ? 16 : (4u << 20) / cols / 16 * 16;
    std::mt19937 random(1);
    std::normal_distribution<float> gaussian(0, 0.02f);
    std::vector<uint16_t> weights(size_t{count} * cols);
    for (uint16_t& weight : weights) {
      weight = static_cast<uint16_t>(std::bit_cast<uint32_t>(gaussian(random)) >> 16);
    }
    std::vector<float> signs(cols), rows(size_t{16} * cols), values(cols);
    std::vector<uint8_t> indices(size_t{16} * cols);
    std::vector<std::byte> codes(size_t{16} * cols), scales(size_t{16} * cols / 16);
    kernels::random_signs(1, cols, signs.data());
    for (const uint32_t length : {4u, 8u, 16u, 256u}) {
      const kernels::Codec codec = kernels::make_codec(cols, settings.group, length, signs.data());
      const kernels::Codec searching = kernels::make_codec(
          cols, settings.group, length, signs.data(), kernels::ScaleRule::search);
      const kernels::Table& table = kernels::table();
      std::vector<double> rates[4];
      for (uint32_t round = 0; round < settings.rounds; ++round) {
        for (size_t i = 0; i < std::size(rates); ++i) {
          kernels::EncodingError error;
          const double time = seconds_on(1, [&](uint32_t) {
            for (uint32_t row = 0; row < count; row += 16) {
              table.to_f32(kernels::Format::bf16,
                           reinterpret_cast<const std::byte*>(weights.data() + size_t{row} * cols),
                           size_t{16} * cols, rows.data());
              if (i == 0) {
                kernels::encode_rows(codec, table, rows.data(), 16,
                                     {values.data(), indices.data(), codes.data(), scales.data()});
              } else {
                kernels::encode_tiles(i == 3 ? searching : codec, table, rows.data(), 16,
                                      {values.data(), indices.data(), codes.data(), scales.data()},
                                      i >= 2 ? &error : nullptr);
              }
            }
          });
          rates[i].push_back(2e-6 * static_cast<double>(weights.size()) / time);
        }
      }
      std::printf("%5u inputs, %d bits %8.0f %8.0f %8.0f %8.0f\n", cols, std::countr_zero(length),
                  median(rates[0]), median(rates[1]), median(rates[2]), median(rates[3]));
    }
  }
}

void run(Settings settings) {
  if (settings.quick) {
    settings.mb = 4;
    settings.rounds = 1;
  }
  std::printf("%s, %u inputs in groups of %u, %llu MiB\n", kernels::table().name, settings.cols,
              settings.group, static_cast<unsigned long long>(settings.mb));
  if (settings.products) run_products(settings);
  if (settings.encoder) run_encoder(settings);
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  sluice::bench::Settings settings;
  CLI::App app("TurboQuant products beside the speed of memory, and the encoder.");
  app.add_option("--mb", settings.mb, "Weights in MiB")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  app.add_option("--cols", settings.cols, "Inputs; a multiple of the group")->capture_default_str();
  app.add_option("--group", settings.group)
      ->check(CLI::IsMember({32, 64, 128}))
      ->capture_default_str();
  app.add_option("--rounds", settings.rounds)->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--threads", settings.threads)->check(CLI::Range(1, 64))->capture_default_str();
  app.add_flag("!--no-products", settings.products, "Leave the products out");
  app.add_flag("!--no-encoder", settings.encoder, "Leave the encoder out");
  app.add_flag("--quick", settings.quick, "A moment's run, to see that it works");
  CLI11_PARSE(app, argc, argv);
  try {
    if (settings.cols % settings.group != 0)
      throw std::invalid_argument("--cols: not whole groups");
    sluice::bench::run(settings);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kernels: %s\n", error.what());
    return 1;
  }
}
