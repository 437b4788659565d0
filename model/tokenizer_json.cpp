#include "model/tokenizer_json.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "io/error.h"
#include "io/json_text.h"
#include "model/json_object.h"

namespace sluice {
namespace {

using nlohmann::json;

// The largest published files have 33 MB.
// Values outside of vocab and merges: published files have about 8,000, most of them added tokens.
constexpr size_t kMaxValues = 1'000'000;

// Merges as they are read, before all tokens are known: the texts of left and right, one behind the
// other.
struct MergeTexts {
  struct Lengths {
    uint32_t left, right;
  };
  std::string texts;
  std::vector<Lengths> lengths;

  void add(std::string_view left, std::string_view right) {
    texts += left;
    texts += right;
    lengths.push_back({static_cast<uint32_t>(left.size()), static_cast<uint32_t>(right.size())});
  }
};

// Takes the JSON library's events. Where we are is depth_ (containers open) and, under "model", the
// key; everything outside vocab and merges is built into a tree.
class Reader : public nlohmann::json_sax<json> {
 public:
  Reader(TokenizerJson& result, MergeTexts& merges, const std::string& path)
      : result_(result), merges_(merges), path_(path) {}

  bool null() override { return value(nullptr, "null"); }
  bool boolean(bool boolean) override { return value(boolean, "a boolean"); }
  bool number_integer(number_integer_t number) override {
    return value(number, "a number below 0");
  }
  bool number_float(number_float_t number, const string_t&) override {
    return value(number, "a fraction or a number that is too large");
  }
  bool number_unsigned(number_unsigned_t number) override {
    if (part_ != Part::vocabulary) return value(number, "a number");
    add_token(number);
    return true;
  }
  bool string(string_t& text) override {
    if (part_ == Part::merges) {
      add_merge_text(text);
      return true;
    }
    return value(std::move(text), "a string");
  }
  bool binary(binary_t&) override { return false; }  // not in JSON text

  bool start_object(size_t) override {
    if (part_ == Part::vocabulary_next) {
      part_ = Part::vocabulary;
      ++depth_;
      return true;
    }
    return open(json::object(), "an object");
  }
  bool start_array(size_t) override {
    if (part_ == Part::merges_next) {
      part_ = Part::merges;
      ++depth_;
      return true;
    }
    if (part_ == Part::merges && depth_ == kInsideMerges) {
      pair_.clear();
      ++depth_;
      return true;
    }
    return open(json::array(), "an array");
  }
  bool key(string_t& name) override {
    if (part_ == Part::vocabulary) {
      key_ = std::move(name);
      return true;
    }
    if (depth_ == 1) in_model_ = name == "model";
    if (in_model_ && depth_ == 2 && name == "vocab") {
      part_ = Part::vocabulary_next;
    } else if (in_model_ && depth_ == 2 && name == "merges") {
      part_ = Part::merges_next;
    } else {
      place_ = &(*open_.back())[name];
    }
    return true;
  }
  bool end_object() override { return close(); }
  bool end_array() override {
    if (part_ == Part::merges && depth_ > kInsideMerges) {
      if (pair_.size() != 2) refuse_merge();
      merges_.add(pair_[0], pair_[1]);
      --depth_;
      return true;
    }
    return close();
  }
  bool parse_error(size_t position, const std::string&, const json::exception& reason) override {
    throw Error(path_, ": not JSON at byte ", position, ": ",
                std::string_view(reason.what()).substr(0, 200));
  }

 private:
  enum class Part : uint8_t { rest, vocabulary_next, vocabulary, merges_next, merges };
  static constexpr int kInsideMerges = 3;  // depth: file, model, merges

  template <class Value>
  bool value(Value&& value, const char* what) {
    put(std::forward<Value>(value), what);
    return true;
  }

  // Puts a value into the tree and returns where it is.
  template <class Value>
  json* put(Value&& value, const char* what) {
    if (part_ == Part::vocabulary) {
      throw Error(path_, ": model.vocab: the id of ", in_quotes(key_), " is ", what,
                  "; expected an integer below ", kMaxTokenId);
    }
    if (part_ == Part::merges) refuse_merge();
    if (part_ != Part::rest) {
      throw Error(path_, part_ == Part::vocabulary_next
                             ? ": model.vocab is not an object; Sluice reads models of type BPE"
                             : ": model.merges is not an array");
    }
    if (++values_ > kMaxValues) throw Error(path_, ": more than ", kMaxValues, " JSON values");
    if (open_.empty()) {
      result_.rest = std::forward<Value>(value);
      return &result_.rest;
    }
    if (open_.back()->is_array()) {
      open_.back()->push_back(std::forward<Value>(value));
      return &open_.back()->back();
    }
    *place_ = std::forward<Value>(value);
    return place_;
  }

  bool open(json&& container, const char* what) {
    open_.push_back(put(std::move(container), what));
    if (++depth_ > kMaxConfigDepth) {
      throw Error(path_, ": JSON nested deeper than ", kMaxConfigDepth, " levels");
    }
    return true;
  }
  bool close() {
    --depth_;
    if (part_ == Part::rest) {
      open_.pop_back();
    } else {
      part_ = Part::rest;
    }
    return true;
  }

  void add_token(uint64_t id) {
    if (id >= kMaxTokenId) value(id, "a number that is too large");
    switch (result_.tokens.add(key_, static_cast<uint32_t>(id))) {
      case TokenTable::Added::yes:
        return;
      case TokenTable::Added::text_taken:
        throw Error(path_, ": model.vocab: the token ", in_quotes(key_), " is given twice");
      case TokenTable::Added::id_taken:
        throw Error(path_, ": model.vocab: the id ", id, " is given twice, to ", in_quotes(key_),
                    " and to ", in_quotes(result_.tokens.text(static_cast<uint32_t>(id))));
    }
  }

  // "left right", or one half of ["left", "right"].
  void add_merge_text(std::string& text) {
    if (depth_ > kInsideMerges) {
      pair_.push_back(std::move(text));
      if (pair_.size() > 2) refuse_merge();
      return;
    }
    if (text.starts_with("#version")) return;  // a comment line of older files
    const size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
      refuse_merge();
    }
    const std::string_view both = text;
    merges_.add(both.substr(0, space), both.substr(space + 1));
  }

  [[noreturn]] void refuse_merge() const {
    throw Error(path_, ": model.merges[", merges_.lengths.size(),
                "] is neither \"LEFT RIGHT\" nor [\"LEFT\", \"RIGHT\"]");
  }

  TokenizerJson& result_;
  MergeTexts& merges_;
  const std::string& path_;
  Part part_ = Part::rest;
  int depth_ = 0;
  bool in_model_ = false;
  std::string key_;                // of the vocabulary
  std::vector<std::string> pair_;  // of merges
  std::vector<json*> open_;        // containers of the tree that are being filled
  json* place_ = nullptr;          // the value of the last key
  size_t values_ = 0;
};

// Ranks are positions in the list.
MergeTable resolve(const MergeTexts& merges, const TokenTable& tokens, const std::string& path) {
  MergeTable table;
  table.reserve(merges.lengths.size());
  std::string_view rest = merges.texts;
  for (uint32_t rank = 0; rank < merges.lengths.size(); ++rank) {
    const auto [left_bytes, right_bytes] = merges.lengths[rank];
    const auto id_of = [&](std::string_view text) {
      const auto id = tokens.find(text);
      if (!id) {
        throw Error(path, ": model.merges[", rank, "] needs the token ", in_quotes(text),
                    ", which model.vocab lacks");
      }
      return *id;
    };
    const uint32_t left = id_of(rest.substr(0, left_bytes));
    const uint32_t right = id_of(rest.substr(left_bytes, right_bytes));
    const uint32_t both = id_of(rest.substr(0, left_bytes + right_bytes));
    table.add(left, right, {rank, both});
    rest.remove_prefix(left_bytes + right_bytes);
  }
  return table;
}

}  // namespace

TokenizerJson parse_tokenizer_json(std::string_view text, const std::string& path) {
  if (text.size() > kMaxTokenizerFileBytes) {
    throw Error(path, ": ", text.size(), " bytes; the limit for a tokenizer is ",
                kMaxTokenizerFileBytes);
  }
  TokenizerJson result;
  MergeTexts merges;
  Reader reader(result, merges, path);
  sax_parse_json(text, reader);
  result.merges = resolve(merges, result.tokens, path);
  return result;
}

}  // namespace sluice
