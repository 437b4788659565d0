#include "io/read_queue.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>

#include "io/check.h"
#include "io/error.h"
#include "io/read_backends.h"

namespace sluice {
namespace {

const char* read_remedy(int error) {
  switch (error) {
    case EIO:    // The device cannot deliver the block; the kernel log has the details.
    case ENXIO:  // The device is gone.
    case ENODEV:
      return "; check the device (dmesg, smartctl) and fetch the file again from its source";
    case ESTALE:  // The file was replaced on the server of a network filesystem.
      return "; the file changed on its server: start again";
    case EAGAIN:  // Retried for about a second already.
    case ENOMEM:
      return "; the machine is out of memory: close something or lower the cache budget";
    case EINVAL:  // The filesystem's rules for O_DIRECT are stricter than it told.
      return "; the filesystem refuses direct reads of this file: copy the model to another one";
    case ECANCELED:  // The thread that submitted the read has ended.
      return "; the thread that asked for it ended";
    default:
      return "";
  }
}

}  // namespace

std::unique_ptr<ReadQueue> make_read_queue(ReadBackend backend, uint32_t depth,
                                           std::string* fallback_reason) {
  if (depth < 1 || depth > kMaxQueueDepth) {
    throw Error("read queue: a depth of ", depth, "; expected 1 to ", kMaxQueueDepth);
  }
  if (fallback_reason != nullptr) fallback_reason->clear();
  if (backend == ReadBackend::pread) return make_pread_queue(depth);

  std::string reason;
  if (std::unique_ptr<ReadQueue> queue = make_uring_queue(depth, reason)) return queue;
  if (backend == ReadBackend::io_uring) {
    throw Error("read queue: io_uring is not to be had: ", reason,
                "; use the pread back end, or leave the choice to Sluice");
  }
  if (fallback_reason != nullptr) *fallback_reason = reason;
  return make_pread_queue(depth);
}

void read_all(ReadQueue& queue, std::span<const ReadRequest> requests,
              const std::function<void(uint64_t tag)>& landed) {
  SLUICE_CHECK(queue.in_flight() == 0);
  queue.submit(requests);
  std::optional<ReadResult> failed;
  std::array<ReadResult, 64> results;
  // To the last one even after a failure, though no more are started then: the destinations are the
  // queue's until their results.
  while (queue.in_flight() > 0) {
    const size_t count = queue.wait(results);
    for (const ReadResult& result : std::span(results).first(count)) {
      if (result.error != 0 && !failed) {
        failed = result;
        for (const ReadRequest& request : requests) queue.cancel(request.tag);
      }
      if (result.error == 0 && landed) landed(result.tag);
    }
  }
  if (!failed) return;
  const auto request = std::find_if(requests.begin(), requests.end(),
                                    [&](const ReadRequest& r) { return r.tag == failed->tag; });
  SLUICE_CHECK(request != requests.end());
  throw Error(read_error_text(*failed, *request->file));
}

std::string read_error_text(const ReadResult& result, const DirectFile& file) {
  SLUICE_CHECK(result.error != 0);
  const std::string where = file.path() + ": ";
  const std::string offset = std::to_string(result.error_offset);
  if (result.error == ReadResult::kTruncated) {
    return where + "ends before offset " + offset + ", though it had " +
           std::to_string(file.size_bytes()) +
           " bytes when it was opened and more were expected; fetch it again, completely";
  }
  if (result.error == ReadResult::kCancelled) {
    return where + "the read was cancelled before offset " + offset;
  }
  return where + "cannot read at offset " + offset + ": " + errno_text(result.error) +
         read_remedy(result.error);
}

}  // namespace sluice
