// Line charts as SVG, inline or in a file of their own: axes, grid, series, a legend beside the
// last points, marked places. Threads: any.
#pragma once

#include <functional>
#include <span>
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

// The rules that give text, lines and series their looks; for the page that shows an svg_chart().
extern const char* const kChartStyle;
// The class of the i-th of several series; there are six colors.
std::string series_class(size_t i);

// x is drawn in powers of two.
std::string svg_chart(const LineChart& chart);

// The content of an .svg file: the charts one below the other, each under its title.
std::string svg_document(const std::string& title, std::span<const LineChart> charts);

// Text as HTML and SVG may show it.
std::string escaped(const std::string& text);
// "12.5": at most two decimals, no trailing zeros.
std::string svg_number(double value);

}  // namespace sluice
