#include "tools/scratch_logits.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "io/check.h"
#include "io/error.h"
#include "model/plan.h"

namespace sluice {
namespace {

constexpr uint64_t kBlockBytes = 1 << 20;  // what is written and read at once, or one row

FileDescriptor open_unnamed(const std::string& directory) {
  std::string name = directory + "/sluice-logits.XXXXXX";
  FileDescriptor file(mkstemp(name.data()));
  if (!file.valid()) {
    throw Error(directory, ": no temporary file can be made here: ", errno_text(errno),
                "; name another directory with --scratch");
  }
  unlink(name.c_str());
  return file;
}

[[noreturn]] void throw_no_room(const std::string& directory, uint64_t wanted, uint64_t available) {
  throw Error(directory, ": the reference's logits take ", bytes_text(wanted), ", but there are ",
              bytes_text(available),
              " left; name another directory with --scratch, or lower --max-windows");
}

}  // namespace

ScratchLogits::ScratchLogits(std::string directory, const Shape& shape)
    : directory_(std::move(directory)), shape_(shape) {
  SLUICE_CHECK(shape.vocabulary > 0);
  file_ = open_unnamed(directory_);
  struct statvfs space = {};
  const uint64_t wanted = shape.bytes();
  if (fstatvfs(file_.get(), &space) == 0) {
    const uint64_t available = uint64_t{space.f_bavail} * space.f_frsize;
    if (wanted > available) throw_no_room(directory_, wanted, available);
  }
  // Where reserving is not supported, what follows may still meet a full disk, and says so.
  if (wanted > 0 && fallocate(file_.get(), 0, 0, static_cast<off_t>(wanted)) != 0 &&
      errno == ENOSPC) {
    throw_no_room(directory_, wanted, 0);
  }
  block_rows_ = std::max<uint64_t>(1, kBlockBytes / (shape.vocabulary * sizeof(float)));
  rows_.resize(block_rows_ * shape.vocabulary);
}

void ScratchLogits::add(std::span<const float> logits) {
  SLUICE_CHECK(logits.size() == shape_.vocabulary && size() < shape_.positions);
  read_ = 0;  // rows_ is for writing now
  std::copy(logits.begin(), logits.end(),
            rows_.begin() + static_cast<std::ptrdiff_t>(buffered_ * shape_.vocabulary));
  if (++buffered_ == block_rows_) flush();
}

void ScratchLogits::flush() {
  const uint64_t row_bytes = shape_.vocabulary * sizeof(float);
  const auto bytes = std::as_bytes(std::span(rows_)).first(buffered_ * row_bytes);
  for (uint64_t done = 0; done < bytes.size();) {
    const ssize_t n = pwrite(file_.get(), bytes.data() + done, bytes.size() - done,
                             static_cast<off_t>(written_ * row_bytes + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      throw Error(directory_, ": the reference's logits cannot be written: ",
                  errno_text(n == 0 ? ENOSPC : errno),
                  "; name another directory with --scratch, or lower --max-windows");
    }
    done += static_cast<uint64_t>(n);
  }
  written_ += buffered_;
  buffered_ = 0;
}

std::span<const float> ScratchLogits::at(uint64_t index) {
  SLUICE_CHECK(index < size());
  if (buffered_ > 0) flush();
  if (index < first_read_ || index >= first_read_ + read_) {
    const uint64_t row_bytes = shape_.vocabulary * sizeof(float);
    first_read_ = index;
    read_ = std::min(block_rows_, written_ - index);
    read_exactly(file_, std::as_writable_bytes(std::span(rows_)).first(read_ * row_bytes),
                 index * row_bytes, directory_ + " (temporary file)");
  }
  return std::span<const float>(rows_).subspan((index - first_read_) * shape_.vocabulary,
                                               shape_.vocabulary);
}

}  // namespace sluice
