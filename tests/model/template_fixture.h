// Rendering templates in tests, with a clock that stands still.
#pragma once

#include <ctime>
#include <string>

#include "model/template/template.h"

namespace sluice::test {

// 2026-01-02 03:04:05, a Friday.
inline std::tm fixed_time() {
  std::tm time{};
  time.tm_year = 126;
  time.tm_mday = 2;
  time.tm_hour = 3;
  time.tm_min = 4;
  time.tm_sec = 5;
  time.tm_wday = 5;
  time.tm_yday = 1;
  return time;
}

// variables: the JSON text of an object.
inline std::string render_template(const std::string& source, const std::string& variables = "{}",
                                   const jinja::Limits& limits = {}) {
  const jinja::Template parsed = jinja::Template::parse(source, "test.jinja");
  const jinja::Variable all = {"", variables};
  return parsed.render({&all, 1}, {.limits = limits, .clock = fixed_time});
}

// What rendering comes to: its text, or "raises: " and the template's message, or "fails".
inline std::string outcome_of_template(const std::string& source, const std::string& variables) {
  try {
    return "renders: " + render_template(source, variables);
  } catch (const jinja::TemplateRaised& raised) {
    return "raises: " + raised.message();
  } catch (const Error&) {
    return "fails";
  }
}

// The message of the Error that rendering ends with; empty if it does not.
inline std::string template_error(const std::string& source, const std::string& variables = "{}",
                                  const jinja::Limits& limits = {}) {
  try {
    render_template(source, variables, limits);
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

}  // namespace sluice::test
