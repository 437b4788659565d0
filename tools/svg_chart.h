// Line charts as inline SVG: axes, grid, series, a legend beside the last points, marked places.
// Threads: any.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace sluice {

struct ChartSeries {
  std::string name;
  std::string css_class;  // gives the line its color: "series-0"
  std::vector<std::pair<double, double>> points;
};

struct ChartMark {  // a vertical line
  double x = 0;
  std::string label;
};

struct LineChart {
  std::string title;  // read out in place of the picture
  std::string x_label;
  std::vector<ChartSeries> series;  // each with at least one point; x > 0
  std::vector<ChartMark> marks = {};
  double y_most = 1;  // the axis begins at 0
  // Texts of values on the axes.
  std::function<std::string(double)> x_text;
  std::function<std::string(double)> y_text;
};

// x is drawn in powers of two.
std::string svg_chart(const LineChart& chart);

// Text as HTML and SVG may show it.
std::string escaped(const std::string& text);
// "12.5": at most two decimals, no trailing zeros.
std::string svg_number(double value);

}  // namespace sluice
