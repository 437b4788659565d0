#include "tools/svg_chart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace sluice {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

LineChart chart(const std::string& title) {
  return {.title = title,
          .x_label = "x",
          .series = {{.name = "a&b", .css_class = series_class(0), .points = {{1, 0.5}, {4, 1}}}},
          .x_text = svg_number,
          .y_text = svg_number};
}

TEST(SvgChart, a_document_stands_for_itself) {
  const std::vector<LineChart> charts = {chart("first <one>"), chart("second")};
  const std::string svg = svg_document("all \"of\" it", charts);
  EXPECT_THAT(svg, StartsWith("<svg xmlns=\"http://www.w3.org/2000/svg\""));
  EXPECT_THAT(svg, HasSubstr(kChartStyle));
  EXPECT_THAT(svg, HasSubstr("<title>all &quot;of&quot; it</title>"));
  EXPECT_THAT(svg, HasSubstr(">first &lt;one&gt;</text>"));
  EXPECT_THAT(svg, HasSubstr(">a&amp;b</text>"));
  EXPECT_THAT(svg, Not(HasSubstr("a&b")));
  // The second chart begins where the first one ends.
  EXPECT_LT(svg.find("first"), svg.find("<polyline"));
  EXPECT_LT(svg.find("<polyline"), svg.find("second"));
  EXPECT_LT(svg.find("second"), svg.rfind("<polyline"));
}

TEST(SvgChart, colors_come_again_after_the_last) {
  EXPECT_EQ(series_class(0), "series-0");
  EXPECT_EQ(series_class(6), series_class(0));
  EXPECT_THAT(kChartStyle, HasSubstr(".line." + series_class(5)));
}

}  // namespace
}  // namespace sluice
