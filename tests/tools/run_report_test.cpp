#include "tools/run_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

namespace sluice {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

RunReport streaming_report() {
  RunReport report;
  RunSetting& setting = report.setting;
  setting.model = "models/x";
  setting.plan.process_bytes = 1'000'000;
  setting.plan.trunk_bytes = 2'000'000;
  setting.plan.kv_bytes = 3'000'000;
  setting.plan.scratch_bytes = 4'000'000;
  setting.plan.cache_bytes = 5'000'000;
  setting.plan.expert_total_bytes = 22'000'000;
  setting.plan.floor_bytes = 340'000;
  setting.plan.working_set_bytes = 2'700'000;
  setting.plan.budget_reason = "as asked";
  setting.has_experts = true;
  setting.slots = 116;
  setting.context = 512;
  setting.threads = 2;
  setting.io = "io_uring, direct reads";
  setting.slab = "4 KiB pages";
  setting.compute = "int16";
  setting.isa = "avx2";
  setting.seed = 42;
  report.prompt = {.tokens = 10, .seconds = 0.5, .stream = {}};
  report.decode = {.tokens = 20, .seconds = 4, .stream = {}};
  report.decode.stream.cache = {.hits = 30,
                                .in_flight_hits = 5,
                                .misses = 15,
                                .evictions = 12,
                                .bytes_demanded = 50'000,
                                .bytes_missed = 15'000};
  report.decode.stream.reads.bytes_demanded = 20'000;
  report.decode.stream.reads.busy_us = 100;
  report.decode.stream.wait_us = 1'500'000;
  report.generated_tokens = 21;
  report.time_to_first_token = 0.51;
  report.tokenizer_seconds = 0.2;
  report.load = {.headers_seconds = 0.1,
                 .trunk_seconds = 0.4,
                 .trunk_bytes = 2'000'000,
                 .pins_seconds = 0.25,
                 .network_seconds = 0.05};
  report.peak_resident_bytes = 14'900'000;
  report.stop_reason = StopReason::end_token;
  return report;
}

TEST(Summary, SaysWhatWasReadAheadAndDoesNotCountItAsHits) {
  RunReport report = streaming_report();
  report.decode.stream.cache.speculative_loads = 20;
  report.decode.stream.cache.speculative_used = 15;
  report.decode.stream.cache.bytes_foreseen = 15'000;
  const std::string text = summary_text(report);
  EXPECT_THAT(text, HasSubstr("hit rate 40 %"));
  EXPECT_THAT(text, HasSubstr("look-ahead: 20 experts read ahead, 75 % of them used, 50 % of what "
                              "was not in the cache\n"));
}

TEST(Summary, SaysWhatPinsTookAndBrought) {
  RunReport report = streaming_report();
  EXPECT_THAT(summary_text(report), Not(HasSubstr("pins:")));
  EXPECT_TRUE(json::parse(stats_json(report)).at("pins").is_null());
  report.pins = {.file = "pin.json", .listed = 90, .pinned = 60, .bytes = 2'700'000};
  report.decode.stream.cache.pinned_hits = 10;
  EXPECT_THAT(summary_text(report),
              HasSubstr("pins: 60 of 90 experts of pin.json kept, 2.70 MB of the budget; 20 % of "
                        "uses found them\n"));
  const json stats = json::parse(stats_json(report));
  EXPECT_EQ(stats.at("pins").at("file"), "pin.json");
  EXPECT_EQ(stats.at("pins").at("listed"), 90);
  EXPECT_EQ(stats.at("pins").at("pinned"), 60);
  EXPECT_EQ(stats.at("pins").at("bytes"), 2'700'000);
  EXPECT_EQ(stats.at("pinned_hits"), 10);
}

TEST(StartText, SaysHowStreamingIsOn) {
  EXPECT_EQ(start_text(streaming_report().setting),
            "streaming: 22.0 MB of experts on disk, budget 5.00 MB (23 % resident at most, floor "
            "340 kB, one token's working set 2.70 MB), io_uring, direct reads, 116 slots, "
            "4 KiB pages\n");
}

TEST(StartText, SaysThatStreamingIsOff) {
  RunSetting setting = streaming_report().setting;
  setting.all_resident = true;
  EXPECT_THAT(start_text(setting),
              AllOf(StartsWith("streaming: off"), HasSubstr("all experts resident"),
                    Not(HasSubstr("note"))));
  setting.has_experts = false;
  EXPECT_EQ(start_text(setting), "streaming: off (no experts)\n");
}

TEST(StartText, NotesABudgetUnderTheWorkingSetAndTheNextUsefulStep) {
  RunSetting setting = streaming_report().setting;
  setting.plan.cache_bytes = 2'699'999;
  EXPECT_THAT(start_text(setting),
              HasSubstr("next useful step is --cache-budget-gb 0.0054, or --policy lfru\n"));
  setting.plan.working_set_bytes = 3'456'000'000;
  setting.plan.expert_total_bytes = 60'000'000'000;
  EXPECT_THAT(start_text(setting), HasSubstr("--cache-budget-gb 7.0,"));
  setting.plan.working_set_bytes = 12'300'000'000;
  EXPECT_THAT(start_text(setting), HasSubstr("--cache-budget-gb 25,"));
  setting.plan.expert_total_bytes = 13'100'000'000;  // twice the working set is more than all
  EXPECT_THAT(start_text(setting), HasSubstr("--cache-budget-gb 14,"));
  setting.policy = "lfru";  // which has no such cliff
  EXPECT_THAT(start_text(setting), Not(HasSubstr("note")));
}

TEST(StartText, SaysHowAnAutomaticBudgetWasChosen) {
  RunSetting setting = streaming_report().setting;
  setting.automatic_budget = true;
  setting.plan.budget_reason = "half of 10 MB available";
  EXPECT_THAT(start_text(setting), HasSubstr("\nbudget: half of 10 MB available\n"));
}

TEST(Summary, SaysWhatTheRunDid) {
  EXPECT_EQ(summary_text(streaming_report()),
            "first token: after 1.51 s: tokenizer 0.20 s, headers 0.10 s, trunk 0.40 s (2.00 MB at "
            "5.00 MB/s), pins 0.25 s, arranging 0.05 s, prompt 0.51 s\n"
            "prompt: 10 tokens in 0.50 s (20.0 tok/s)\n"
            "decode: 21 tokens in 4.00 s (5.00 tok/s)\n"
            "experts: hit rate 70 %, 1.00 kB read per token, disk 200 MB/s, waited 1.50 s\n"
            "memory: peak 14.9 MB resident, planned 15.0 MB\n"
            "stopped: end of text; seed 42\n");
}

TEST(Summary, HasNoRatesWhereNothingWasMeasured) {
  RunReport report = streaming_report();
  report.decode = {};
  report.generated_tokens = 1;
  EXPECT_THAT(summary_text(report),
              AllOf(HasSubstr("decode: 1 tokens in 0.00 s\n"), HasSubstr("none used in decode"),
                    Not(HasSubstr("nan")), Not(HasSubstr("inf"))));
  report.setting.has_experts = false;
  EXPECT_THAT(summary_text(report), Not(HasSubstr("experts")));
}

TEST(StatsJson, HoldsTheRun) {
  const json stats = json::parse(stats_json(streaming_report()));
  EXPECT_EQ(stats["model"], "models/x");
  EXPECT_EQ(stats["prompt_tokens"], 10);
  EXPECT_EQ(stats["generated_tokens"], 21);
  EXPECT_EQ(stats["decode_tokens"], 20);
  EXPECT_EQ(stats["prompt_tokens_per_second"], 20.0);
  EXPECT_EQ(stats["decode_tokens_per_second"], 5.0);
  EXPECT_EQ(stats["time_to_first_token_seconds"], 0.51);
  EXPECT_EQ(stats["load"]["trunk_bytes"], 2'000'000);
  EXPECT_EQ(stats["load"]["arranging_seconds"], 0.05);
  EXPECT_EQ(stats["hit_rate"], 0.7);
  EXPECT_EQ(stats["hits"], 30);
  EXPECT_EQ(stats["in_flight_hits"], 5);
  EXPECT_EQ(stats["misses"], 15);
  EXPECT_EQ(stats["evictions"], 12);
  EXPECT_EQ(stats["bytes_read"], 20'000);
  EXPECT_EQ(stats["bytes_read_per_token"], 1000.0);
  EXPECT_EQ(stats["disk_mb_per_second"], 200.0);
  EXPECT_EQ(stats["wait_seconds"], 1.5);
  EXPECT_EQ(stats["prompt"]["misses"], 0);
  EXPECT_EQ(stats["budget_bytes"], 5'000'000);
  EXPECT_EQ(stats["plan"]["total_bytes"], 15'000'000);
  EXPECT_EQ(stats["peak_rss_bytes"], 14'900'000);
  EXPECT_EQ(stats["stop_reason"], "end_token");
  EXPECT_EQ(stats["seed"], 42);
}

TEST(StatsJson, IsNullWhereNothingWasMeasured) {
  RunReport report;
  report.setting.model = "not UTF-8: \xff";
  const json stats = json::parse(stats_json(report));
  for (const char* rate : {"hit_rate", "bytes_read_per_token", "disk_mb_per_second",
                           "decode_tokens_per_second", "time_to_first_token_seconds"}) {
    EXPECT_TRUE(stats[rate].is_null()) << rate;
  }
}

TEST(StatsJson, HasNoFieldThatThePageDoesNotDescribe) {
  std::ifstream file(SLUICE_TEST_DATA "/../../docs/stats.md");
  const std::string page(std::istreambuf_iterator<char>(file), {});
  ASSERT_FALSE(page.empty());
  const json stats = json::parse(stats_json(streaming_report()));
  for (const auto& [key, value] : stats.items()) {
    EXPECT_THAT(page, HasSubstr("`" + key + "`"));
  }
  for (const auto& [key, value] : stats["plan"].items()) {
    EXPECT_THAT(page, HasSubstr("`" + key + "`"));
  }
  for (int reason = 0; reason <= static_cast<int>(StopReason::output_closed); ++reason) {
    EXPECT_THAT(page, HasSubstr(std::string("`\"") +
                                stop_reason_name(static_cast<StopReason>(reason)) + "\"`"));
  }
}

}  // namespace
}  // namespace sluice
