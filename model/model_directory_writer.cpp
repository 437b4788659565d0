#include "model/model_directory_writer.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <system_error>

#include "io/atomic_file.h"
#include "io/check.h"
#include "io/checkpoint.h"
#include "io/error.h"
#include "io/json_text.h"
#include "model/convert_journal.h"
#include "model/plan.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMarker = ".sluice-unfinished";
constexpr size_t kCopyBytes = size_t{4} << 20;

fs::path absolute_without_slash(const fs::path& path) {
  fs::path absolute = fs::absolute(path).lexically_normal();
  return absolute.has_filename() ? absolute : absolute.parent_path();
}

bool exists_in_any_form(const fs::path& path) {
  std::error_code error;
  return fs::exists(fs::symlink_status(path, error));
}

void refuse_existing(const fs::path& out) {
  if (!exists_in_any_form(out)) return;
  throw Error(out.string(),
              ": exists already; nothing is overwritten: choose another --out, or "
              "remove it first");
}

void fsync_directory(const fs::path& directory) {
  const FileDescriptor fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // EINVAL: some network filesystems cannot fsync a directory.
  if (!fd.valid() || (::fsync(fd.get()) != 0 && errno != EINVAL)) {
    throw Error(directory.string(), ": cannot be made durable (fsync): ", errno_text(errno));
  }
}

// Opens and locks the marker of a working directory.
FileDescriptor lock_marker(const fs::path& directory, int flags) {
  const fs::path path = directory / kMarker;
  FileDescriptor marker(::open(path.c_str(), flags | O_RDWR | O_CLOEXEC, 0666));
  if (!marker.valid()) {
    const int error = errno;
    throw Error(path.string(), ": cannot be opened: ", errno_text(error),
                error == ENOENT ? "; this directory was not left by Sluice: remove it, or choose "
                                  "another --out"
                                : "");
  }
  // EWOULDBLOCK alone says that somebody has it; filesystems without locks say other things.
  if (::flock(marker.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    throw Error(directory.string(),
                ": another process is writing there; wait for it, or choose "
                "another --out");
  }
  return marker;
}

// What may be lying in the source beside config, tokenizer and the like: weights in any form.
bool is_weights(const std::string& name) {
  constexpr std::array<std::string_view, 11> kEndings = {".safetensors", ".safetensors.index.json",
                                                         ".bin",         ".bin.index.json",
                                                         ".pt",          ".pth",
                                                         ".gguf",        ".onnx",
                                                         ".h5",          ".msgpack",
                                                         ".partial"};
  return std::any_of(kEndings.begin(), kEndings.end(),
                     [&](std::string_view ending) { return name.ends_with(ending); });
}

// From the headers of the shards, so that the index cannot say what they do not.
std::string index_json(const fs::path& directory) {
  const Checkpoint checkpoint = Checkpoint::open(directory);
  nlohmann::ordered_json weight_map = nlohmann::ordered_json::object();
  uint64_t total = 0;
  std::vector<const TensorInfo*> tensors;
  for (const TensorInfo& tensor : checkpoint.tensors()) tensors.push_back(&tensor);
  std::sort(tensors.begin(), tensors.end(),
            [](const TensorInfo* a, const TensorInfo* b) { return a->name < b->name; });
  for (const TensorInfo* tensor : tensors) {
    weight_map[tensor->name] = fs::path(checkpoint.files()[tensor->file]).filename().string();
    total += tensor->size_bytes;
  }
  nlohmann::ordered_json index;
  index["metadata"]["total_size"] = total;
  index["weight_map"] = std::move(weight_map);
  return json_text(index, 2) + "\n";
}

// Never over something that appeared meanwhile.
void rename_to_new(const fs::path& from, const fs::path& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return;
  if (errno == EINVAL || errno == ENOSYS) {  // a filesystem that cannot refuse; so we look
    refuse_existing(to);
    if (::rename(from.c_str(), to.c_str()) == 0) return;
  }
  const int error = errno;
  if (error == EEXIST) refuse_existing(to);
  throw Error(to.string(), ": cannot rename ", from.string(), " to it: ", errno_text(error));
}

}  // namespace

ModelDirectoryWriter::ModelDirectoryWriter(const fs::path& out, Unfinished unfinished)
    : out_(absolute_without_slash(out)), unfinished_(unfinished) {
  refuse_existing(out_);
  directory_ = out_;
  directory_ += ".unfinished";
  std::error_code error;
  const bool ours = fs::create_directory(directory_, error);
  if (error) {
    throw Error(directory_.string(), ": cannot be created: ", error.message(),
                "; --out must be in a directory that exists and that this user may write to");
  }
  // An empty one may be ours too: killed before its marker was made.
  marker_ = lock_marker(directory_, ours || fs::is_empty(directory_, error) ? O_CREAT : 0);
  if (ours) return;
  resumed_ = unfinished == Unfinished::resume;
  if (!resumed_ && fs::exists(directory_ / kConvertJournal, error)) {
    throw Error(directory_.string(), ": holds a conversion that stream-convert can go on with; ",
                "finish or remove it, or choose another --out");
  }
  for (const fs::directory_entry& entry : fs::directory_iterator(directory_)) {
    if (entry.path().filename() == kMarker) continue;
    if (resumed_ && entry.path().extension() != ".partial") continue;
    fs::remove_all(entry.path(), error);
    if (error) throw Error(entry.path().string(), ": cannot be removed: ", error.message());
  }
}

ModelDirectoryWriter::~ModelDirectoryWriter() {
  if (finished_ || unfinished_ == Unfinished::resume) return;
  discard();
}

void ModelDirectoryWriter::discard() {
  // The marker goes last: killed in between, what is left is known as ours.
  std::error_code ignored;
  std::vector<fs::path> entries;
  for (fs::directory_iterator entry(directory_, ignored), end; !ignored && entry != end;
       entry.increment(ignored)) {
    if (entry->path().filename() != kMarker) entries.push_back(entry->path());
  }
  for (const fs::path& entry : entries) fs::remove_all(entry, ignored);
  fs::remove_all(directory_, ignored);
  finished_ = true;
}

void ModelDirectoryWriter::copy_side_files(const fs::path& source,
                                           const std::set<std::string>& except) {
  std::error_code error;
  std::vector<fs::path> files;
  for (fs::directory_iterator entry(source, error), end; entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    std::error_code ignored;
    if (name.starts_with(".") || name == "config.json" || is_weights(name) ||
        except.contains(name) || !entry->is_regular_file(ignored)) {
      continue;
    }
    files.push_back(entry->path());
  }
  if (error) throw Error(source.string(), ": cannot list the directory: ", error.message());
  for (const fs::path& file : files) copy_file_durably(file, directory_ / file.filename());
}

void ModelDirectoryWriter::finish(std::string_view config_json) {
  SLUICE_CHECK(!finished_);
  const fs::path index = directory_ / "model.safetensors.index.json";
  ::unlink(index.c_str());  // an earlier run's, which would decide what is a shard
  write_text_file(index.string(), index_json(directory_));
  write_text_file((directory_ / "config.json").string(), config_json);
  fsync_directory(directory_);
  rename_to_new(directory_, out_);
  finished_ = true;
  ::unlink((out_ / kMarker).c_str());  // last: what is found without it is not ours to remove
  fsync_directory(out_.parent_path());
}

void require_free_space(const fs::path& directory, uint64_t size_bytes) {
  struct statvfs space {};
  if (::statvfs(directory.c_str(), &space) != 0) {
    throw Error(directory.string(), ": cannot ask how much space is free: ", errno_text(errno));
  }
  const uint64_t free_bytes = uint64_t{space.f_bavail} * space.f_frsize;
  if (free_bytes >= size_bytes) return;
  throw Error(directory.string(), ": needs ", bytes_text(size_bytes), " and has ",
              bytes_text(free_bytes), " free; free ", bytes_text(size_bytes - free_bytes),
              " there, or write to another filesystem");
}

std::string shard_name(std::string_view kind, size_t shard, size_t shards) {
  char numbers[64];
  std::snprintf(numbers, sizeof(numbers), "-%05zu-of-%05zu.safetensors", shard + 1, shards);
  return std::string(kind) + numbers;
}

std::vector<size_t> plan_shards(std::span<const uint64_t> sizes, uint64_t shard_bytes) {
  std::vector<size_t> first;
  uint64_t filled = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (i == 0 || sizes[i] > shard_bytes - std::min(filled, shard_bytes)) {
      first.push_back(i);
      filled = 0;
    }
    filled += sizes[i];
  }
  return first;
}

void copy_file_durably(const fs::path& from, const fs::path& to) {
  const RegularFile source = open_regular_file(from.string());
  AtomicFile target(to.string());
  std::vector<std::byte> buffer(std::min<uint64_t>(kCopyBytes, source.size_bytes));
  for (uint64_t at = 0; at < source.size_bytes; at += buffer.size()) {
    const std::span<std::byte> piece =
        std::span(buffer).first(std::min<uint64_t>(buffer.size(), source.size_bytes - at));
    read_exactly(source.fd, piece, at, from.string());
    target.write(piece);
  }
  target.commit();
}

}  // namespace sluice
