#include "model/repack.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <exception>
#include <mutex>
#include <set>

#include "io/atomic_file.h"
#include "io/check.h"
#include "io/checksum.h"
#include "io/direct_file.h"
#include "io/error.h"
#include "model/config.h"
#include "model/expert_batches.h"
#include "model/json_object.h"
#include "model/model_directory_writer.h"
#include "model/network.h"
#include "model/plan.h"
#include "model/record_packer.h"
#include "model/tensor_copy.h"
#include "model/workers.h"
#include "stream/calibration_files.h"
#include "stream/plain_stack.h"
#include "stream/record_writer.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr const char* kHotExperts = "hot_experts.json";
// The process itself, the headers and indexes of a large model, a piece of the trunk.
constexpr uint64_t kBaseBytes = uint64_t{96} << 20;

// Calls body(task, worker) for every task; the first exception that any threw is thrown here.
template <class Body>
void run_throwing(Workers& workers, uint32_t tasks, Body&& body) {
  std::mutex mutex;
  std::exception_ptr failure;
  workers.run(tasks, [&](uint32_t task, uint32_t worker) {
    try {
      body(task, worker);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  });
  if (failure) std::rethrow_exception(failure);
}

// What the source's files were when they were opened; a download still under way, or somebody's
// editing, would make a copy of two halves.
class SourceState {
 public:
  explicit SourceState(const Checkpoint& checkpoint) : paths_(checkpoint.files()) {
    for (const std::string& path : paths_) states_.push_back(look(path));
  }
  void expect_unchanged() const {
    for (size_t i = 0; i < paths_.size(); ++i) {
      if (look(paths_[i]) == states_[i]) continue;
      throw Error(paths_[i],
                  ": changed or vanished while it was read; repack again when it is "
                  "complete");
    }
  }

 private:
  struct State {
    uint64_t device = 0, inode = 0, size_bytes = 0;
    int64_t seconds = 0, nanoseconds = 0;
    bool operator==(const State&) const = default;
  };
  static State look(const std::string& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) return {};
    return {static_cast<uint64_t>(status.st_dev), static_cast<uint64_t>(status.st_ino),
            static_cast<uint64_t>(status.st_size), status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
  }

  std::vector<std::string> paths_;
  std::vector<State> states_;
};

class Repacking {
 public:
  Repacking(const RepackOptions& options, const RepackProgress& progress)
      : options_(options),
        progress_(progress),
        config_(read_config(options.model)),
        config_text_(read_text_file((options.model / "config.json").string(), kMaxConfigBytes)),
        checkpoint_(Checkpoint::open(options.model)),
        names_(expert_names(config_, checkpoint_)),
        source_state_(checkpoint_),
        workers_(options.threads == 0 ? available_threads() : options.threads) {
    if (names_.empty()) {
      throw Error(options.model.string(), ": has no experts (", config_.model_type,
                  "); records are for mixture-of-experts models");
    }
  }

  RepackReport run() {
    find_layers();
    read_order();
    plan_memory();
    ModelDirectoryWriter writer(options_.out, ModelDirectoryWriter::Unfinished::start_over);
    require_free_space(writer.directory(), output_bytes());

    const TensorCopy trunk(checkpoint_, router_orders());
    start("repacking", output_bytes());
    write_records(writer.directory());
    trunk.write_shards(writer.directory(), trunk_, [this](uint64_t bytes) { advance(bytes); });
    if (options_.verify) verify(writer.directory(), trunk);
    source_state_.expect_unchanged();
    copy_side_files(writer);
    writer.finish(config_text_);
    return report_;
  }

 private:
  // Layouts, records' tables, and which tensors are experts'.
  void find_layers() {
    const TensorNames tensor_names(checkpoint_);
    std::set<std::string_view> moved;
    for (const ExpertNames& names : names_) {
      layouts_.push_back(find_experts(checkpoint_, tensor_names, names));
      std::set<std::string> prefixes(names.stacked_prefixes.begin(), names.stacked_prefixes.end());
      prefixes.insert(names.per_expert_prefix);
      for (const std::string& prefix : prefixes) {
        for (const std::string_view name : tensor_names.under(prefix + ".")) {
          const bool stays = name.ends_with(".codebook") || name.ends_with(".signs") ||
                             is_expert_bias(names, prefix, name);
          if (!stays) moved.insert(name);
        }
      }
    }
    for (size_t layer = 0; layer < layouts_.size(); ++layer) {
      std::vector<std::string> projections;
      for (const auto& projection : names_[layer].projections) {
        projections.push_back(projection.name);
      }
      packers_.emplace_back(layouts_[layer], projections, options_.layout);
      const uint64_t record_bytes = packers_.back().table().record_bytes;
      report_.largest_record_bytes = std::max(report_.largest_record_bytes, record_bytes);
      report_.record_bytes += record_bytes * layouts_[layer].experts;
      report_.experts = std::max(report_.experts, layouts_[layer].experts);
    }
    for (const TensorInfo& tensor : checkpoint_.tensors()) {
      if (moved.contains(tensor.name)) {
        report_.source_expert_bytes += tensor.size_bytes;
      } else {
        trunk_.push_back(&tensor);
        report_.copied_bytes += tensor.size_bytes;
      }
    }
    report_.layers = static_cast<uint32_t>(layouts_.size());
  }

  // order_[layer][new id] = old id.
  void read_order() {
    ExpertGrid grid{.layers = {}, .experts = report_.experts};
    for (const ExpertLayout& layout : layouts_) grid.layers.push_back(layout.model_layer);
    Permutation permutation;
    if (options_.permutation) {
      if (config_.router.groups_per_token < config_.router.groups) {
        throw Error(options_.model.string(), ": its router chooses among ", config_.router.groups,
                    " groups of experts by their numbers (n_group), so they cannot be numbered "
                    "anew; repack without a permutation");
      }
      permutation = read_permutation(*options_.permutation, grid);
      report_.permuted = true;
    }
    for (const ExpertLayout& layout : layouts_) {
      std::vector<uint32_t> order(layout.experts);
      for (uint32_t expert = 0; expert < layout.experts; ++expert) order[expert] = expert;
      if (options_.permutation) order = permutation.at(layout.model_layer);
      SLUICE_CHECK(order.size() == layout.experts);
      std::vector<uint32_t> new_id(order.size());
      for (uint32_t id = 0; id < order.size(); ++id) new_id[order[id]] = id;
      order_.push_back(std::move(order));
      new_id_.push_back(std::move(new_id));
    }
    if (report_.permuted) relabel_hot_experts(grid);
  }

  // The pins that lie beside the model name experts by their labels.
  void relabel_hot_experts(const ExpertGrid& grid) {
    const fs::path path = options_.model / kHotExperts;
    std::error_code ignored;
    if (!fs::exists(path, ignored)) return;
    std::vector<LayerExpert> pins = read_pins(path.string(), grid);
    for (LayerExpert& pin : pins) pin.expert = new_id_[*grid.index_of(pin.layer)][pin.expert];
    hot_experts_ = pins_text(pins);
  }

  void plan_memory() {
    // A record per thread, and to verify it taken apart.
    const uint64_t scratch =
        uint64_t{workers_.threads()} * report_.largest_record_bytes * (options_.verify ? 4 : 1);
    const uint64_t least = kBaseBytes + scratch + ExpertBatches::least_bytes(layouts_);
    if (options_.memory_bytes < least) {
      throw Error("--memory-gb allows ", bytes_text(options_.memory_bytes),
                  ", and the experts of this model need ", bytes_text(least), " with ",
                  workers_.threads(), " threads; allow more, or lower --threads");
    }
    batch_bytes_ = options_.memory_bytes - kBaseBytes - scratch;
    buffers_.resize(workers_.threads());
    scratch_.resize(workers_.threads());
  }

  uint64_t output_bytes() const { return report_.record_bytes + report_.copied_bytes; }

  // Of every tensor with a row per expert: the router's, and the experts' biases.
  std::map<std::string, std::vector<uint32_t>, std::less<>> router_orders() const {
    std::map<std::string, std::vector<uint32_t>, std::less<>> orders;
    if (!report_.permuted) return orders;
    const TensorNames tensor_names(checkpoint_);
    for (size_t layer = 0; layer < names_.size(); ++layer) {
      SLUICE_CHECK(!names_[layer].router.empty());
      for (const std::string_view name : tensor_names.under(names_[layer].router + ".")) {
        if (name.ends_with(".codebook") || name.ends_with(".signs")) continue;
        orders.emplace(name, order_[layer]);
      }
      for (const ProjectionFormat& format : layouts_[layer].formats) {
        if (!format.bias.empty()) orders.emplace(format.bias, order_[layer]);
      }
      const std::string& correction = names_[layer].router_correction;
      if (!correction.empty()) orders.emplace(correction, order_[layer]);
      for (const std::string& name : {names_[layer].router + ".weight", correction}) {
        if (name.empty() || checkpoint_.find(name) != nullptr) continue;
        throw Error(options_.model.string(), ": tensor ", name,
                    " is missing, whose rows would move with the experts");
      }
    }
    return orders;
  }

  void open_files() {
    if (!files_.empty()) return;
    for (const std::string& path : checkpoint_.files()) files_.emplace_back(path);
    for (const DirectFile& file : files_) file_list_.push_back(&file);
  }

  void write_records(const fs::path& directory) {
    open_files();
    std::vector<uint64_t> sizes;
    for (size_t layer = 0; layer < layouts_.size(); ++layer) {
      sizes.push_back(packers_[layer].table().record_bytes * layouts_[layer].experts);
    }
    const std::vector<size_t> first = plan_shards(sizes);
    size_t shard = 0;
    std::optional<RecordWriter> writer;
    ExpertBatches batches(layouts_, file_list_, batch_bytes_);
    while (const ExpertBatch* batch = batches.next()) {
      if (!writer || (shard + 1 < first.size() && batch->layer == first[shard + 1])) {
        if (writer) {
          writer->finish();
          ++shard;
        }
        const size_t end = shard + 1 < first.size() ? first[shard + 1] : layouts_.size();
        writer.emplace((directory / shard_name("experts", shard, first.size())).string(),
                       record_tensors(first[shard], end));
      }
      write_batch(*batch, *writer, static_cast<uint32_t>(batch->layer - first[shard]));
    }
    writer->finish();
  }

  std::vector<RecordTensor> record_tensors(size_t begin, size_t end) const {
    std::vector<RecordTensor> tensors;
    for (size_t layer = begin; layer < end; ++layer) {
      tensors.push_back({.name = record_tensor_name(names_[layer].per_expert_prefix),
                         .experts = layouts_[layer].experts,
                         .table = packers_[layer].table()});
    }
    return tensors;
  }

  std::span<std::byte> record_buffer(uint32_t layer, uint32_t worker) {
    buffers_[worker].resize(report_.largest_record_bytes);
    return std::span(buffers_[worker]).first(packers_[layer].table().record_bytes);
  }

  void write_batch(const ExpertBatch& batch, RecordWriter& writer, uint32_t tensor) {
    const auto experts = static_cast<uint32_t>(batch.experts.size());
    run_throwing(workers_, experts, [&](uint32_t i, uint32_t worker) {
      const std::span<std::byte> record = record_buffer(batch.layer, worker);
      packers_[batch.layer].pack(batch.views[i], record);
      writer.write(tensor, new_id_[batch.layer][batch.experts[i]], record);
    });
    advance(experts * packers_[batch.layer].table().record_bytes);
  }

  // Reads everything that was written back from the disk and holds it against the source.
  void verify(const fs::path& directory, const TensorCopy& trunk) {
    start("verifying", output_bytes());
    const Checkpoint copy = Checkpoint::open(directory);
    const TensorNames copy_names(copy);
    std::vector<RegularFile> copy_files;
    for (const std::string& path : copy.files()) {
      copy_files.push_back(open_regular_file(path));
      ::posix_fadvise(copy_files.back().fd.get(), 0, 0, POSIX_FADV_DONTNEED);
    }
    std::vector<std::vector<uint64_t>> checksums;
    for (const ExpertNames& names : names_) {
      find_experts(copy, copy_names, names);  // as any reader would
      const TensorInfo& tensor = copy.at(record_tensor_name(names.per_expert_prefix));
      checksums.push_back(parse_record_checksums(
          copy.metadata(tensor.file).at(record_checksums_key(tensor.name)), names.experts,
          copy.files()[tensor.file] + ": tensor " + tensor.name));
    }
    ExpertBatches batches(layouts_, file_list_, batch_bytes_);
    while (const ExpertBatch* batch = batches.next()) {
      const TensorInfo& tensor =
          copy.at(record_tensor_name(names_[batch->layer].per_expert_prefix));
      verify_batch(*batch, tensor, copy_files[tensor.file], copy.files()[tensor.file],
                   checksums[batch->layer]);
    }
    trunk.compare(copy, trunk_, [this](uint64_t bytes) { advance(bytes); });
  }

  void verify_batch(const ExpertBatch& batch, const TensorInfo& tensor, const RegularFile& file,
                    const std::string& path, const std::vector<uint64_t>& checksums) {
    const RecordPacker& packer = packers_[batch.layer];
    const uint64_t record_bytes = packer.table().record_bytes;
    const auto experts = static_cast<uint32_t>(batch.experts.size());
    run_throwing(workers_, experts, [&](uint32_t i, uint32_t worker) {
      const uint32_t old_id = batch.experts[i];
      const uint32_t id = new_id_[batch.layer][old_id];
      const std::span<std::byte> record = record_buffer(batch.layer, worker);
      read_exactly(file.fd, record, tensor.offset + id * record_bytes, path);
      const auto fail = [&](const std::string& what) {
        throw Error(path, ": the record of layer ", layouts_[batch.layer].model_layer, ", expert ",
                    id, " (", old_id, " of the source) did not verify: ", what,
                    "; the device lost something, or the source changed. Repack again");
      };
      if (checksum(record) != checksums[id]) fail("its checksum is not that of its bytes");
      const std::optional<std::string> difference =
          packer.difference(batch.views[i], record, scratch_[worker]);
      if (difference) fail(*difference + " are not the source's");
    });
    report_.verified_records += experts;
    advance(experts * record_bytes);
  }

  void copy_side_files(ModelDirectoryWriter& writer) {
    std::set<std::string> except;
    if (!hot_experts_.empty()) except.insert(kHotExperts);
    writer.copy_side_files(options_.model, except);
    if (!hot_experts_.empty()) {
      write_text_file((writer.directory() / kHotExperts).string(), hot_experts_);
    }
  }

  void start(const char* step, uint64_t total) {
    step_ = step;
    done_ = 0;
    total_ = total;
    advance(0);
  }
  void advance(uint64_t bytes) {
    done_ += bytes;
    if (progress_) progress_(step_, done_, total_);
  }

  const RepackOptions& options_;
  const RepackProgress& progress_;
  ModelConfig config_;
  std::string config_text_;
  Checkpoint checkpoint_;
  std::vector<ExpertNames> names_;
  SourceState source_state_;
  Workers workers_;
  std::vector<ExpertLayout> layouts_;          // [layers]
  std::vector<RecordPacker> packers_;          // [layers]; they point into layouts_
  std::vector<const TensorInfo*> trunk_;       // all that are not experts
  std::vector<std::vector<uint32_t>> order_;   // [layers][new id]: old id
  std::vector<std::vector<uint32_t>> new_id_;  // [layers][old id]
  std::string hot_experts_;                    // relabelled; empty: none, or as it is
  std::vector<DirectFile> files_;
  std::vector<const DirectFile*> file_list_;
  uint64_t batch_bytes_ = 0;
  std::vector<std::vector<std::byte>> buffers_;  // [threads]: a record
  std::vector<std::vector<std::byte>> scratch_;  // [threads]: a record taken apart
  const char* step_ = "";
  uint64_t done_ = 0;
  uint64_t total_ = 0;
  RepackReport report_;
};

}  // namespace

RepackReport repack(const RepackOptions& options, const RepackProgress& progress) {
  return Repacking(options, progress).run();
}

}  // namespace sluice
