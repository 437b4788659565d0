#include "io/piece_scheduler.h"

#include <algorithm>
#include <cerrno>
#include <limits>

#include "io/check.h"
#include "io/coalesce.h"

namespace sluice {
namespace {

// Outcomes in a row without a byte of progress (EINTR, EAGAIN) after which the errno is believed.
// With the delays below that is about one second: long enough for the kernel to find memory, short
// enough for a user not to take it for a hang.
constexpr uint32_t kMaxAttempts = 100;
// So many reads in a row that bring only what had arrived are no accident: the file ends there.
constexpr uint32_t kMaxRepeats = 16;
constexpr std::chrono::microseconds kFirstDelay{100};
constexpr uint32_t kMaxDelayDoublings = 7;  // 12.8 ms

bool aligned_for(const ReadRequest& request) {
  const uint64_t alignment = request.file->alignment();
  return request.offset % alignment == 0 && request.size_bytes % alignment == 0 &&
         reinterpret_cast<uintptr_t>(request.destination) % alignment == 0;
}

}  // namespace

PieceScheduler::PieceScheduler(uint32_t depth) : pieces_(depth) {
  SLUICE_CHECK(depth > 0);
  free_.reserve(depth);
  retrying_.reserve(depth);
  for (Piece& piece : pieces_) free_.push_back(&piece);
}

void PieceScheduler::bounce_through(std::span<std::byte> memory) {
  SLUICE_CHECK(requests() == 0);
  free_buffers_.clear();
  for (; memory.size() >= kPieceBytes; memory = memory.subspan(kPieceBytes)) {
    free_buffers_.push_back(memory.data());
  }
  bounce_buffers_ = static_cast<uint32_t>(free_buffers_.size());
}

void PieceScheduler::add(const ReadRequest& request) {
  SLUICE_CHECK(request.file != nullptr && request.destination != nullptr);
  SLUICE_CHECK(request.size_bytes > 0 && request.needed_bytes <= request.size_bytes);
  // File offsets are signed in the kernel.
  SLUICE_CHECK(request.size_bytes <= uint64_t{std::numeric_limits<int64_t>::max()} &&
               request.offset <=
                   uint64_t{std::numeric_limits<int64_t>::max()} - request.size_bytes);
  SLUICE_CHECK(aligned_for(request));
  RequestList& list = waiting(request.deadline);
  list.push_back({.request = request, .next = request.offset});
  const bool unique = by_tag_.emplace(request.tag, std::prev(list.end())).second;
  SLUICE_CHECK(unique);
  ++statistics_.requests;
}

PieceScheduler::Piece* PieceScheduler::start(Time now) {
  if (abandoned_) return nullptr;
  Piece* piece = nullptr;
  const auto due = std::find_if(retrying_.begin(), retrying_.end(),
                                [&](const Piece* p) { return p->not_before_ <= now; });
  if (due != retrying_.end()) {
    piece = *due;
    retrying_.erase(due);
  } else if (may_carve(Deadline::demand) && !demand_.empty()) {
    piece = carve(demand_.begin());
  } else if (may_carve(Deadline::speculative) && !speculative_.empty()) {
    piece = carve(speculative_.begin());
  } else {
    return nullptr;
  }
  if (at_device_++ == 0) busy_since_ = now;
  piece->at_device_ = true;
  return piece;
}

// Where pieces bounce, one buffer is left to begin with while the others are copied. Speculation
// gets less than half of them: what has begun is not to be cancelled, and a device that tells of
// its reads together holds back with it what is waited for.
bool PieceScheduler::may_carve(Deadline deadline) const {
  if (bounce_buffers_ == 0) return !free_.empty();
  const uint32_t others = bounce_buffers_ - 1;
  const uint32_t most = deadline == Deadline::demand ? others : others / 2;
  return !free_.empty() && !free_buffers_.empty() && at_device_ < std::max(most, 1u);
}

void PieceScheduler::came_back(Piece* piece, Time now) {
  SLUICE_CHECK(at_device_ > 0 && piece->at_device_);
  piece->at_device_ = false;
  if (--at_device_ > 0) return;
  const auto busy = std::chrono::duration_cast<std::chrono::microseconds>(now - busy_since_);
  statistics_.busy_us += static_cast<uint64_t>(busy.count());
}

void PieceScheduler::finish(Piece* piece, int64_t outcome, Time now) {
  if (piece->at_device_) came_back(piece, now);
  if (outcome < 0) {
    const int error = static_cast<int>(-outcome);
    const bool passing = error == EINTR || error == EAGAIN;
    if (!passing || ++piece->attempts_ == kMaxAttempts) return end_piece(piece, error);
    // EINTR: a signal came first; at once. EAGAIN: the kernel is short of memory or requests;
    // later.
    const auto delay = kFirstDelay * (1u << std::min(piece->attempts_ - 1, kMaxDelayDoublings));
    return retry(piece, error == EINTR ? now : now + delay);
  }

  SLUICE_CHECK(static_cast<uint64_t>(outcome) <= piece->size_bytes());
  const uint64_t arrived = piece->offset_ + static_cast<uint64_t>(outcome);
  const bool progress = arrived > piece->arrived_;
  if (progress) {
    piece->request_->bytes_read += arrived - piece->arrived_;
    piece->arrived_ = arrived;
    piece->attempts_ = 0;
    piece->repeats_ = 0;
  }
  if (piece->arrived_ == piece->end_) return end_piece(piece, 0);
  // A read that brings nothing stands at the end of the file. A short one that reaches the size the
  // file had when it was opened does too, and need not be asked again. One that brings only what
  // had arrived before (a direct read that began again at a boundary) may be either: short or at
  // the end.
  const bool repeated = !progress && outcome > 0 && ++piece->repeats_ < kMaxRepeats;
  const bool at_end = piece->arrived_ >= piece->file_->size_bytes();
  if (at_end || (!progress && !repeated)) {
    const ReadRequest& request = piece->request_->request;
    const bool enough = piece->arrived_ >= request.offset + request.needed_bytes;
    return end_piece(piece, enough ? 0 : ReadResult::kTruncated);
  }
  // A direct read must begin aligned: what lies between the boundary and arrived_ is read again.
  const uint64_t offset = piece->arrived_ / piece->file_->alignment() * piece->file_->alignment();
  piece->destination_ += offset - piece->offset_;
  if (piece->bounce_ != nullptr) piece->bounce_ += offset - piece->offset_;
  piece->offset_ = offset;
  retry(piece, now);
}

std::optional<PieceScheduler::Time> PieceScheduler::next_retry() const {
  const auto first = std::min_element(
      retrying_.begin(), retrying_.end(),
      [](const Piece* a, const Piece* b) { return a->not_before_ < b->not_before_; });
  if (first == retrying_.end()) return std::nullopt;
  return (*first)->not_before_;
}

void PieceScheduler::promote(uint64_t tag) {
  const auto entry = by_tag_.find(tag);
  if (entry == by_tag_.end() || entry->second->request.deadline == Deadline::demand) return;
  const RequestList::iterator request = entry->second;
  request->request.deadline = Deadline::demand;
  if (request->next < request->end()) demand_.splice(demand_.begin(), speculative_, request);
}

void PieceScheduler::cancel(uint64_t tag) {
  const auto entry = by_tag_.find(tag);
  if (entry == by_tag_.end()) return;
  const RequestList::iterator request = entry->second;
  if (request->next == request->end()) return;
  drop_waiting(request, ReadResult::kCancelled);
  end_request_if_idle(request);
}

void PieceScheduler::abandon() {
  abandoned_ = true;
  for (RequestList* list : {&demand_, &speculative_}) {
    while (!list->empty()) drop_waiting(list->begin(), ReadResult::kCancelled);
  }
  while (!retrying_.empty()) {
    Piece* piece = retrying_.back();
    retrying_.pop_back();
    end_piece(piece, ReadResult::kCancelled);
  }
}

size_t PieceScheduler::take(std::span<ReadResult> results) {
  const size_t count = std::min(results.size(), results_.size());
  const auto end = results_.begin() + static_cast<std::ptrdiff_t>(count);
  std::copy(results_.begin(), end, results.begin());
  results_.erase(results_.begin(), end);
  return count;
}

PieceScheduler::RequestList& PieceScheduler::waiting(Deadline deadline) {
  return deadline == Deadline::demand ? demand_ : speculative_;
}

// Takes the next piece off a waiting request. Cuts lie on kReadAlignment, so that every piece but
// the last ends where a page does, wherever an unaligned (buffered) request begins.
PieceScheduler::Piece* PieceScheduler::carve(RequestList::iterator request) {
  static_assert(kPieceBytes >= 2 * kReadAlignment, "a cut must lie behind the piece's begin");
  const uint64_t begin = request->next;
  uint64_t end = request->end();
  if (end - begin > kPieceBytes) end = (begin + kPieceBytes) / kReadAlignment * kReadAlignment;

  Piece* piece = free_.back();
  free_.pop_back();
  *piece = Piece{};
  piece->file_ = request->request.file;
  piece->offset_ = begin;
  piece->end_ = end;
  piece->arrived_ = begin;
  piece->destination_ = request->request.destination + (begin - request->request.offset);
  piece->request_ = request;
  if (bounce_buffers_ > 0) {
    // The one that was used last is likeliest to be in a cache still.
    piece->bounce_ = piece->buffer_ = free_buffers_.back();
    free_buffers_.pop_back();
  }

  ++request->pieces;
  request->next = end;
  if (end == request->end()) {
    idle_.splice(idle_.end(), waiting(request->request.deadline), request);
  }
  ++statistics_.pieces;
  return piece;
}

// Requires: the request has pieces left to start.
void PieceScheduler::drop_waiting(RequestList::iterator request, int error) {
  if (request->error == 0) {
    request->error = error;
    request->error_offset = request->next;
  }
  request->next = request->end();
  idle_.splice(idle_.end(), waiting(request->request.deadline), request);
}

void PieceScheduler::retry(Piece* piece, Time not_before) {
  ++statistics_.retries;
  piece->not_before_ = not_before;
  retrying_.push_back(piece);
}

void PieceScheduler::end_piece(Piece* piece, int error) {
  const RequestList::iterator request = piece->request_;
  if (error != 0) {
    // Of several pieces that fail, the one with the lowest offset is reported, so that messages do
    // not hang on the order of arrival. A cancelled request stays cancelled.
    if (request->error == 0 ||
        (request->error != ReadResult::kCancelled && piece->arrived_ < request->error_offset)) {
      request->error = error;
      request->error_offset = piece->arrived_;
    }
    if (request->next < request->end()) drop_waiting(request, error);
  }
  free_.push_back(piece);
  if (piece->buffer_ != nullptr) free_buffers_.push_back(piece->buffer_);
  --request->pieces;
  end_request_if_idle(request);
}

void PieceScheduler::end_request_if_idle(RequestList::iterator request) {
  if (request->pieces > 0 || request->next < request->end()) return;
  uint64_t& bytes = request->request.deadline == Deadline::demand ? statistics_.bytes_demanded
                                                                  : statistics_.bytes_speculated;
  bytes += request->bytes_read;
  results_.push_back({.tag = request->request.tag,
                      .error = request->error,
                      .error_offset = request->error_offset});
  by_tag_.erase(request->request.tag);
  idle_.erase(request);
}

}  // namespace sluice
