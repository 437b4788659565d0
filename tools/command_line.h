// What the programs' command lines are built from, over CLI11: options that read their values by
// one set of rules, and one way to parse and to fail.
//
// Numbers are read whole ("1e3" is no count, "nan" no number), and a wrong value names what was
// expected. Targets must outlive the parsing. Threads: one.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "io/error.h"
#include "tools/program.h"

namespace sluice {

template <class Number>
struct Range {
  Number least;
  Number most;
};

// Throws Error: not a number, or outside of the range.
template <class Number>
Number parse_number(const std::string& text, Range<Number> range) {
  Number number{};
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool whole = error == std::errc() && rest == text.data() + text.size();
  // Written so that a NaN is outside of every range.
  if (!whole || !(number >= range.least && number <= range.most)) {
    throw Error("\"", text, "\": expected ", std::is_integral_v<Number> ? "an integer" : "a number",
                " from ", range.least, " to ", range.most);
  }
  return number;
}

// Adds an option whose text is given to parse, which throws Error with what it expected.
template <class Parse>
CLI::Option* add_parsed(CLI::App& app, const std::string& names, const std::string& placeholder,
                        const std::string& description, Parse parse) {
  const auto checked = [names, parse](const std::string& text) {
    try {
      parse(text);
    } catch (const Error& error) {
      throw CLI::ValidationError(names, error.what());
    }
  };
  return app.add_option_function<std::string>(names, checked, description)->type_name(placeholder);
}

// A text that may be given and be empty, which CLI11 takes for an absent one.
inline CLI::Option* add_text(CLI::App& app, const std::string& names,
                             std::optional<std::string>& target, const std::string& placeholder,
                             const std::string& description) {
  return add_parsed(app, names, placeholder, description,
                    [&target](const std::string& text) { target = text; });
}

// target: a number or an optional one.
template <class Target, class Number>
CLI::Option* add_number(CLI::App& app, const std::string& names, Target& target,
                        Range<Number> range, const std::string& description) {
  return add_parsed(app, names, "N", description, [&target, range](const std::string& text) {
    target = parse_number(text, range);
  });
}

// target: what one of the words means.
template <class Value>
CLI::Option* add_choice(CLI::App& app, const std::string& names, Value& target,
                        std::vector<std::pair<std::string, Value>> choices,
                        const std::string& description) {
  std::string words;
  for (const auto& [word, value] : choices) words += (words.empty() ? "" : "|") + word;
  const auto parse = [&target, choices, words](const std::string& text) {
    const auto named = [&text](const auto& choice) { return choice.first == text; };
    const auto choice = std::ranges::find_if(choices, named);
    if (choice == choices.end()) throw Error("\"", text, "\": expected ", words);
    target = choice->second;
  };
  return add_parsed(app, names, words, description, parse);
}

// What a command line came to that is not to be run: a text to print and a status to exit with.
struct CommandLineEnd {
  std::string text;  // --help and --version: for standard output; usage errors: for standard error
  int exit_status = 0;  // 0, or kUsageExit
};

// Parses with app, whose name is the program's. arguments: without the program's name.
// check_together, if given, looks at what no single option can check and throws CLI::ParseError.
// Returns nothing when all is well.
std::optional<CommandLineEnd> parse_command_line(CLI::App& app, std::vector<std::string> arguments,
                                                 const std::function<void()>& check_together = {});

}  // namespace sluice
