// Hadamard matrices of orders 12, 20 and 28 (N. Sloane's tables) and the choice of a rotation's
// runs.
#include <array>
#include <cassert>
#include <cmath>

#include "kernels/kernels.h"

namespace sluice::kernels {
namespace {

// Rows of + and - one after another, as numbers. A table of another length or with another
// character does not compile.
template <size_t kOrder, size_t kLength>
constexpr std::array<int8_t, kOrder * kOrder> parse(const char (&text)[kLength]) {
  static_assert(kLength == kOrder * kOrder + 1);
  std::array<int8_t, kOrder * kOrder> table{};
  for (size_t i = 0; i < table.size(); ++i) {
    if (text[i] != '+' && text[i] != '-') throw "a sign is + or -";
    table[i] = text[i] == '+' ? int8_t{1} : int8_t{-1};
  }
  return table;
}

constexpr auto kH12 = parse<12>(
    "+-++++++++++"
    "--+-+-+-+-+-"
    "+++-++----++"
    "+---+--+-++-"
    "+++++-++----"
    "+-+---+--+-+"
    "++--+++-++--"
    "+--++---+--+"
    "++----+++-++"
    "+--+-++---+-"
    "++++----+++-"
    "+-+--+-++---");

constexpr auto kH20 = parse<20>(
    "+----+----++--++-++-"
    "-+----+---+++---+-++"
    "--+----+---+++-+-+-+"
    "---+----+---+++++-+-"
    "----+----++--++-++-+"
    "-+++++-----+--+++--+"
    "+-+++-+---+-+--+++--"
    "++-++--+---+-+--+++-"
    "+++-+---+---+-+--+++"
    "++++-----++--+-+--++"
    "--++-+-++-+-----++++"
    "---++-+-++-+---+-+++"
    "+---++-+-+--+--++-++"
    "++---++-+----+-+++-+"
    "-++---++-+----+++++-"
    "-+--+--++-+----+----"
    "+-+-----++-+----+---"
    "-+-+-+---+--+----+--"
    "--+-+++------+----+-"
    "+--+--++------+----+");

constexpr auto kH28 = parse<28>(
    "+------++----++-+--+-+--++--"
    "-+-----+++-----+-+--+-+--++-"
    "--+-----+++---+-+-+----+--++"
    "---+-----+++---+-+-+-+--+--+"
    "----+-----+++---+-+-+++--+--"
    "-----+-----++++--+-+--++--+-"
    "------++----++-+--+-+--++--+"
    "--++++-+-------++--+++-+--+-"
    "---++++-+-----+-++--+-+-+--+"
    "+---+++--+----++-++--+-+-+--"
    "++---++---+----++-++--+-+-+-"
    "+++---+----+----++-++--+-+-+"
    "++++--------+-+--++-++--+-+-"
    "-++++--------+++--++--+--+-+"
    "-+-++-++--++--+--------++++-"
    "+-+-++--+--++--+--------++++"
    "-+-+-++--+--++--+----+---+++"
    "+-+-+-++--+--+---+---++---++"
    "++-+-+-++--+------+--+++---+"
    "-++-+-+-++--+------+-++++---"
    "+-++-+---++--+------+-++++--"
    "-++--++-+-++-+++----++------"
    "+-++--++-+-++-+++-----+-----"
    "++-++---+-+-++-+++-----+----"
    "-++-++-+-+-+-+--+++-----+---"
    "--++-++++-+-+----+++-----+--"
    "+--++-+-++-+-+----+++-----+-"
    "++--++-+-++-+-+----++------+");

}  // namespace

Rotation make_rotation(uint32_t n) {
  assert(n > 0);
  struct Order {
    uint32_t m;
    const int8_t* table;
  };
  constexpr Order kOrders[] = {
      {1, nullptr}, {12, kH12.data()}, {20, kH20.data()}, {28, kH28.data()}};
  Rotation rotation;
  rotation.n = n;
  for (const Order& order : kOrders) {
    if (n % order.m != 0) continue;
    const uint32_t quotient = n / order.m;
    const uint32_t power_of_two = quotient & (~quotient + 1);  // its lowest set bit
    // Two orders never tie: their odd parts (1, 3, 5, 7) differ.
    if (const uint32_t run = order.m * power_of_two; run > rotation.run) {
      rotation.run = run;
      rotation.m = order.m;
      rotation.table = order.table;
    }
  }
  rotation.factor = static_cast<float>(1.0 / std::sqrt(static_cast<double>(rotation.run)));
  return rotation;
}

}  // namespace sluice::kernels
