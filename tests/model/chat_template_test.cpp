#include "model/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/io/temporary_directory.h"
#include "tests/model/template_fixture.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class ChatTemplateTest : public testing::Test {
 protected:
  void write(const std::string& name, const std::string& text) { directory_.write(name, text); }
  std::string render(const ChatInput& input) {
    const std::optional<ChatTemplate> loaded = ChatTemplate::load(directory_.path());
    EXPECT_TRUE(loaded.has_value());
    return loaded ? loaded->render(input, {.limits = {}, .clock = test::fixed_time}) : "";
  }
  std::string error_of_loading() {
    try {
      ChatTemplate::load(directory_.path());
    } catch (const Error& error) {
      return error.what();
    }
    return {};
  }

  TemporaryDirectory directory_;
};

TEST_F(ChatTemplateTest, ADirectoryMayHaveNone) {
  EXPECT_FALSE(ChatTemplate::load(directory_.path()).has_value());
  write("tokenizer_config.json", R"({"bos_token": "<s>", "chat_template": null})");
  EXPECT_FALSE(ChatTemplate::load(directory_.path()).has_value());
}

TEST_F(ChatTemplateTest, TheFileOfItsOwnComesBeforeTheConfiguration) {
  write("chat_template.json", R"({"chat_template": "third"})");
  EXPECT_EQ(render({}), "third");
  write("tokenizer_config.json", R"({"chat_template": "second"})");
  EXPECT_EQ(render({}), "second");
  write("chat_template.jinja", "first");
  EXPECT_EQ(render({}), "first");
}

TEST_F(ChatTemplateTest, OfNamedOnesToolsDecide) {
  write("tokenizer_config.json", R"({"chat_template": [
      {"name": "rag", "template": "{% this is not parsed"},
      {"name": "default", "template": "default"},
      {"name": "tool_use", "template": "tools {{ tools | length }}"}]})");
  EXPECT_EQ(render({}), "default");
  ChatInput with_tools;
  with_tools.tools = R"([{"type": "function"}])";
  EXPECT_EQ(render(with_tools), "tools 1");
  write("tokenizer_config.json", R"({"chat_template": [{"name": "rag", "template": "x"}]})");
  EXPECT_THAT(error_of_loading(), HasSubstr("none of the templates is named"));
}

TEST_F(ChatTemplateTest, KnowsTheTokensAsTextsAndAsObjects) {
  write("chat_template.jinja",
        "{{ bos_token }}|{{ eos_token }}|{{ pad_token }}|{{ unk_token }}|"
        "{{ image_token }}|{{ sep_token is defined }}");
  write("tokenizer_config.json",
        R"({"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>",
            "sep_token": null, "extra_special_tokens": {"image_token": "<img>"}})");
  write("special_tokens_map.json", R"({"eos_token": "<other>", "pad_token": "<pad>"})");
  EXPECT_EQ(render({}), "<s>|</s>|<pad>||<img>|False");
}

TEST_F(ChatTemplateTest, GivesMessagesToolsAndMoreVariables) {
  write("chat_template.jinja",
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
        "{{ tools }}{{ documents }}{{ add_generation_prompt }}{{ enable_thinking }}");
  const ChatMessage messages[] = {{"system", "Be \"brief\"."}, {"user", "1\n2 Ü"}};
  ChatInput input;
  input.messages = chat_messages_json(messages);
  EXPECT_EQ(render(input), "<system>Be \"brief\".<user>1\n2 ÜNoneNoneTrue");
  input.add_generation_prompt = false;
  input.documents = "[1]";
  input.variables = R"({"enable_thinking": false, "tools": 7})";
  EXPECT_EQ(render(input), "<system>Be \"brief\".<user>1\n2 Ü7[1]FalseFalse");
}

TEST_F(ChatTemplateTest, RefusesWhatIsNoTemplate) {
  write("tokenizer_config.json", R"({"chat_template": 5})");
  EXPECT_THAT(error_of_loading(), AllOf(HasSubstr("tokenizer_config.json"), HasSubstr("string")));
  write("tokenizer_config.json", R"({"chat_template": [{"name": "default"}]})");
  EXPECT_THAT(error_of_loading(), HasSubstr("template is missing"));
  write("tokenizer_config.json", R"([])");
  EXPECT_THAT(error_of_loading(), HasSubstr("expected a JSON object"));
  write("tokenizer_config.json", R"({"chat_template": "x", "bos_token": 5})");
  EXPECT_THAT(error_of_loading(), HasSubstr("bos_token"));
  write("chat_template.jinja", "{{ ");
  EXPECT_THAT(error_of_loading(), HasSubstr("chat_template.jinja: line 1: "));
}

TEST(ChatMessages, AreUtf8) {
  const ChatMessage broken[] = {{"user", "\xff"}};
  EXPECT_THROW(chat_messages_json(broken), Error);
  EXPECT_THROW(check_chat_variables("[]"), Error);
  EXPECT_THROW(check_chat_variables("{"), Error);
  EXPECT_NO_THROW(check_chat_variables("{\"a\": [1]}"));
}

}  // namespace
}  // namespace sluice
