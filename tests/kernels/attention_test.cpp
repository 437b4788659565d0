// Attention of one token.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/kernels.h"
#include "tests/kernels/tables.h"

namespace sluice::kernels {
namespace {

// Random queries, keys and values of a format.
struct Inputs {
  AttentionTask task;
  std::vector<float> q;
  Bytes k, v;

  Inputs(Random& random, KvFormat format, uint32_t head_dim, uint32_t heads, uint32_t positions) {
    q = random.gaussians(size_t{heads} * head_dim);
    const size_t count = size_t{positions} * head_dim;
    const size_t width = format == KvFormat::f16 ? 2 : 4;
    for (Bytes* bytes : {&k, &v}) {
      *bytes = Bytes(count * width, random.between(0, 3));
      const auto values = random.gaussians(count);
      if (format == KvFormat::f16) {
        scalar().to_f16(values.data(), count, bytes->data());
      } else {
        std::memcpy(bytes->data(), values.data(), count * width);
      }
    }
    task = {.q = q.data(),
            .k = k.data(),
            .v = v.data(),
            .format = format,
            .head_dim = head_dim,
            .heads = heads,
            .positions = positions,
            .scale = 1 / std::sqrt(static_cast<float>(head_dim))};
  }
  Inputs(const Inputs&) = delete;
  Inputs& operator=(const Inputs&) = delete;

  std::vector<float> attend(const Table& by) {
    std::vector<float> scores(size_t{task.heads} * task.positions, NAN);
    const uint32_t width = task.value_dim > 0 ? task.value_dim : task.head_dim;
    std::vector<float> out(size_t{task.heads} * width, NAN);
    task.scores = scores.data();
    task.out = out.data();
    by.attention(task);
    return out;
  }
  double element(const std::byte* from, size_t index) const {
    float value;
    if (task.format == KvFormat::f16) {
      scalar().to_f32(Format::f16, from + index * 2, 1, &value);
    } else {
      scalar().to_f32(Format::f32, from + index * 4, 1, &value);
    }
    return static_cast<double>(value);
  }
};

TEST(ScalarAttention, IsCloseToDoublePrecision) {
  Random random(1);
  for (const KvFormat format : {KvFormat::f32, KvFormat::f16}) {
    constexpr uint32_t kDim = 48, kHeads = 3, kPositions = 40;
    Inputs inputs(random, format, kDim, kHeads, kPositions);
    const auto out = inputs.attend(scalar());
    for (uint32_t head = 0; head < kHeads; ++head) {
      std::vector<double> weights(kPositions);
      double total = 0;
      for (uint32_t t = 0; t < kPositions; ++t) {
        double score = 0;
        for (uint32_t i = 0; i < kDim; ++i) {
          score += static_cast<double>(inputs.q[head * kDim + i]) *
                   inputs.element(inputs.task.k, t * kDim + i);
        }
        weights[t] = std::exp(score / std::sqrt(static_cast<double>(kDim)));
        total += weights[t];
      }
      for (uint32_t i = 0; i < kDim; ++i) {
        double exact = 0, magnitude = 0;
        for (uint32_t t = 0; t < kPositions; ++t) {
          const double term = weights[t] / total * inputs.element(inputs.task.v, t * kDim + i);
          exact += term;
          magnitude += std::abs(term);
        }
        // A weight's relative error is its score's absolute one (scores below 4, 10 roundings) and
        // a few of exp and the sum; then one rounding per position.
        EXPECT_NEAR(static_cast<double>(out[head * kDim + i]), exact,
                    (40 + 16 + kPositions) * 0x1p-24 * magnitude);
      }
    }
  }
}

TEST(ScalarAttention, OfOnePositionIsItsValue) {
  Random random(2);
  Inputs inputs(random, KvFormat::f16, 16, 2, 1);
  const auto out = inputs.attend(scalar());
  for (uint32_t i = 0; i < 32; ++i) {
    EXPECT_EQ(static_cast<double>(out[i]), inputs.element(inputs.task.v, i % 16));
  }
}

TEST(ScalarAttention, ASinkTakesItsShareOfTheWeights) {
  Random random(4);
  Inputs inputs(random, KvFormat::f32, 16, 2, 5);
  const auto without = inputs.attend(scalar());
  // The share of head h is e^s / (e^s + Σ e^scores); the scores follow from a sink of -infinity.
  const std::vector<float> sinks = {0.5f, 3.0f};
  inputs.task.sinks = sinks.data();
  const auto with = inputs.attend(scalar());
  for (uint32_t head = 0; head < 2; ++head) {
    double total = 0;
    for (uint32_t t = 0; t < 5; ++t) {
      double score = 0;
      for (uint32_t i = 0; i < 16; ++i) {
        score += static_cast<double>(inputs.q[head * 16 + i]) *
                 inputs.element(inputs.task.k, t * 16 + i);
      }
      total += std::exp(score / 4);
    }
    const double kept = total / (total + std::exp(static_cast<double>(sinks[head])));
    for (uint32_t i = head * 16; i < head * 16 + 16; ++i) {
      EXPECT_NEAR(static_cast<double>(with[i]), static_cast<double>(without[i]) * kept, 1e-6);
    }
  }
}

TEST(ScalarAttention, ASinkFarAboveTheScoresLeavesNothing) {
  Random random(5);
  Inputs inputs(random, KvFormat::f16, 16, 1, 9);
  const float sink = 1e4f;
  inputs.task.sinks = &sink;
  for (const float value : inputs.attend(scalar())) EXPECT_EQ(value, 0.0f);
}

// As latent attention has them: the first 16 of each key's 24 are its value.
TEST(ScalarAttention, ValuesMayBeAPartOfTheKeys) {
  constexpr uint32_t kDim = 24, kWidth = 16, kHeads = 3, kPositions = 21;
  for (const KvFormat format : {KvFormat::f32, KvFormat::f16}) {
    Random random(4);
    Inputs inputs(random, format, kDim, kHeads, kPositions);
    inputs.task.v = inputs.task.k;
    const auto whole = inputs.attend(scalar());
    inputs.task.value_dim = kWidth;
    inputs.task.value_stride = kDim;
    const auto part = inputs.attend(scalar());
    for (uint32_t head = 0; head < kHeads; ++head) {
      for (uint32_t i = 0; i < kWidth; ++i) {
        EXPECT_EQ(part[head * kWidth + i], whole[head * kDim + i]);
      }
    }
  }
}

class TableAttention : public TableTest {};

TEST_P(TableAttention, HasTheBitsOfTheScalarTable) {
  Random random(3);
  for (const KvFormat format : {KvFormat::f32, KvFormat::f16}) {
    for (const uint32_t head_dim : {2u, 6u, 16u, 24u, 46u, 64u, 80u, 128u, 192u, 256u}) {
      for (const uint32_t heads : {1u, 3u, 4u, 7u, 8u, 13u}) {
        const uint32_t positions = random.between(1, 150);
        Inputs inputs(random, format, head_dim, heads, positions);
        EXPECT_TRUE(same_bits(inputs.attend(scalar()), inputs.attend(tested())))
            << head_dim << " lanes, " << heads << " heads, " << positions << " positions";
      }
    }
  }
}

TEST_P(TableAttention, WithSinksHasTheBitsOfTheScalarTable) {
  Random random(6);
  for (const uint32_t positions : {1u, 7u, 16u, 33u, 150u}) {
    Inputs inputs(random, KvFormat::f16, 24, 5, positions);
    const auto sinks = random.gaussians(5);
    inputs.task.sinks = sinks.data();
    EXPECT_TRUE(same_bits(inputs.attend(scalar()), inputs.attend(tested()))) << positions;
  }
}

TEST_P(TableAttention, OfValuesInsideTheKeysHasTheBitsOfTheScalarTable) {
  struct Widths {
    uint32_t key, value;
  };
  Random random(5);
  for (const KvFormat format : {KvFormat::f32, KvFormat::f16}) {
    for (const auto [key, value] : {Widths{40, 32}, Widths{576, 512}, Widths{25, 7}}) {
      for (const uint32_t heads : {1u, 4u, 6u}) {
        Inputs inputs(random, format, key, heads, random.between(1, 100));
        inputs.task.v = inputs.task.k;
        inputs.task.value_dim = value;
        inputs.task.value_stride = key;
        EXPECT_TRUE(same_bits(inputs.attend(scalar()), inputs.attend(tested())))
            << value << " of " << key << ", " << heads << " heads";
      }
    }
  }
}

SLUICE_FOR_EACH_TABLE(TableAttention);

}  // namespace
}  // namespace sluice::kernels
