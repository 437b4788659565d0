#include "model/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "io/check.h"
#include "io/error.h"
#include "model/json_object.h"
#include "model/tokenizer_component.h"
#include "model/utf8.h"

namespace sluice {
namespace {

using nlohmann::json;

using CodePoints = std::vector<utf8proc_int32_t>;

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
}

CodePoints decomposed(std::string_view text, bool compatibility) {
  const int options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compatibility ? UTF8PROC_COMPAT : 0);
  std::array<utf8proc_int32_t, 32> parts{};  // the longest decomposition has 18
  CodePoints out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Head head = utf8_head(text);
    const utf8proc_ssize_t count =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(head.code_point), parts.data(),
                                parts.size(), static_cast<utf8proc_option_t>(options), nullptr);
    SLUICE_CHECK(count >= 0 && static_cast<size_t>(count) <= parts.size());
    out.insert(out.end(), parts.begin(), parts.begin() + count);
    text.remove_prefix(head.bytes);
  }
  return out;
}

// Canonical order: each run of combining characters sorted by class. The library's own ordering
// takes quadratic time on a long run, which text from outside may contain.
void order_marks(CodePoints& text) {
  const auto mark_class = [](utf8proc_int32_t c) {
    return utf8proc_get_property(c)->combining_class;
  };
  const auto is_mark = [&](utf8proc_int32_t c) { return mark_class(c) != 0; };
  for (auto run = text.begin();;) {
    run = std::find_if(run, text.end(), is_mark);
    if (run == text.end()) return;
    const auto end = std::find_if_not(run, text.end(), is_mark);
    std::stable_sort(run, end, [&](utf8proc_int32_t a, utf8proc_int32_t b) {
      return mark_class(a) < mark_class(b);
    });
    run = end;
  }
}

}  // namespace

std::string normalized(std::string_view text, UnicodeForm form) {
  if (is_ascii(text)) return std::string(text);
  const bool compatibility = form == UnicodeForm::nfkc || form == UnicodeForm::nfkd;
  CodePoints points = decomposed(text, compatibility);
  order_marks(points);
  if (form == UnicodeForm::nfc || form == UnicodeForm::nfkc) {
    const auto count = utf8proc_normalize_utf32(
        points.data(), static_cast<utf8proc_ssize_t>(points.size()),
        static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    SLUICE_CHECK(count >= 0);
    points.resize(static_cast<size_t>(count));
  }
  std::string out;
  out.reserve(text.size());
  for (const utf8proc_int32_t point : points) utf8_append(static_cast<char32_t>(point), out);
  return out;
}

Normalizer::Normalizer(const json& component, const std::string& where) {
  if (!component.is_null()) add(component, where);
}

void Normalizer::add(const json& component, const std::string& where) {
  static constexpr std::pair<std::string_view, UnicodeForm> kForms[] = {
      {"NFC", UnicodeForm::nfc},
      {"NFD", UnicodeForm::nfd},
      {"NFKC", UnicodeForm::nfkc},
      {"NFKD", UnicodeForm::nfkd},
  };
  const JsonObject object(component, where);
  const std::string type = object.required_text("type");
  const auto form = std::find_if(std::begin(kForms), std::end(kForms),
                                 [&](const auto& known) { return known.first == type; });
  if (form != std::end(kForms)) {
    steps_.emplace_back(form->second);
  } else if (type == "Sequence") {
    for_each_element(
        component, "normalizers", where,
        [this](const json& element, const std::string& place) { add(element, place); });
  } else if (type == "Prepend") {
    const auto& prepend =
        std::get<Prepend>(steps_.emplace_back(Prepend{object.required_text("prepend")}));
    growth_ = combined_growth(growth_, prepend.content.size() + 1, where);
  } else if (type == "Replace") {
    const auto& rule = std::get<ReplaceRule>(steps_.emplace_back(ReplaceRule(component, where)));
    growth_ = combined_growth(growth_, rule.growth(), where);
  } else {
    throw Error(where, ": a normalizer of type ", in_quotes(type),
                "; expected Sequence, NFC, NFD, NFKC, NFKD, Prepend or Replace");
  }
}

std::string Normalizer::apply(std::string_view text) const {
  std::string now(text);
  for (const Step& step : steps_) {
    if (const auto* form = std::get_if<UnicodeForm>(&step)) {
      now = normalized(now, *form);
    } else if (const auto* prepend = std::get_if<Prepend>(&step)) {
      if (!now.empty()) now.insert(0, prepend->content);
    } else {
      now = std::get<ReplaceRule>(step).apply(now);
    }
  }
  return now;
}

}  // namespace sluice
