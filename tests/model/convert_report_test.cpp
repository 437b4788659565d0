// The report's theory, and what it names.

#include "model/convert_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace sluice {
namespace {

// E[(x - nearest)²] of the published centroids.
TEST(ConvertReportTest, TheoryIsWhatIsPublished) {
  EXPECT_NEAR(expected_distortion(4), 0.11748, 5e-6);
  EXPECT_NEAR(expected_distortion(8), 0.03455, 5e-6);
  EXPECT_NEAR(expected_distortion(16), 0.00950, 5e-6);
  // Uniform with the step 1/32: step² / 12, and 8 % more for what lies beyond ±255/64.
  EXPECT_NEAR(expected_distortion(256), 1.0 / (12 * 32 * 32) + 6.64e-6, 1e-8);
}

TEST(ConvertReportTest, NamesWhatMissesTheory) {
  MatrixReport good;
  good.path = "good";
  good.codebook_length = 16;
  good.experts = 2;
  good.add(0, {0.0096, 1});
  good.add(1, {0.0095, 1});
  MatrixReport bad = good;
  bad.path = "bad";
  bad.add(1, {0.02, 1});
  EXPECT_FALSE(misses_theory(good));
  EXPECT_TRUE(misses_theory(bad));
  const std::vector<MatrixReport> both = {good, bad};
  EXPECT_EQ(report_json(both).at("missed").dump(), R"(["bad"])");
  EXPECT_THAT(report_lines(both).back(), testing::HasSubstr("misses theory: bad"));
}

}  // namespace
}  // namespace sluice
