// ConvertJournal: which shards of a conversion are finished, so that a killed one goes on.
//
// A file of JSON lines in the unfinished directory, each made durable before the next step:
//
//   {"version": 1, "program": "...", "settings": "...", "source": [{"file", "bytes", "modified_ns",
//    "header"}, ...]}                                      what was asked for, and of which files
//   {"shard": "experts-00001-of-00048.safetensors", "bytes": 123, "matrices": [...]}
//
// A last line without its end is a write that was cut by the kill, and is dropped.
// Owns: the descriptor. Threads: one at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "io/posix_file.h"
#include "model/convert_report.h"

namespace sluice {

inline constexpr const char* kConvertJournal = ".sluice-convert-journal";

// What makes two runs the same: the program, its settings, and the source's files as they are:
// names, sizes, times of change, checksums of their headers, and config.json.
std::string conversion_identity(const Checkpoint& checkpoint, const std::string& program,
                                const std::string& settings);

class ConvertJournal {
 public:
  // Opens the journal of a directory, or begins one. Throws Error: it is of another identity (the
  // message says what differs), damaged, or cannot be written.
  ConvertJournal(const std::filesystem::path& directory, const std::string& identity);

  struct Shard {
    uint64_t bytes = 0;
    std::vector<MatrixReport> matrices;
  };
  const std::map<std::string, Shard>& finished() const { return finished_; }
  // A shard that lies in the directory, durable. Throws Error.
  void add(const std::string& shard, uint64_t bytes, std::span<const MatrixReport> matrices);

 private:
  void read(const std::string& text, const std::string& identity);
  void append(std::string line);

  std::string path_;
  FileDescriptor fd_;
  std::map<std::string, Shard> finished_;
};

// Whether directory holds a journal of this identity.
bool has_journal_of(const std::filesystem::path& directory, const std::string& identity);

}  // namespace sluice
