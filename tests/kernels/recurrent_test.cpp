// Causal convolution, and the steps of linear attention and state-space models.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/kernels.h"
#include "tests/kernels/tables.h"

namespace sluice::kernels {
namespace {

struct Convolution {
  uint32_t channels, kernel, tokens;
  std::vector<float> x, weights, bias, history, y;

  Convolution(uint32_t seed, uint32_t c, uint32_t k, uint32_t t)
      : channels(c), kernel(k), tokens(t) {
    Random random(seed);
    x = random.gaussians(size_t{tokens} * (channels + 3));
    weights = random.gaussians(size_t{kernel} * (channels + 1));
    bias = random.gaussians(channels);
    history = random.gaussians(size_t{kernel - 1} * (channels + 1));
    y.assign(size_t{tokens} * (channels + 2), 7.0f);
  }

  // `count` tokens from `first` on.
  void run(const Table& table, uint32_t first, uint32_t count, bool with_bias) {
    table.convolve({.x = x.data() + size_t{first} * (channels + 3),
                    .weights = weights.data(),
                    .bias = with_bias ? bias.data() : nullptr,
                    .history = history.data(),
                    .y = y.data() + size_t{first} * (channels + 2),
                    .channels = channels,
                    .kernel = kernel,
                    .stride = channels + 1,
                    .tokens = count,
                    .x_stride = channels + 3,
                    .y_stride = channels + 2});
  }
};

struct Head {
  uint32_t key_dim, value_dim, tokens;
  std::vector<float> state, query, key, value, out;

  Head(uint32_t seed, uint32_t k, uint32_t v, uint32_t t) : key_dim(k), value_dim(v), tokens(t) {
    Random random(seed);
    state = random.gaussians(recurrent_state_size(key_dim, value_dim));
    query = random.gaussians(size_t{tokens} * key_dim);
    key = random.gaussians(size_t{tokens} * key_dim);
    value = random.gaussians(size_t{tokens} * value_dim);
    out.assign(size_t{tokens} * value_dim, 7.0f);
    for (float& k_i : key) k_i *= 0.3f;
  }

  RecurrentStep step(uint32_t t) {
    return {.state = state.data(),
            .query = query.data() + size_t{t} * key_dim,
            .key = key.data() + size_t{t} * key_dim,
            .value = value.data() + size_t{t} * value_dim,
            .out = out.data() + size_t{t} * value_dim,
            .key_dim = key_dim,
            .value_dim = value_dim,
            .decay = 0.9f - 0.1f * static_cast<float>(t),
            .rate = 0.5f + 0.1f * static_cast<float>(t)};
  }
  float& at(uint32_t i, uint32_t v) {
    return state[size_t{v / 16} * 16 * key_dim + size_t{i} * 16 + v % 16];
  }
};

TEST(ScalarConvolution, WeighsTheLastInputsAndKeepsThemForTheNextCall) {
  Convolution c(1, 3, 4, 6);
  const std::vector<float> history = c.history;
  c.run(scalar(), 0, 6, true);
  for (uint32_t channel = 0; channel < 3; ++channel) {
    const auto input = [&](int t) {
      return static_cast<double>(t < 0 ? history[static_cast<size_t>(t + 3) * 4 + channel]
                                       : c.x[static_cast<size_t>(t) * 6 + channel]);
    };
    for (int t = 0; t < 6; ++t) {
      double total = static_cast<double>(c.bias[channel]);
      for (int j = 0; j < 4; ++j) {
        total +=
            static_cast<double>(c.weights[static_cast<size_t>(j) * 4 + channel]) * input(t + j - 3);
      }
      EXPECT_NEAR(static_cast<double>(c.y[static_cast<size_t>(t) * 5 + channel]),
                  total / (1 + std::exp(-total)), 1e-5);
    }
    for (int r = 0; r < 3; ++r) {
      EXPECT_EQ(static_cast<double>(c.history[static_cast<size_t>(r) * 4 + channel]), input(3 + r));
    }
  }
}

// In double, from the formulas as papers have them.
TEST(ScalarRecurrence, FollowsTheDeltaRuleOrAddsAlone) {
  for (const bool delta : {false, true}) {
    Head head(2, 5, 19, 4);
    std::vector<double> expected(5 * 19);
    for (uint32_t i = 0; i < 5; ++i) {
      for (uint32_t v = 0; v < 19; ++v) expected[i * 19 + v] = static_cast<double>(head.at(i, v));
    }
    for (uint32_t t = 0; t < 4; ++t) {
      const RecurrentStep step = head.step(t);
      (delta ? scalar().delta_step : scalar().add_step)(step);
      const auto decay = static_cast<double>(step.decay), rate = static_cast<double>(step.rate);
      for (uint32_t v = 0; v < 19; ++v) {
        double seen = 0, out = 0;
        for (uint32_t i = 0; i < 5; ++i) {
          expected[i * 19 + v] *= decay;
          seen += static_cast<double>(step.key[i]) * expected[i * 19 + v];
        }
        const double change = rate * (static_cast<double>(step.value[v]) - (delta ? seen : 0));
        for (uint32_t i = 0; i < 5; ++i) {
          expected[i * 19 + v] += static_cast<double>(step.key[i]) * change;
          out += static_cast<double>(step.query[i]) * expected[i * 19 + v];
        }
        EXPECT_NEAR(static_cast<double>(step.out[v]), out, 1e-5);
      }
    }
    for (uint32_t i = 0; i < 5; ++i) {
      for (uint32_t v = 0; v < 19; ++v) {
        EXPECT_NEAR(static_cast<double>(head.at(i, v)), expected[i * 19 + v], 1e-5);
      }
    }
  }
}

class Recurrent : public TableTest {};

TEST_P(Recurrent, ConvolutionsGiveTheScalarBitsForAnySplitOfTheTokens) {
  for (const uint32_t channels : {1u, 15u, 16u, 17u, 64u, 100u}) {
    for (const uint32_t kernel : {2u, 4u, 7u}) {
      for (const bool bias : {false, true}) {
        Convolution expected(channels + kernel, channels, kernel, 9);
        Convolution whole = expected, split = expected;
        expected.run(scalar(), 0, 9, bias);
        whole.run(tested(), 0, 9, bias);
        for (const uint32_t first : {0u, 1u, 2u, 6u}) {
          const uint32_t end = first == 0 ? 1 : first == 1 ? 2 : first == 2 ? 6 : 9;
          split.run(tested(), first, end - first, bias);
        }
        for (const Convolution* other : {&whole, &split}) {
          EXPECT_TRUE(same_bits(other->y, expected.y)) << channels << " channels, " << kernel;
          EXPECT_TRUE(same_bits(other->history, expected.history));
        }
      }
    }
  }
}

TEST_P(Recurrent, StepsGiveTheScalarBits) {
  for (const uint32_t key_dim : {1u, 3u, 4u, 6u, 16u, 128u}) {
    for (const uint32_t value_dim : {1u, 15u, 16u, 33u, 128u}) {
      Head scalar_head(key_dim + value_dim, key_dim, value_dim, 3);
      Head head = scalar_head;
      for (uint32_t t = 0; t < 3; ++t) {
        scalar().delta_step(scalar_head.step(t));
        tested().delta_step(head.step(t));
        EXPECT_TRUE(same_bits(head.out, scalar_head.out)) << key_dim << ", " << value_dim;
        scalar().add_step(scalar_head.step(t));
        tested().add_step(head.step(t));
        EXPECT_TRUE(same_bits(head.out, scalar_head.out)) << key_dim << ", " << value_dim;
      }
      EXPECT_TRUE(same_bits(head.state, scalar_head.state)) << key_dim << ", " << value_dim;
    }
  }
}

SLUICE_FOR_EACH_TABLE(Recurrent);

}  // namespace
}  // namespace sluice::kernels
