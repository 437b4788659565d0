// PieceScheduler: the bookkeeping that all read queues share. It splits requests into pieces, says
// which piece to start next, and turns the outcomes of pieces into results. It does no I/O and
// reads no clock: a back end starts what start() returns and reports each outcome to finish().
//
//              add            start                finish: all bytes, end of file, error
//   request ─────────► waiting ──────► at the device ───────────────────────────► result
//                                          ▲   │
//                                    start │   ▼ finish: short, EINTR, EAGAIN
//                                         retrying
// A piece that bounces is delivered between device and finish (came_back).
//
// Invariant: a request with pieces left to start is in exactly one of the two waiting lists, by its
// deadline; any other live request is in idle_ and has pieces at the device or retrying. A request
// with neither becomes a result at once. Pieces of a request start in the order of their offsets.
//
// Borrows: files and destinations of its requests. Threads: one at a time.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "io/read_queue.h"
#include "io/streaming_copy.h"

namespace sluice {

class PieceScheduler {
 private:
  struct Request;

 public:
  using Time = std::chrono::steady_clock::time_point;

  // One read at the device. What has arrived of it is kept when it must be started again.
  class Piece {
   public:
    uint64_t tag() const { return request_->request.tag; }
    const DirectFile& file() const { return *file_; }
    // The bytes to ask for now: aligned as the file wants it.
    uint64_t offset() const { return offset_; }
    uint64_t size_bytes() const { return end_ - offset_; }
    // Where they are to land: in the request's destination, or in a bounce buffer.
    std::byte* destination() const { return bounce_ != nullptr ? bounce_ : destination_; }
    bool bounces() const { return bounce_ != nullptr; }
    // Copies the bytes that have just arrived there to the request's destination, if it bounces.
    void deliver(uint64_t bytes) const {
      if (bounce_ != nullptr) streaming_copy(destination_, bounce_, bytes);
    }

   private:
    friend class PieceScheduler;
    const DirectFile* file_ = nullptr;
    uint64_t offset_ = 0;
    uint64_t end_ = 0;      // in the file, of the piece
    uint64_t arrived_ = 0;  // in the file: all before it has arrived; may lie behind offset_
    std::byte* destination_ = nullptr;
    std::byte* bounce_ = nullptr;  // of the bytes at destination_, or null
    std::byte* buffer_ = nullptr;  // that bounce_ points into
    bool at_device_ = false;
    uint32_t attempts_ = 0;  // without progress
    uint32_t repeats_ = 0;   // reads in a row that brought only what had arrived
    Time not_before_{};
    std::list<Request>::iterator request_;
  };

  explicit PieceScheduler(uint32_t depth);  // pieces at the device at once, > 0
  PieceScheduler(const PieceScheduler&) = delete;
  PieceScheduler& operator=(const PieceScheduler&) = delete;

  // As ReadQueue::bounce_through().
  void bounce_through(std::span<std::byte> memory);
  // Requires: what ReadRequest says.
  void add(const ReadRequest& request);
  // The next piece to start, or null if the depth is reached, the share of the bounce buffers is
  // taken (ReadQueue::bounce_through) or nothing is due. Retries come first, then demand, then
  // speculation. Valid until its finish().
  Piece* start(Time now);
  // A started piece is back from the device, which may have others instead; finish() comes later.
  // For those who deliver() between the two; not needed else.
  void came_back(Piece* piece, Time now);
  // The outcome of a started piece: bytes read and delivered (0: end of file), or -errno.
  void finish(Piece* piece, int64_t outcome, Time now);
  // When the first retry that waits is due, if any waits.
  std::optional<Time> next_retry() const;

  void promote(uint64_t tag);
  void cancel(uint64_t tag);
  // Cancels everything that is not at the device. For destructors: nothing is started after it.
  void abandon();

  bool has_results() const { return !results_.empty(); }
  // Moves out as many results as fit, in the order in which the requests ended.
  size_t take(std::span<ReadResult> results);

  size_t in_flight() const { return requests() + results_.size(); }
  uint32_t at_device() const { return at_device_; }
  const ReadStatistics& statistics() const { return statistics_; }

 private:
  struct Request {
    ReadRequest request;
    uint64_t next = 0;    // in the file: where the next piece begins
    uint32_t pieces = 0;  // at the device or retrying
    uint64_t bytes_read = 0;
    int error = 0;
    uint64_t error_offset = 0;
    uint64_t end() const { return request.offset + request.size_bytes; }
  };
  using RequestList = std::list<Request>;

  size_t requests() const { return by_tag_.size(); }
  RequestList& waiting(Deadline deadline);
  bool may_carve(Deadline deadline) const;
  Piece* carve(RequestList::iterator request);
  void drop_waiting(RequestList::iterator request, int error);
  void retry(Piece* piece, Time not_before);
  void end_piece(Piece* piece, int error);
  void end_request_if_idle(RequestList::iterator request);

  RequestList demand_;       // waiting
  RequestList speculative_;  // waiting
  RequestList idle_;         // nothing left to start
  std::unordered_map<uint64_t, RequestList::iterator> by_tag_;
  std::vector<Piece> pieces_;  // [depth]; never resized, so that pointers stay
  std::vector<Piece*> free_;
  std::vector<Piece*> retrying_;  // at most depth
  bool abandoned_ = false;
  uint32_t bounce_buffers_ = 0;
  std::vector<std::byte*> free_buffers_;  // [kPieceBytes] each; the last is the next to be used
  std::deque<ReadResult> results_;
  uint32_t at_device_ = 0;
  Time busy_since_{};  // while at_device_ > 0
  ReadStatistics statistics_;
};

}  // namespace sluice
