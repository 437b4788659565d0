// What end_to_end found, as a table for a person, JSON for programs, and a picture. Threads: any.
#pragma once

#include <string>
#include <vector>

#include "bench/end_to_end_run.h"

namespace sluice::bench {

// How much the routing depends on the tokens that were fed. Where tokens share more experts than by
// chance, caches hit more.
struct RoutingFacts {
  uint64_t tokens = 0;
  std::vector<double> used;  // [MoE layers]: the share of the layer's experts that any token used
  std::vector<double> overlap;  // [MoE layers]: the share that a token has in common with the last
  double chance = 0;            // the overlap of equal chances
};
RoutingFacts routing_facts(const Trace& routing, const Subject& subject);

struct EndToEndReport {
  Subject subject;
  std::string io;
  std::string tokens;  // where those fed come from: "equal chances, seed 1"
  uint64_t prompt_tokens = 0, warm_tokens = 0, decode_tokens = 0;
  uint32_t rounds = 0;
  RoutingFacts routing;
  Ceilings ceilings;  // medians of the rounds
  struct Row {
    Combination combination;
    Figures medians;
    std::vector<Figures> rounds;
  };
  std::vector<Row> rows;
};

std::string end_to_end_text(const EndToEndReport& report);
std::string end_to_end_json(const EndToEndReport& report);
// Tokens per second and the hit rate over the budget; a line for each number of
// threads, depth and look-ahead.
std::string end_to_end_svg(const EndToEndReport& report);

}  // namespace sluice::bench
