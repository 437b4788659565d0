#include "tools/svg_chart.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace sluice {
namespace {

// The picture in its own units; the browser scales it.
constexpr double kWidth = 860, kHeight = 340;
constexpr double kLeft = 70, kTop = 34, kBottom = 50;
constexpr double kPlotHeight = kHeight - kTop - kBottom;
constexpr double kLeastRight = 120, kLetterWidth = 7.6;  // of the names of series, which are bold
constexpr int kYSteps = 5;
constexpr double kLeastLabelGap = 15;  // a line of text
constexpr double kLeastTickGap = 62;   // a value's text
// Of a file with several charts: its title, and the one of each chart.
constexpr double kTitleHeight = 46, kHeadingHeight = 30, kHeadingLeft = 24;
constexpr size_t kColors = 6;  // series of kChartStyle

class Scale {
 public:
  // right: the margin for the names of series.
  Scale(const LineChart& chart, double right)
      : plot_width_(kWidth - kLeft - right), y_most_(chart.y_most) {
    least_ = most_ = std::log2(chart.series.front().points.front().first);
    for (const ChartSeries& series : chart.series) {
      for (const auto& [x, y] : series.points) {
        least_ = std::min(least_, std::log2(x));
        most_ = std::max(most_, std::log2(x));
      }
    }
    if (most_ == least_) most_ = least_ + 1;
  }

  double x(double value) const {
    return kLeft + plot_width_ * (std::log2(value) - least_) / (most_ - least_);
  }
  double right() const { return kLeft + plot_width_; }  // where the plot ends
  double y(double value) const { return kTop + kPlotHeight * (1 - value / y_most_); }

 private:
  double plot_width_;
  double y_most_;
  double least_ = 0;
  double most_ = 1;
};

std::string text_at(double x, double y, const std::string& text, const std::string& attributes) {
  return "<text x=\"" + svg_number(x) + "\" y=\"" + svg_number(y) + "\" " + attributes + ">" +
         escaped(text) + "</text>\n";
}

std::string line(double x1, double y1, double x2, double y2, const std::string& css_class) {
  return "<line class=\"" + css_class + "\" x1=\"" + svg_number(x1) + "\" y1=\"" + svg_number(y1) +
         "\" x2=\"" + svg_number(x2) + "\" y2=\"" + svg_number(y2) + "\"/>\n";
}

std::string axes(const LineChart& chart, const Scale& scale) {
  std::string svg;
  for (int i = 0; i <= kYSteps; ++i) {
    const double value = chart.y_most * i / kYSteps;
    svg += line(kLeft, scale.y(value), scale.right(), scale.y(value), "grid");
    svg += text_at(kLeft - 8, scale.y(value) + 4, chart.y_text(value), "text-anchor=\"end\"");
  }
  double last = -kLeastTickGap;
  for (const auto& [value, unused] : chart.series.front().points) {
    if (scale.x(value) - last < kLeastTickGap) continue;
    last = scale.x(value);
    svg += line(last, kTop + kPlotHeight, last, kTop + kPlotHeight + 5, "grid");
    svg += text_at(last, kTop + kPlotHeight + 19, chart.x_text(value), "text-anchor=\"middle\"");
  }
  return svg + text_at((kLeft + scale.right()) / 2, kHeight - 8, chart.x_label,
                       "text-anchor=\"middle\" class=\"axis\"");
}

// Marks side by side get their labels on two lines.
std::string marks(const LineChart& chart, const Scale& scale) {
  std::string svg;
  for (size_t i = 0; i < chart.marks.size(); ++i) {
    const double x = scale.x(chart.marks[i].x);
    const double above = i % 2 == 0 ? 6 : 20;
    svg += line(x, kTop - above + 2, x, kTop + kPlotHeight, "mark");
    svg += text_at(x, kTop - above, chart.marks[i].label, "text-anchor=\"middle\" class=\"axis\"");
  }
  return svg;
}

std::string lines(const LineChart& chart, const Scale& scale) {
  std::string svg;
  for (const ChartSeries& series : chart.series) {
    svg += "<polyline class=\"line " + series.css_class + "\" points=\"";
    for (const auto& [x, y] : series.points) {
      svg += svg_number(scale.x(x)) + "," + svg_number(scale.y(y)) + " ";
    }
    svg += "\"/>\n";
    for (const auto& [x, y] : series.points) {
      svg += "<circle class=\"dot " + series.css_class + "\" cx=\"" + svg_number(scale.x(x)) +
             "\" cy=\"" + svg_number(scale.y(y)) + "\" r=\"3\"><title>" + escaped(series.name) +
             ", " + escaped(chart.x_text(x)) + ": " + escaped(chart.y_text(y)) +
             "</title></circle>\n";
    }
  }
  return svg;
}

// Names at the ends of the lines, pushed apart where those are close.
std::string legend(const LineChart& chart, const Scale& scale) {
  std::vector<std::pair<double, const ChartSeries*>> labels;
  for (const ChartSeries& series : chart.series) {
    labels.push_back({scale.y(series.points.back().second), &series});
  }
  std::ranges::stable_sort(labels, {}, [](const auto& label) { return label.first; });
  std::string svg;
  double free_from = kTop;
  for (const auto& [wanted, series] : labels) {
    const double y = std::max(wanted, free_from);
    free_from = y + kLeastLabelGap;
    svg += text_at(scale.right() + 10, y + 4, series->name,
                   "class=\"name " + series->css_class + "\"");
  }
  return svg;
}

double right_margin(const LineChart& chart) {
  double right = kLeastRight;
  for (const ChartSeries& series : chart.series) {
    right = std::max(right, 16 + kLetterWidth * static_cast<double>(series.name.size()));
  }
  return right;
}

std::string picture(const LineChart& chart, double right) {
  const Scale scale(chart, right);
  return axes(chart, scale) + marks(chart, scale) + lines(chart, scale) + legend(chart, scale);
}

}  // namespace

const char* const kChartStyle = R"(
svg text { font: 12px system-ui, sans-serif; fill: #3b444c; }
svg .title { font-size: 18px; font-weight: 600; }
svg .heading { font-size: 14px; font-weight: 600; }
svg .axis { fill: #5a646e; } svg .grid { stroke: #e3e7ea; }
svg .mark { stroke: #b8860b; stroke-dasharray: 4 3; }
svg .line { fill: none; stroke-width: 2.2; } svg .name { font-weight: 600; }
.line.series-0 { stroke: #0b559f; } .dot.series-0, svg .name.series-0 { fill: #0b559f; }
.line.series-1 { stroke: #c2410c; } .dot.series-1, svg .name.series-1 { fill: #c2410c; }
.line.series-2 { stroke: #7c3aed; } .dot.series-2, svg .name.series-2 { fill: #7c3aed; }
.line.series-3 { stroke: #0f766e; } .dot.series-3, svg .name.series-3 { fill: #0f766e; }
.line.series-4 { stroke: #a21caf; } .dot.series-4, svg .name.series-4 { fill: #a21caf; }
.line.series-5 { stroke: #57534e; } .dot.series-5, svg .name.series-5 { fill: #57534e; }
.line.best { stroke: #3f7d20; stroke-dasharray: 6 4; } .dot.best, svg .name.best { fill: #3f7d20; }
)";

std::string svg_number(double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%.2f", value);
  std::string number = text;
  while (number.back() == '0') number.pop_back();
  if (number.back() == '.') number.pop_back();
  return number;
}

std::string escaped(const std::string& text) {
  std::string html;
  for (const char letter : text) {
    switch (letter) {
      case '&':
        html += "&amp;";
        break;
      case '<':
        html += "&lt;";
        break;
      case '>':
        html += "&gt;";
        break;
      case '"':
        html += "&quot;";
        break;
      default:
        html += letter;
    }
  }
  return html;
}

std::string series_class(size_t i) { return "series-" + std::to_string(i % kColors); }

std::string svg_chart(const LineChart& chart) {
  return "<svg viewBox=\"0 0 " + svg_number(kWidth) + " " + svg_number(kHeight) +
         "\" role=\"img\" aria-label=\"" + escaped(chart.title) + "\">\n" +
         picture(chart, right_margin(chart)) + "</svg>\n";
}

std::string svg_document(const std::string& title, std::span<const LineChart> charts) {
  const std::string height =
      svg_number(kTitleHeight + static_cast<double>(charts.size()) * (kHeadingHeight + kHeight));
  const std::string width = svg_number(kWidth);
  std::string svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + width + "\" height=\"" +
                    height + "\" viewBox=\"0 0 " + width + " " + height + "\">\n<title>" +
                    escaped(title) + "</title>\n<style>" + kChartStyle +
                    "</style>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n" +
                    text_at(kHeadingLeft, 30, title, "class=\"title\"");
  double right = 0;  // one for all, so that the same x is at the same place
  for (const LineChart& chart : charts) right = std::max(right, right_margin(chart));
  double top = kTitleHeight;
  for (const LineChart& chart : charts) {
    svg += text_at(kHeadingLeft, top + 18, chart.title, "class=\"heading\"");
    top += kHeadingHeight;
    svg += "<g transform=\"translate(0 " + svg_number(top) + ")\">\n" + picture(chart, right) +
           "</g>\n";
    top += kHeight;
  }
  return svg + "</svg>\n";
}

}  // namespace sluice
