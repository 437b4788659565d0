#include "model/convert_journal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "io/checksum.h"
#include "io/error.h"
#include "io/json_text.h"
#include "model/json_object.h"

namespace sluice {

namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kMaxJournalBytes = 256 << 20;  // a line per gigabyte or so
constexpr int kVersion = 1;

uint64_t header_checksum(const RegularFile& file, const std::string& path) {
  uint64_t size = 0;
  read_exactly(file.fd, std::as_writable_bytes(std::span(&size, 1)), 0, path);
  if (size > kMaxHeaderBytes) throw Error(path, ": its header changed; was the file replaced?");
  std::vector<std::byte> header(size);
  read_exactly(file.fd, header, 8, path);
  return checksum(header);
}

// The lines of a text that end; what follows the last end is a write that was cut.
std::vector<std::string_view> whole_lines(std::string_view text) {
  std::vector<std::string_view> lines;
  for (size_t end = text.find('\n'); end != text.npos; end = text.find('\n')) {
    lines.push_back(text.substr(0, end));
    text.remove_prefix(end + 1);
  }
  return lines;
}

// Names the first thing that differs.
std::string difference(const Json& before, const Json& now) {
  for (const char* key : {"program", "settings", "config"}) {
    if (before.value(key, "") != now.value(key, "")) {
      return std::string(key) + " was \"" + before.value(key, "") + "\" and is \"" +
             now.value(key, "") + "\"";
    }
  }
  return "the files of the source are not what they were";
}

}  // namespace

std::string conversion_identity(const Checkpoint& checkpoint, const std::string& program,
                                const std::string& settings) {
  Json identity = {{"version", kVersion}, {"program", program}, {"settings", settings}};
  const std::optional<std::string> config =
      read_config_text(checkpoint.directory() / "config.json");
  identity["config"] = config ? checksum_text(checksum(std::as_bytes(std::span(*config)))) : "";
  identity["source"] = Json::array();
  for (const std::string& path : checkpoint.files()) {
    const RegularFile file = open_regular_file(path);
    struct stat status {};
    if (::fstat(file.fd.get(), &status) != 0) throw Error(path, ": ", errno_text(errno));
    identity["source"].push_back(
        {{"file", std::filesystem::path(path).filename().string()},
         {"bytes", file.size_bytes},
         {"modified_ns", int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec},
         {"header", checksum_text(header_checksum(file, path))}});
  }
  return json_text(identity, -1, Json::error_handler_t::replace);
}

ConvertJournal::ConvertJournal(const std::filesystem::path& directory, const std::string& identity)
    : path_((directory / kConvertJournal).string()) {
  std::string text;
  std::error_code error;
  if (std::filesystem::exists(path_, error)) text = read_text_file(path_, kMaxJournalBytes);
  read(text, identity);
  fd_ = FileDescriptor(::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
  if (!fd_.valid()) throw Error(path_, ": cannot be opened: ", errno_text(errno));
  const size_t whole = text.rfind('\n') == text.npos ? 0 : text.rfind('\n') + 1;
  if (::ftruncate(fd_.get(), static_cast<off_t>(whole)) != 0 ||
      ::lseek(fd_.get(), 0, SEEK_END) < 0) {
    throw Error(path_, ": cannot be continued: ", errno_text(errno));
  }
  if (whole == 0) append(identity);
}

void ConvertJournal::read(const std::string& text, const std::string& identity) {
  const std::vector<std::string_view> lines = whole_lines(text);
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string where = path_ + ", line " + std::to_string(i + 1);
    const Json line = ordered_json_from(lines[i], /*allow_exceptions=*/false);
    if (!line.is_object()) {
      throw Error(where, ": is damaged; remove ",
                  std::filesystem::path(path_).parent_path().string(), " to start over");
    }
    if (i == 0) {
      if (lines[i] == identity) continue;
      throw Error(std::filesystem::path(path_).parent_path().string(),
                  ": holds an unfinished conversion of other settings or of another source (",
                  difference(line, ordered_json_from(identity)),
                  "); ask for the same again, or remove it to start over");
    }
    try {
      Shard shard;
      shard.bytes = line.at("bytes").get<uint64_t>();
      for (const Json& matrix : line.at("matrices")) {
        shard.matrices.push_back(matrix_report_from_json(matrix, where));
      }
      finished_[line.at("shard").get<std::string>()] = std::move(shard);
    } catch (const nlohmann::json::exception&) {
      throw Error(where, ": names no shard; remove ",
                  std::filesystem::path(path_).parent_path().string(), " to start over");
    }
  }
}

void ConvertJournal::append(std::string line) {
  line += '\n';
  size_t done = 0;
  while (done < line.size()) {
    const ssize_t put = ::write(fd_.get(), line.data() + done, line.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) throw Error(path_, ": cannot be written: ", errno_text(errno));
    done += static_cast<size_t>(put);
  }
  if (::fsync(fd_.get()) != 0) throw Error(path_, ": cannot be written: ", errno_text(errno));
}

void ConvertJournal::add(const std::string& shard, uint64_t bytes,
                         std::span<const MatrixReport> matrices) {
  Json line = {{"shard", shard}, {"bytes", bytes}, {"matrices", Json::array()}};
  for (const MatrixReport& matrix : matrices) line["matrices"].push_back(to_json(matrix));
  append(json_text(line, -1, Json::error_handler_t::replace));
  finished_[shard] = {bytes, {matrices.begin(), matrices.end()}};
}

bool has_journal_of(const std::filesystem::path& directory, const std::string& identity) {
  const std::filesystem::path path = directory / kConvertJournal;
  std::error_code error;
  return std::filesystem::is_regular_file(path, error) &&
         read_text_file(path.string(), kMaxJournalBytes).starts_with(identity + "\n");
}

}  // namespace sluice
