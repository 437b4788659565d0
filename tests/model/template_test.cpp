#include "model/template/template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/model/template_fixture.h"

namespace sluice {
namespace {

using test::render_template;
using test::template_error;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

std::string repeated(const std::string& text, size_t count) {
  std::string result;
  for (size_t i = 0; i < count; ++i) result += text;
  return result;
}

TEST(Template, SaysWhereItIsBroken) {
  EXPECT_THAT(template_error("a\n\n{% if x %}\n{{ y }}"),
              AllOf(StartsWith("test.jinja: line 3: "), HasSubstr("endif")));
  EXPECT_THAT(template_error("a\n{{ 'b"), StartsWith("test.jinja: line 2: "));
  EXPECT_THAT(template_error("{{ 1 +\n\n }}"), StartsWith("test.jinja: line 3: "));
  EXPECT_THAT(template_error("{% include 'x' %}"), HasSubstr("\"include\" is not known"));
  EXPECT_THAT(template_error("\xff"), HasSubstr("UTF-8"));
  EXPECT_THAT(template_error(std::string((1 << 20) + 1, 'a')), HasSubstr("at most 1048576"));
}

TEST(Template, SaysWhereRenderingFails) {
  EXPECT_EQ(template_error("a\n{{ b.c }}"), "test.jinja: line 2: 'b' is undefined");
  EXPECT_EQ(template_error("{% macro m(x) %}\n{{ x }}\n{% endmacro %}\n{{ m(1) + 1 }}"),
            "test.jinja: line 4: \"+\" takes no a string and an integer");
  EXPECT_THAT(template_error("{{ 1 | no_such }}"), HasSubstr("filter \"no_such\" is not known"));
  EXPECT_THAT(template_error("{{ 1 is no_such }}"), HasSubstr("test \"no_such\" is not known"));
  EXPECT_THAT(template_error("{{ 9223372036854775807 + 1 }}"), HasSubstr("64 bits"));
  EXPECT_THAT(template_error("{{ -9223372036854775807 - 1 // -1 }}{{ (0 - 9223372036854775807 - 1) "
                             "// -1 }}"),
              HasSubstr("64 bits"));
}

TEST(Template, TellsItsOwnRefusalApart) {
  try {
    render_template("\n{{ raise_exception('Roles must ' ~ 'alternate') }}");
    FAIL() << "nothing was raised";
  } catch (const jinja::TemplateRaised& raised) {
    EXPECT_EQ(raised.message(), "Roles must alternate");
    EXPECT_STREQ(raised.what(),
                 "test.jinja: line 2: the template refuses this input: Roles must alternate");
  }
}

TEST(Template, ShowsTheGivenTime) {
  EXPECT_EQ(render_template("{{ strftime_now('%d %b %Y, %-d. %B, %A %H:%M:%S, 100%%') }}"),
            "02 Jan 2026, 2. January, Friday 03:04:05, 100%");
  EXPECT_THAT(template_error("{{ strftime_now('%9999999d') }}"), HasSubstr("not known"));
  EXPECT_THAT(template_error("{{ strftime_now('%') }}"), HasSubstr("not known"));
  const jinja::Template parsed = jinja::Template::parse("{{ strftime_now('%Y') }}", "t");
  EXPECT_THROW(parsed.render({}, {.limits = {}, .clock = {}}), Error);
}

TEST(Template, KeepsTheOrderOfKeysAndTheLastOfEqualOnes) {
  const std::string variables = R"({"d": {"z": 1, "a": 2, "z": 3}})";
  EXPECT_EQ(render_template("{{ d | tojson }}", variables), R"({"z": 3, "a": 2})");
  std::string many = "{";
  for (int i = 99; i >= 0; --i)
    many += "\"k" + std::to_string(i) + "\": " + std::to_string(i) + ",";
  many.back() = '}';
  EXPECT_EQ(render_template("{{ (d | list)[:2] }}{{ d.k7 }}{{ d.k99 }}{{ d.k100 is defined }}",
                            "{\"d\": " + many + "}"),
            "['k99', 'k98']799False");
}

TEST(Template, RefusesVariablesThatAreNoJson) {
  EXPECT_THAT(template_error("", "{\"a\": }"), HasSubstr("not valid JSON"));
  EXPECT_THAT(template_error("", "[1]"), HasSubstr("expected an object"));
  EXPECT_THAT(template_error("", "{\"a\": 18446744073709551615}"), HasSubstr("64 bits"));
  EXPECT_THAT(template_error("", "{\"a\": 123456789012345678901234567890}"), HasSubstr("64 bits"));
  EXPECT_THAT(
      template_error("", "{\"a\": " + std::string(1000, '[') + std::string(1000, ']') + "}"),
      HasSubstr("nested deeper"));
}

TEST(Template, ListsAndDictsCanBeChangedWhereAMethodIsCalled) {
  EXPECT_EQ(render_template("{% set l = [] %}{% for x in [1, 2] %}{% if l.append(x) %}{% endif %}"
                            "{% endfor %}{{ l }}"),
            "[1, 2]");
  EXPECT_EQ(render_template("{% set d = {'a': 1} %}{{ d.pop('a') }}{{ d.update({'b': 2}) }}"
                            "{{ d.setdefault('c', 3) }}{{ d }}"),
            "1None3{'b': 2, 'c': 3}");
  // As in the reference's sandbox, such a method is no value.
  EXPECT_EQ(render_template("{{ [].append is defined }}{{ [].index is defined }}"), "FalseTrue");
}

TEST(Template, ALoopMayChangeTheListThatItGoesOver) {
  EXPECT_EQ(render_template("{% set l = [1, 2, 3, 4] %}{% for x in l %}{{ x }}{{ l.pop() }}"
                            "{{ loop.previtem }},{{ loop.nextitem }};{% endfor %}"),
            "14,2;231,;");
  EXPECT_THAT(template_error("{% set l = [1] %}{% for x in l %}{{ l.append(x) }}{% endfor %}", "{}",
                             {.steps = 10'000}),
              HasSubstr("more than"));
}

TEST(Template, EndsInBoundedSteps) {
  const jinja::Limits limits = {.steps = 100'000};
  EXPECT_THAT(template_error("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
                             "{% endfor %}",
                             "{}", limits),
              HasSubstr("100000 steps"));
  EXPECT_THAT(template_error("{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}"),
              HasSubstr("nested deeper"));
  EXPECT_THAT(template_error("{{ 'a' * 999999999999 }}", "{}", limits), HasSubstr("steps"));
  // What costs nothing for each element must still be counted.
  EXPECT_THAT(template_error("{{ ('a' * 1000).split('a') | length }}"
                             "{% for i in range(99999) %}{{ 'ab' in s }}{% endfor %}",
                             "{\"s\": \"" + std::string(10000, 'a') + "\"}", limits),
              HasSubstr("steps"));
}

// Work on long texts that leaves nothing behind.
TEST(Template, LongTextsCountWhereverTheyAreLookedAt) {
  const std::string variables =
      "{\"s\": \"" + std::string(50'000, 'a') + "\", \"t\": \"" + std::string(50'000, 'a') + "\"}";
  const std::string name(50'000, 'n');
  for (const std::string& body : {
           std::string("{{ s is lower }}"),
           std::string("{{ s is sameas t }}"),
           std::string("{{ {}[s] }}"),
           std::string("{{ s in {t: 1} }}"),
           std::string("{{ {}.get(s) }}"),
           std::string("{{ '' | indent(s) }}"),
           std::string("{{ 1 | tojson(indent=s) }}"),
           std::string("{{ [] | map(attribute=s) | list }}"),
           "{{ " + name + " is defined }}",
           "{% set " + name + " = 1 %}",
           "{{ m(" + name + "=1) }}",
       }) {
    const std::string text = "{% macro m(" + name + ") %}{% endmacro %}" +
                             "{% for i in range(100) %}" + body + "{% endfor %}";
    EXPECT_THAT(template_error(text, variables, {.steps = 100'000}), HasSubstr("steps"))
        << body.substr(0, 40);
  }
}

TEST(Template, EndsInBoundedMemory) {
  const jinja::Limits limits = {.memory_bytes = 1'000'000};
  const std::string doubling =
      "{% set ns = namespace(s='a') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}"
      "{% endfor %}";
  EXPECT_THAT(template_error(doubling, "{}", limits), HasSubstr("1000000 bytes of memory"));
  EXPECT_THAT(template_error("{{ [1] * 999999999 }}", "{}", limits), HasSubstr("memory"));
  // Variables of a loop are used again, unless a macro keeps them.
  EXPECT_EQ(template_error("{% for i in range(9999) %}{% set j = i %}{% endfor %}", "{}", limits),
            "");
  EXPECT_THAT(template_error("{% for i in range(9999) %}{% macro m() %}{{ i }}{% endmacro %}"
                             "{% endfor %}",
                             "{}", limits),
              HasSubstr("memory"));
  EXPECT_THAT(template_error("{% for i in range(9) %}{{ 'a' * 1000 }}{% endfor %}", "{}",
                             {.output_bytes = 5000}),
              HasSubstr("5000 bytes of output"));
}

TEST(Template, EndsInBoundedDepth) {
  EXPECT_THAT(template_error(std::string(5000, '(')), testing::IsEmpty());  // text
  EXPECT_THAT(template_error("{{ " + std::string(5000, '(') + std::string(5000, ')') + " }}"),
              HasSubstr("nested deeper"));
  EXPECT_THAT(template_error("{{ " + std::string(5000, '[') + std::string(5000, ']') + " }}"),
              HasSubstr("nested deeper"));
  EXPECT_THAT(template_error("{{ " + std::string(5000, '-') + "1 }}"), HasSubstr("nested deeper"));
  EXPECT_THAT(template_error("{{ " + repeated("not ", 5000) + "1 }}"), HasSubstr("nested deeper"));
  EXPECT_THAT(template_error("{{ 1" + repeated(" + 1", 5000) + " }}"), HasSubstr("levels"));
  EXPECT_THAT(template_error("{{ a" + repeated(".a", 5000) + " }}"), HasSubstr("levels"));
  EXPECT_THAT(template_error("{{ 1" + repeated("|int", 5000) + " }}"), HasSubstr("levels"));
  EXPECT_THAT(template_error(repeated("{% if 1 %}", 5000)), HasSubstr("nested deeper"));
  EXPECT_THAT(template_error("{% set " + std::string(5000, '(') + std::string(5000, ')') + " %}"),
              HasSubstr("nested deeper"));
  // Long, not deep.
  EXPECT_EQ(render_template("{{ ''" + repeated(" ~ 1", 5000) + " }}"), repeated("1", 5000));
  EXPECT_EQ(render_template("{% if 0 %}" + repeated("{% elif 0 %}", 5000) + "{% endif %}x"), "x");
}

TEST(Template, ValuesThatContainThemselvesEndInAnError) {
  const std::string circle = "{% set l = [] %}{% if l.append(l) %}{% endif %}";
  for (const char* use : {"{{ l }}", "{{ l | tojson }}", "{{ l == [l] }}", "{{ l < [l] }}"}) {
    EXPECT_THAT(template_error(circle + use), HasSubstr("nested deeper")) << use;
  }
  EXPECT_EQ(render_template("{% set ns = namespace() %}{% set ns.a = ns %}{{ ns.a.a is defined }}"),
            "True");
  // Shared, so that their text would be of 2^100 bytes.
  EXPECT_THAT(template_error("{% set ns = namespace(l=[1]) %}{% for i in range(100) %}"
                             "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | tojson }}"),
              HasSubstr("more than"));
}

}  // namespace
}  // namespace sluice
