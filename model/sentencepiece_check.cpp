#include "model/sentencepiece_check.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>

#include "io/error.h"
#include "model/token_table.h"

namespace sluice {
namespace {

constexpr size_t kMaxPieceBytes = 4096;

struct Field {
  uint32_t number = 0;
  uint64_t value = 0;      // of a varint or a fixed width
  std::string_view bytes;  // of a length-delimited field
};

// The fields of one message:  tag (number << 3 | kind), then a varint, 8 or 4 bytes, or a length
// and as many bytes.
class Fields {
 public:
  Fields(std::string_view message, const std::string& path) : rest_(message), path_(path) {}

  std::optional<Field> next() {
    if (rest_.empty()) return std::nullopt;
    const uint64_t tag = varint();
    Field field;
    field.number = static_cast<uint32_t>(tag >> 3);
    switch (tag & 7) {
      case 0:
        field.value = varint();
        return field;
      case 1:
        field.value = fixed(8);
        return field;
      case 2:
        field.bytes = take(varint());
        return field;
      case 5:
        field.value = fixed(4);
        return field;
      default:
        refuse();
    }
  }

 private:
  [[noreturn]] void refuse() const {
    throw Error(path_, ": no SentencePiece model, or cut or damaged; expected a tokenizer.model");
  }
  std::string_view take(uint64_t bytes) {
    if (bytes > rest_.size()) refuse();
    const std::string_view taken = rest_.substr(0, static_cast<size_t>(bytes));
    rest_.remove_prefix(taken.size());
    return taken;
  }
  uint64_t fixed(size_t bytes) {
    uint64_t value = 0;
    std::memcpy(&value, take(bytes).data(), bytes);
    return value;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (uint32_t shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<uint8_t>(take(1)[0]);
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
    refuse();
  }

  std::string_view rest_;
  const std::string& path_;
};

void check_piece(std::string_view message, uint64_t id, const std::string& path) {
  std::string_view text;
  Fields fields(message, path);
  while (const auto field = fields.next()) {
    if (field->number == 1) text = field->bytes;
    if (field->number == 2 &&
        !std::isfinite(std::bit_cast<float>(static_cast<uint32_t>(field->value)))) {
      throw Error(path, ": piece ", id, ": its score is not a number");
    }
  }
  if (text.empty() || text.size() > kMaxPieceBytes || text.find('\0') != std::string_view::npos) {
    throw Error(path, ": piece ", id, " has ", text.size(), " bytes; expected 1 to ",
                kMaxPieceBytes, ", none of them zero");
  }
}

void check_trainer(std::string_view message, const std::string& path) {
  constexpr uint64_t kUnigram = 1, kBpe = 2;
  Fields fields(message, path);
  while (const auto field = fields.next()) {
    if (field->number != 3 || field->value == kUnigram || field->value == kBpe) continue;
    throw Error(path, ": a model of kind ", field->value, "; unigram and BPE models are supported");
  }
}

// U32 bytes of the trie | its units, U32 | texts, each with a zero byte behind it. A unit's
// children are at unit ^ offset ^ byte, whatever the byte; a leaf's value is where a text begins.
// S. Yata's darts-clone: bit 31 leaf; bits 10 to 30 the offset, times 256 if bit 9.
void check_character_map(std::string_view map, const std::string& path) {
  const auto require = [&](bool holds) {
    if (!holds) {
      throw Error(path,
                  ": the normalizer's character map points outside of itself; the file is "
                  "damaged");
    }
  };
  if (map.empty()) return;
  uint32_t trie_bytes = 0;
  require(map.size() > sizeof(trie_bytes));
  std::memcpy(&trie_bytes, map.data(), sizeof(trie_bytes));
  map.remove_prefix(sizeof(trie_bytes));
  require(trie_bytes < map.size() && trie_bytes >= 1024 && trie_bytes % 1024 == 0);
  const std::string_view texts = map.substr(trie_bytes);
  require(texts.back() == '\0');
  for (uint32_t i = 0; i < trie_bytes / 4; ++i) {
    uint32_t unit = 0;
    std::memcpy(&unit, map.data() + size_t{4} * i, sizeof(unit));
    if (unit >> 31 != 0) {
      require((unit & 0x7fffffff) < texts.size());
    } else {
      const uint32_t offset = (unit >> 10) << ((unit & (1u << 9)) >> 6);
      require(((i ^ offset) | 0xff) < trie_bytes / 4);
    }
  }
}

void check_normalizer(std::string_view message, const std::string& path) {
  Fields fields(message, path);
  while (const auto field = fields.next()) {
    if (field->number == 2) check_character_map(field->bytes, path);
  }
}

}  // namespace

void check_sentencepiece_model(std::string_view model, const std::string& path) {
  constexpr uint32_t kPieces = 1, kTrainer = 2, kNormalizer = 3, kDenormalizer = 5;
  uint64_t pieces = 0;
  Fields fields(model, path);
  while (const auto field = fields.next()) {
    switch (field->number) {
      case kPieces:
        check_piece(field->bytes, pieces++, path);
        break;
      case kTrainer:
        check_trainer(field->bytes, path);
        break;
      case kNormalizer:
      case kDenormalizer:
        check_normalizer(field->bytes, path);
        break;
      default:
        break;
    }
  }
  if (pieces == 0 || pieces >= kMaxTokenId) {
    throw Error(path, ": ", pieces, " pieces; expected a SentencePiece model of 1 to ",
                kMaxTokenId - 1);
  }
}

}  // namespace sluice
