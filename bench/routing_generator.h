// Routing generator: traces of a router's choices, without the model.
//
// Every layer has a popularity of its experts, Zipf's law in an order of its own, and remembers
// what it chose. Each of the k distinct experts of a token is with probability `reuse` drawn from
// that memory, where a choice counts exp(-age / memory), and else by popularity. So a text that
// stays with a subject is there (the memory feeds itself, and slowly drifts), and so is the long
// tail that no cache holds.
//
// Deterministic by seed, with any compiler. Threads: any.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "stream/trace.h"

namespace sluice::bench {

struct Routing {
  double skew = 0;    // popularity of the r-th expert: (r + 1)^-skew; 0: all alike
  double reuse = 0;   // 0..1
  double memory = 1;  // tokens; > 0
};

// A published model: the shape of its experts, and a routing whose replay through an LRU cache has
// the hit rates that were published for it.
struct RoutingPreset {
  std::string name;  // "35b"
  uint32_t layers = 0;
  uint32_t experts = 0;
  uint32_t experts_per_token = 0;
  uint32_t hidden = 0;
  uint32_t intermediate = 0;  // of an expert
  Routing routing;
  struct Point {
    double share = 0;     // of the experts that the cache holds
    double hit_rate = 0;  // as published, 0..1
  };
  std::vector<Point> published;
};
std::span<const RoutingPreset> routing_presets();
// Throws Error naming those that there are.
const RoutingPreset& routing_preset(const std::string& name);

// Layers 0, 1, ... of one token, then of the next. Requires: experts_per_token ≤ experts.
struct RoutingShape {
  uint32_t layers = 0;
  uint32_t experts = 0;
  uint32_t experts_per_token = 0;
};
Trace generate_routing(const RoutingShape& shape, const Routing& routing, uint32_t tokens,
                       uint64_t seed);

// What a router that looks ahead would have said: for each record as many experts, likeliest first,
// of which on average the share `recall` is right. A rank names the actual record's expert of that
// rank with a probability that falls linearly (at 0.85 from 98 % to 72 % over 8 ranks, as published
// predictors do), and else one that the record has not, by how often the trace's layer has it.
// Requires: 0 ≤ recall ≤ 1, experts: more than any record's.
Trace predict_routing(const Trace& actual, uint32_t experts, double recall, uint64_t seed);

}  // namespace sluice::bench
