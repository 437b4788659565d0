#include "bench/kernel_products.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <functional>

#include "bench/bench_file.h"
#include "bench/ceiling.h"

namespace sluice::bench {
namespace {

// About what the runtime gives its threads of one expert's matrix; a multiple of a tile's 16.
constexpr uint32_t kTaskRows = 192;

// Matrices [first, first + count) of a set.
struct Range {
  uint64_t first, count;
};

// Goes round a set, so that what it gives was not touched for as long as possible.
class Cursor {
 public:
  explicit Cursor(const WeightSet& set) : size_(set.count()) {}
  Range next(uint64_t count) {
    count = std::clamp<uint64_t>(count, 1, size_);
    if (next_ + count > size_) next_ = 0;
    next_ += count;
    return {next_ - count, count};
  }

 private:
  uint64_t size_, next_ = 0;
};

Seconds read_range(const WeightSet& set, Range range, uint32_t threads) {
  return read_plainly_on(threads, set.bytes(range.first, range.count));
}

// Multiplies matrices with the first tokens of the inputs.
class Multiplier {
 public:
  Multiplier(const WeightSet& set, const kernels::Table& table, uint32_t threads, uint32_t tokens)
      : set_(set), inputs_(table, set.form(), tokens), y_(threads) {
    for (auto& y : y_) y.resize(uint64_t{tokens} * set.shape().rows);
  }
  // The tasks of one thread: contiguous ones.
  void run_part(Range range, uint32_t tokens, uint32_t thread, uint32_t threads) {
    const uint32_t rows = set_.shape().rows;
    const uint64_t per_matrix = (rows + kTaskRows - 1) / kTaskRows;
    const uint64_t tasks = range.count * per_matrix;
    const uint64_t end = tasks * (thread + 1) / threads;
    for (uint64_t task = tasks * thread / threads; task < end; ++task) {
      const auto row = static_cast<uint32_t>(task % per_matrix) * kTaskRows;
      inputs_.multiply(
          set_.matrix(range.first + task / per_matrix),
          {.row_begin = row, .row_end = std::min(rows, row + kTaskRows), .vectors = tokens},
          y_[thread].data());
    }
  }
  Seconds run(Range range, uint32_t tokens) {
    const auto threads = static_cast<uint32_t>(y_.size());
    return seconds_on(threads, [&](uint32_t t) { run_part(range, tokens, t, threads); });
  }

 private:
  const WeightSet& set_;
  Inputs inputs_;
  std::vector<std::vector<float>> y_;  // of each thread
};

double median_of(size_t count, const std::function<double(size_t)>& value) {
  std::vector<double> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = value(i);
  return median(std::move(values));
}

// What every section counts. Round i of the products lies between rounds i and i + 1 of the plain
// loop, which read plain_bytes; the products stored_bytes.
void count_speed(benchmark::State& state, const std::vector<Seconds>& products, double stored_bytes,
                 const std::vector<Seconds>& plain, double plain_bytes) {
  const auto over_rounds = [&](const std::function<double(size_t)>& value) {
    return median_of(products.size(), value);
  };
  const auto of_plain = [&](double Seconds::*clock) {
    return over_rounds([&, clock](size_t i) {
      const double around = (plain[i].*clock + plain[i + 1].*clock) / 2;
      return (stored_bytes / products[i].*clock) / (plain_bytes / around);
    });
  };
  state.counters["GB/s"] =
      over_rounds([&](size_t i) { return stored_bytes / products[i].own / 1e9; });
  state.counters["ceiling"] =
      median_of(plain.size(), [&](size_t i) { return plain_bytes / plain[i].own / 1e9; });
  state.counters["of_ceiling"] = of_plain(&Seconds::own);
  state.counters["of_ceil_wall"] = of_plain(&Seconds::wall);
  state.counters["ran"] = over_rounds([&](size_t i) { return products[i].own / products[i].wall; });
}

std::string shape_name(Shape shape) {
  return std::to_string(shape.rows) + "x" + std::to_string(shape.cols);
}

}  // namespace

ProductBench::ProductBench(const ProductSettings& settings)
    : settings_(settings), formats_(stored_formats(settings.group)) {}

const WeightSet& ProductBench::weights_in_memory(const Case& c) {
  const bool same = in_memory_ && in_memory_format_ == c.format &&
                    in_memory_->shape().rows == c.shape.rows &&
                    in_memory_->shape().cols == c.shape.cols;
  if (!same) {
    if (!memory_) memory_ = std::make_unique<Slab>(settings_.memory_bytes);
    in_memory_ = std::make_unique<WeightSet>(*c.format, c.shape, memory_->bytes());
    in_memory_format_ = c.format;
  }
  return *in_memory_;
}

void ProductBench::run_memory(benchmark::State& state, const Case& c) {
  const WeightSet& set = weights_in_memory(c);
  const Range all = {0, set.count()};
  Multiplier multiplier(set, kernels::table(c.isa), c.threads, 1);
  std::vector<Seconds> products, plain = {read_range(set, all, c.threads)};
  for (auto round : state) {
    products.push_back(multiplier.run(all, 1));
    plain.push_back(read_range(set, all, c.threads));
    state.SetIterationTime(products.back().wall);
  }
  count_speed(state, products, static_cast<double>(set.count() * set.stored_bytes()), plain,
              static_cast<double>(set.bytes(0, set.count()).size()));
}

void ProductBench::run_cache(benchmark::State& state, const Case& c) {
  // As many rows of the shape as the cache has room for.
  const uint64_t row_bytes = WeightSet::bytes_of(*c.format, c.shape) / c.shape.rows + 1;
  const uint64_t rows =
      std::clamp<uint64_t>(settings_.cache_bytes / row_bytes / 16 * 16, 16, c.shape.rows);
  const Shape part = {static_cast<uint32_t>(rows), c.shape.cols};
  const Slab memory(WeightSet::bytes_of(*c.format, part));
  const WeightSet set(*c.format, part, memory.bytes());
  Multiplier multiplier(set, kernels::table(c.isa), 1, 1);
  const Range all = {0, 1};
  multiplier.run(all, 1);
  const double once = multiplier.run(all, 1).own;
  const auto passes = static_cast<uint64_t>(settings_.cache_seconds / std::max(once, 1e-7)) + 1;
  const auto read = [&] {
    return seconds_on(1, [&](uint32_t) {
      for (uint64_t i = 0; i < passes; ++i) read_plainly(set.bytes(0, 1));
    });
  };
  std::vector<Seconds> products, plain = {read()};
  std::vector<double> cycles;
  for (auto round : state) {
    products.push_back(seconds_on(1, [&](uint32_t) {
      cycles.push_back(cycles_.cycles_of([&] {
        for (uint64_t i = 0; i < passes; ++i) multiplier.run_part(all, 1, 0, 1);
      }));
    }));
    plain.push_back(read());
    state.SetIterationTime(products.back().wall);
  }
  const auto times = static_cast<double>(passes);
  count_speed(state, products, times * static_cast<double>(set.stored_bytes()), plain,
              times * static_cast<double>(set.bytes(0, 1).size()));
  state.counters["cycles/weight"] = median(cycles) / (times * static_cast<double>(set.weights()));
}

void ProductBench::run_tokens(benchmark::State& state, const Case& c) {
  const WeightSet& set = weights_in_memory(c);
  Multiplier multiplier(set, kernels::table(c.isa), c.threads, c.tokens);
  // The single token and the plain loop, which are fast, take what makes a time worth reading.
  constexpr uint64_t kLeastBytes = 64 << 20;
  const uint64_t least = kLeastBytes / set.stored_bytes();
  const uint64_t budget = settings_.round_products / (set.weights() * c.tokens);
  Cursor cursor(set);
  const auto read = [&] {
    const Range range = cursor.next(std::max(least, budget));
    return read_range(set, range, c.threads);
  };
  std::vector<Seconds> products, plain = {read()};
  std::vector<double> of_one_token;
  uint64_t matrices = 1, plain_matrices = 1;
  for (auto round : state) {
    const Range range = cursor.next(budget), one = cursor.next(std::max(least, budget));
    matrices = range.count;
    plain_matrices = one.count;
    products.push_back(multiplier.run(range, c.tokens));
    const Seconds single = multiplier.run(one, 1);
    plain.push_back(read());
    of_one_token.push_back((products.back().own / static_cast<double>(range.count * c.tokens)) /
                           (single.own / static_cast<double>(one.count)));
    state.SetIterationTime(products.back().wall);
  }
  count_speed(state, products, static_cast<double>(matrices * set.stored_bytes()), plain,
              static_cast<double>(set.bytes(0, plain_matrices).size()));
  const double own = median_of(products.size(), [&](size_t i) { return products[i].own; });
  const double matrix_tokens = static_cast<double>(matrices * c.tokens);
  state.counters["ns/token"] = own * 1e9 / matrix_tokens;
  state.counters["of_1_token"] = median(of_one_token);
  state.counters["GMAC/s"] = matrix_tokens * static_cast<double>(set.weights()) / own / 1e9;
}

std::string ProductBench::name_of(const char* section, const Case& c) const {
  return std::string(section) + "/" + c.format->name + "/" + shape_name(c.shape) + "/" +
         kernels::table(c.isa).name;
}

void ProductBench::register_all() {
  const auto add = [&](const std::string& name, const Case& c,
                       void (ProductBench::*run)(benchmark::State&, const Case&)) {
    benchmark::RegisterBenchmark(
        name.c_str(), [this, c, run](benchmark::State& state) { (this->*run)(state, c); })
        ->Iterations(settings_.rounds)
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
  };
  for (const Shape shape : settings_.shapes) {
    for (const StoredFormat& format : formats_) {
      for (const kernels::Isa isa : settings_.memory_isas) {
        for (const uint32_t threads : settings_.threads) {
          const Case c = {&format, shape, isa, threads};
          add(name_of("memory", c) + "/threads:" + std::to_string(threads), c,
              &ProductBench::run_memory);
        }
      }
    }
  }
  for (const Shape shape : settings_.shapes) {
    for (const StoredFormat& format : formats_) {
      for (const kernels::Isa isa : settings_.isas) {
        const Case c = {&format, shape, isa};
        add(name_of("cache", c), c, &ProductBench::run_cache);
      }
    }
  }
  // The first shape and the best table: many tokens take long, and say little new about the others.
  for (const StoredFormat& format : formats_) {
    for (const uint32_t tokens : settings_.tokens) {
      const Case c = {&format, settings_.shapes.front(), settings_.memory_isas.front(),
                      settings_.threads.back(), tokens};
      add(name_of("tokens", c) + "/threads:" + std::to_string(c.threads) +
              "/tokens:" + std::to_string(tokens),
          c, &ProductBench::run_tokens);
    }
  }
}

}  // namespace sluice::bench
