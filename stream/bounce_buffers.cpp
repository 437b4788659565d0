#include "stream/bounce_buffers.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "io/error.h"

namespace sluice {
namespace {

// Many enough that the device is busy while what came is copied. More would leave the cache again.
constexpr uint64_t kBufferBytes = 8 * kPieceBytes;

// The trial: rounds of so many pieces, in place, then bounced.
constexpr uint64_t kRounds = 4;
constexpr uint64_t kPieces = 24;
constexpr uint64_t kTrialPieces = 2 * kRounds * kPieces;
constexpr uint64_t kTrialBytes = kTrialPieces * kPieceBytes;
// Without a divisor in common with kTrialPieces: taken in such steps they all come, in an order
// that no device foresees.
constexpr uint64_t kStep = 37;
// A disk slower than this is not held up by memory.
constexpr double kLeastRate = 1e9;
// What bouncing must gain: the copies take time of a processor.
constexpr double kLeastGain = 1.1;

constexpr uint64_t kLeastCacheBytes = 256 << 20;
static_assert(kLeastCacheBytes >= kTrialBytes);

// Bytes a second of one round of 2 * kRounds: pieces from all over the file to destinations all
// over the slots, none of which another round uses.
double read_round(ReadQueue& queue, const DirectFile& file, std::span<std::byte> slots,
                  uint64_t round) {
  const uint64_t file_step = file.size_bytes() / kTrialPieces / kPieceBytes * kPieceBytes;
  const uint64_t slot_step = slots.size() / kTrialPieces / kPieceBytes * kPieceBytes;
  std::vector<ReadRequest> requests;
  for (uint64_t i = 0; i < kPieces; ++i) {
    const uint64_t place = (round * kPieces + i) * kStep % kTrialPieces;
    requests.push_back({.file = &file,
                        .offset = place * file_step,
                        .size_bytes = kPieceBytes,
                        .needed_bytes = kPieceBytes,
                        .destination = slots.data() + place * slot_step,
                        .tag = i});
  }
  const auto start = std::chrono::steady_clock::now();
  read_all(queue, requests);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return static_cast<double>(kPieces * kPieceBytes) / seconds.count();
}

// One way after the other, not in turns: what is read in place drives the buffers out of the cache.
bool bouncing_pays(ReadQueue& queue, const DirectFile& file, std::span<std::byte> slots,
                   std::span<std::byte> buffers) {
  double in_place = 0, bounced = 0;  // in the best round
  for (uint64_t round = 0; round < kRounds; ++round) {
    in_place = std::max(in_place, read_round(queue, file, slots, round));
    if (in_place < kLeastRate) return false;
  }
  queue.bounce_through(buffers);
  for (uint64_t round = kRounds; round < 2 * kRounds; ++round) {
    bounced = std::max(bounced, read_round(queue, file, slots, round));
  }
  return bounced >= kLeastGain * in_place;
}

// The one to try with, or null.
const DirectFile* largest(std::span<const DirectFile* const> files) {
  const DirectFile* found = nullptr;
  for (const DirectFile* file : files) {
    if (file == nullptr || !file->direct() || file->size_bytes() < kTrialBytes) continue;
    if (found == nullptr || file->size_bytes() > found->size_bytes()) found = file;
  }
  return found;
}

}  // namespace

uint64_t BounceBuffers::bytes(const ExpertSource& source, uint64_t cache_bytes, Bounce bounce) {
  if (bounce == Bounce::on) return kBufferBytes;
  const bool may_pay = !source.packed() && cache_bytes >= kLeastCacheBytes;
  return bounce == Bounce::automatic && may_pay ? kBufferBytes : 0;
}

BounceBuffers::BounceBuffers(const ExpertSource& source, std::span<const DirectFile* const> files,
                             ReadQueue& queue, std::span<std::byte> slots, Bounce bounce)
    : queue_(queue) {
  const uint64_t size_bytes = bytes(source, slots.size(), bounce);
  const DirectFile* file = largest(files);
  if (size_bytes == 0 || (bounce == Bounce::automatic && file == nullptr)) return;
  buffers_ = std::make_unique<Slab>(size_bytes);
  bool pays = bounce == Bounce::on;
  try {
    pays = pays || bouncing_pays(queue, *file, slots, buffers_->bytes());
  } catch (const Error&) {
    // A part of the file that cannot be read: whoever needs it will say so.
  }
  queue.bounce_through({});
  if (!pays) {
    buffers_.reset();
    return;
  }
  // Not before it is certain: a ring goes on reading into memory that it knows, even if that is
  // given back and its address means something else.
  queue.register_buffer(buffers_->bytes());
  queue.bounce_through(buffers_->bytes());
}

BounceBuffers::~BounceBuffers() {
  if (buffers_ != nullptr) queue_.bounce_through({});
}

}  // namespace sluice
