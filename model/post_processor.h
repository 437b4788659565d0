// PostProcessor: the component of a tokenizer file that adds special tokens around encoded text.
// TemplateProcessing does, ByteLevel only moves offsets that Sluice does not keep, and a Sequence
// applies several. Threads: any.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace sluice {

class PostProcessor {
 public:
  PostProcessor() = default;  // adds nothing
  // component: the value of "post_processor", or null. where: for messages. Throws Error.
  PostProcessor(const nlohmann::json& component, const std::string& where);

  std::vector<uint32_t> apply(std::vector<uint32_t> ids) const;
  // The ids that apply() may add.
  std::vector<uint32_t> added_ids() const;

 private:
  // What stands before the text and what behind it.
  struct Template {
    std::vector<uint32_t> before, behind;
  };
  void add(const nlohmann::json& component, const std::string& where);
  void add_template(const nlohmann::json& component, const std::string& where);

  std::vector<Template> templates_;
};

}  // namespace sluice
