#include "model/converter.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>
#include <utility>

#include "io/atomic_file.h"
#include "io/checkpoint.h"
#include "io/error.h"
#include "io/json_text.h"
#include "kernels/codec.h"
#include "model/convert_journal.h"
#include "model/convert_pipeline.h"
#include "model/json_object.h"
#include "model/measure.h"
#include "model/model_directory_writer.h"
#include "model/workers.h"
#include "stream/expert_source.h"

namespace sluice {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// What a model needs beside weights and config. The licence and the card of the original are about
// the original; where the result is published they belong beside it, not silently inside.
constexpr std::array kSideFiles = {"generation_config.json",
                                   "tokenizer.json",
                                   "tokenizer_config.json",
                                   "tokenizer.model",
                                   "special_tokens_map.json",
                                   "added_tokens.json",
                                   "chat_template.jinja",
                                   "chat_template.json",
                                   "vocab.json",
                                   "vocab.txt",
                                   "merges.txt",
                                   "hot_experts.json"};

// Headers, the index and the journal beside the tensors: a fraction of a percent, and something.
constexpr uint64_t kOverheadShare = 200;
constexpr uint64_t kOverheadBytes = 1 << 20;

// Methods that the converter decodes while reading, so that the config's mention of them goes.
bool is_decoded(const std::string& method) { return method == "fp8"; }

Json parse_source_config(const std::string& text, const std::string& path) {
  parse_json(text, path);  // depth, and a message with the place
  Json config = ordered_json_from(text);
  if (!config.is_object()) throw Error(path, ": not a JSON object");
  const auto found = config.find("quantization_config");
  if (found != config.end() && found->is_object() && found->contains("quant_method") &&
      (*found)["quant_method"].is_string() &&
      is_decoded((*found)["quant_method"].get<std::string>())) {
    config.erase("quantization_config");
  }
  return config;
}

std::string config_text_of(const fs::path& model) {
  const fs::path path = model / "config.json";
  std::optional<std::string> text = read_config_text(path);
  if (!text) {
    throw Error(path.string(),
                ": no such file; expected a model directory with config.json, "
                "tokenizer.json and *.safetensors");
  }
  return std::move(*text);
}

// Anything but a text is as good as absent, as parse_config() has it.
std::string rotation_of(const Json& quantization) {
  const auto found = quantization.find("rotation");
  if (found == quantization.end() || !found->is_string()) return "hadamard";
  return found->get<std::string>();
}

Json optional_bits(const std::optional<uint32_t>& bits) {
  return bits ? Json(*bits) : Json(nullptr);
}

// The headers alone, as the loader reads them: every tensor where it is looked for.
void check_loadable(const fs::path& directory, const ModelConfig& config) {
  const Checkpoint checkpoint = Checkpoint::open(directory);
  std::optional<ExpertSource> source;
  std::optional<Trunk> trunk;
  declare_model(config, checkpoint, source, trunk);
}

// Files of a killed run of another kind would end up in the index.
void start_over(const fs::path& directory) {
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    if (!entry.path().filename().string().starts_with(".")) fs::remove_all(entry.path());
  }
}

uint64_t side_file_bytes(const fs::path& model) {
  uint64_t bytes = 0;
  for (const char* name : kSideFiles) {
    std::error_code error;
    const uint64_t size = fs::file_size(model / name, error);
    if (!error) bytes += size;
  }
  return bytes;
}

bool is_finished(const fs::path& directory, const PlannedShard& shard,
                 const ConvertJournal& journal) {
  const auto found = journal.finished().find(shard.name);
  std::error_code error;
  return found != journal.finished().end() &&
         fs::file_size(directory / shard.name, error) == found->second.bytes && !error;
}

// One conversion, from the plan to the finished directory.
class Conversion {
 public:
  Conversion(const ConvertOptions& options, const ConvertEvents& events)
      : options_(options),
        events_(events),
        checkpoint_(Checkpoint::open(options.model)),
        config_(read_source_config(options.model)),
        plan_(plan_conversion(checkpoint_, config_, options.settings)),
        identity_(conversion_identity(checkpoint_, options.program, options.settings.text())) {}

  ConvertResult run() {
    if (has_journal_of(options_.out, identity_)) return clean_up_finished();
    check_loadable(options_.model, config_);  // a tensor that is nobody's: now, not hours later
    bool any_finished = false;
    ModelDirectoryWriter writer(options_.out, ModelDirectoryWriter::Unfinished::resume);
    try {
      return write(writer, any_finished);
    } catch (...) {
      if (!writer.resumed() && !any_finished) writer.discard();  // nothing to resume
      throw;
    }
  }

 private:
  // A kill between the last rename and the removal of the journal.
  ConvertResult clean_up_finished() const {
    ConvertResult result;
    result.finished_before = true;
    if (options_.verify) result.verified_records = verify_records(options_.out, events_.verifying);
    ::unlink((options_.out / kConvertJournal).c_str());
    ::unlink((options_.out / ".sluice-unfinished").c_str());
    return result;
  }

  ConvertResult write(ModelDirectoryWriter& writer, bool& any_finished) {
    const fs::path& directory = writer.directory();
    if (!fs::exists(directory / kConvertJournal)) start_over(directory);
    ConvertJournal journal(directory, identity_);
    std::vector<uint32_t> todo;
    uint64_t todo_bytes = kOverheadBytes + side_file_bytes(options_.model);
    for (uint32_t i = 0; i < plan_.shards.size(); ++i) {
      if (is_finished(directory, plan_.shards[i], journal)) continue;
      todo.push_back(i);
      todo_bytes += plan_.shards[i].bytes + plan_.shards[i].bytes / kOverheadShare;
    }
    any_finished = todo.size() < plan_.shards.size();
    require_free_space(directory, todo_bytes);
    if (events_.planned) events_.planned(plan_, plan_.shards.size() - todo.size());

    PipelineOptions pipeline;
    pipeline.threads = options_.threads == 0 ? available_threads() : options_.threads;
    pipeline.memory_bytes = options_.memory_bytes;
    pipeline.backend = options_.backend;
    pipeline.kernels = options_.kernels != nullptr ? options_.kernels : &kernels::table();
    pipeline.metadata = {{"sluice.made_by", options_.program + ": " + options_.settings.text()}};
    PipelineEvents steps;
    steps.progress = events_.progress;
    steps.should_stop = events_.should_stop;
    steps.shard_finished = [&](uint32_t shard, std::span<const MatrixReport> matrices) {
      const std::string& name = plan_.shards[shard].name;
      journal.add(name, fs::file_size(directory / name), matrices);
      any_finished = true;
    };
    run_conversion(checkpoint_, plan_, todo, directory, pipeline, steps);

    ConvertResult result;
    for (const auto& [name, shard] : journal.finished()) {
      result.matrices.insert(result.matrices.end(), shard.matrices.begin(), shard.matrices.end());
    }
    std::sort(result.matrices.begin(), result.matrices.end(),
              [](const MatrixReport& a, const MatrixReport& b) { return a.path < b.path; });
    finish(writer, result);
    return result;
  }

  void finish(ModelDirectoryWriter& writer, ConvertResult& result) {
    if (options_.verify) {
      result.verified_records = verify_records(writer.directory(), events_.verifying);
    }
    if (conversion_identity(checkpoint_, options_.program, options_.settings.text()) != identity_) {
      throw Error(options_.model.string(), ": its files changed while they were read; remove ",
                  writer.directory().string(), " and convert again");
    }
    const std::string path = (options_.model / "config.json").string();
    const std::string config =
        converted_config(config_text_of(options_.model), path, options_.settings);
    check_loadable(writer.directory(),
                   parse_config(config, (options_.out / "config.json").string()));
    for (const char* name : kSideFiles) {
      std::error_code error;
      if (!fs::exists(options_.model / name, error)) continue;
      copy_file_durably(options_.model / name, writer.directory() / name);
    }
    writer.finish(config);
    ::unlink((options_.out / kConvertJournal).c_str());
  }

  const ConvertOptions& options_;
  const ConvertEvents& events_;
  Checkpoint checkpoint_;
  ModelConfig config_;
  ConvertPlan plan_;
  std::string identity_;
};

}  // namespace

ModelConfig read_source_config(const fs::path& model) {
  const std::string path = (model / "config.json").string();
  return parse_config(json_text(parse_source_config(config_text_of(model), path)), path);
}

// The keys that published TurboQuant checkpoints have; the tensors describe their own bits.
std::string converted_config(const std::string& config_text, const std::string& path,
                             const ConvertSettings& settings) {
  Json config = parse_source_config(config_text, path);
  Json before = Json::object();
  for (const char* key : {"quantization_config", "quantization"}) {
    const auto found = config.find(key);
    if (found != config.end() && found->is_object()) before = *found;
  }
  const auto as_stored = [](uint32_t bits) { return bits == kStoredBits; };
  const uint32_t expert_bits = settings.expert_bits.value_or(settings.bits);
  if (as_stored(settings.bits) && as_stored(settings.attention_bits()) && as_stored(expert_bits)) {
    return json_text(config, 2) + "\n";  // nothing was quantized here
  }
  config.erase("quantization_config");
  Json quantization = {{"mode", "turboquant"},
                       {"bits", settings.bits},
                       {"group_size", settings.group},
                       {"use_qjl", false},
                       // Matrices that were moved keep what the source said of them; a single −1
                       // among the signs says "rotated" of any other.
                       {"rotation", rotation_of(before)},
                       {"fuse_rotations", false},
                       {"attn_bits", settings.attention_bits()},
                       {"mlp_bits", optional_bits(settings.expert_bits)},
                       {"expert_down_bits", optional_bits(settings.expert_down_bits)}};
  if (settings.bits != kStoredBits) {
    quantization["codebook"] = Json::array();
    for (const float centroid : kernels::gaussian_centroids(codebook_length(settings.bits))) {
      quantization["codebook"].push_back(centroid);
    }
  }
  config["quantization"] = std::move(quantization);
  return json_text(config, 2) + "\n";
}

ConvertResult convert_model(const ConvertOptions& options, const ConvertEvents& events) {
  return Conversion(options, events).run();
}

}  // namespace sluice
