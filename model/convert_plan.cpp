#include "model/convert_plan.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>

#include "io/error.h"
#include "model/model_directory_writer.h"
#include "model/network.h"
#include "stream/plain_stack.h"

namespace sluice {

namespace {

constexpr std::string_view kWeight = ".weight";
constexpr std::string_view kBlocks = "_blocks";  // of MXFP4
constexpr std::string_view kScales = "_scales";
// What one matrix may consist of.
constexpr const char* kSuffixes[] = {".weight", ".scales", ".codebook", ".signs",
                                     ".weight_scale_inv"};

// FNV-1a of a path: the signs of a matrix follow from its name alone, whatever else there is.
uint64_t seed_of(std::string_view path) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : path) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

std::string_view last_part(std::string_view path) { return path.substr(path.rfind('.') + 1); }

// The path that matrices on one input have in common; of any other matrix its own.
std::string input_path(std::string_view path) {
  const std::string_view last = last_part(path);
  const std::string parent(path.substr(0, path.size() - last.size()));
  if (last.starts_with("in_proj_")) return parent + "in_proj";
  if (last == "q_proj" || last == "k_proj" || last == "v_proj") return parent + "qkv";
  if (last == "gate_proj" || last == "up_proj" || last == "w1" || last == "w3") {
    return parent + "gate_up";
  }
  return std::string(path);
}

bool has_part(std::string_view path, std::string_view part) {
  return ("." + std::string(path) + ".").find("." + std::string(part) + ".") != std::string::npos;
}

std::optional<uint32_t> layer_of(std::string_view path) {
  constexpr std::string_view kLayers = "layers.";
  const size_t at = path.find(kLayers);
  if (at == path.npos) return std::nullopt;
  uint32_t layer = 0;
  const std::string_view number = path.substr(at + kLayers.size());
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), layer);
  return error == std::errc() ? std::optional(layer) : std::nullopt;
}

// Where a matrix lies in the source: the order of one pass over it.
std::pair<uint32_t, uint64_t> place_of(const SourceMatrix& matrix) {
  const FileSlice slice = matrix.slices(0, 1).places[0];
  return {slice.file, slice.offset};
}

// How a layer's experts lie in the source (stream/expert_layout.h).
enum class ExpertsForm : uint8_t { single, stack, plain_stack, mxfp4_stack };

class Planner {
 public:
  Planner(const Checkpoint& checkpoint, const ModelConfig& config, const ConvertSettings& settings)
      : checkpoint_(checkpoint), config_(config), settings_(settings), names_(checkpoint) {}

  ConvertPlan plan() {
    check_settings();
    for (const ExpertNames& names : expert_names(config_, checkpoint_)) plan_experts(names);
    for (const TensorInfo& tensor : checkpoint_.tensors()) plan_trunk_tensor(tensor);
    make_shards();
    return std::move(plan_);
  }

 private:
  // An item that waits for its shard, with its place in the source.
  struct Pending {
    std::pair<uint32_t, uint64_t> place;
    PlannedItem item;
    std::vector<TensorInfo> tensors;
  };

  uint32_t expert_bits() const { return settings_.expert_bits.value_or(settings_.bits); }
  uint32_t down_bits() const { return settings_.expert_down_bits.value_or(expert_bits()); }

  void check_settings() const {
    for (const uint32_t bits :
         {settings_.bits, settings_.attention_bits(), expert_bits(), down_bits()}) {
      if (bits != 2 && bits != 3 && bits != 4 && bits != 8 && bits != kStoredBits) {
        throw Error(bits, " bits: expected 2, 3, 4, 8, or 16 for as they are");
      }
    }
    if ((expert_bits() == kStoredBits) != (down_bits() == kStoredBits)) {
      throw Error("experts of ", expert_bits(), " bits with down projections of ", down_bits(),
                  ": all projections of an expert are quantized, or none");
    }
    if (settings_.group != 32 && settings_.group != 64 && settings_.group != 128) {
      throw Error("groups of ", settings_.group, ": expected 32, 64 or 128");
    }
  }

  // ---- experts

  void plan_experts(const ExpertNames& names) {
    const std::string prefix = find_prefix(names);
    expert_prefixes_.push_back(names.per_expert_prefix);
    for (const std::string& other : names.stacked_prefixes) expert_prefixes_.push_back(other);
    const ExpertsForm form = find_form(names, prefix);
    std::vector<PlannedMatrix> projections;
    for (const ExpertNames::Projection& projection : names.projections) {
      projections.push_back(plan_projection(names, projection, prefix, form));
    }
    if (settings_.layout == ConvertLayout::records) {
      for (const PlannedMatrix& projection : projections) check_fits_records(projection);
      return add_records(names, std::move(projections));
    }
    for (PlannedMatrix& projection : projections) {
      if (projection.quantized) {
        add_matrix(std::move(projection));
        continue;
      }
      for (const SourceMatrix& source : projection.sources) move(source.name(), form);
    }
  }

  // A matrix of experts stays as it is, with all that belongs to the tensor of its weights.
  void move(const std::string& tensor, ExpertsForm form) {
    moved_.insert(tensor);
    if (form == ExpertsForm::plain_stack) return;
    if (form == ExpertsForm::mxfp4_stack) {
      moved_.insert(tensor.substr(0, tensor.size() - kBlocks.size()) + std::string(kScales));
      return;
    }
    const std::string path = tensor.substr(0, tensor.size() - kWeight.size());
    for (const char* suffix : kSuffixes) moved_.insert(path + suffix);
  }

  static void check_fits_records(const PlannedMatrix& projection) {
    const SourceMatrix& source = projection.sources[0];
    if (projection.quantized || projection.codebook_length != 0 ||
        source.kind() == SourceMatrix::Kind::plain) {
      return;
    }
    throw Error(
        "tensor ", source.name(), " is ", dtype_name(source.dtype()),
        ", which stream-convert cannot put into records as it is; choose fewer than 16 bits "
        "for the experts, or stream-repack, which keeps the format");
  }

  // The prefix that has tensors. Throws Error: none has.
  std::string find_prefix(const ExpertNames& names) const {
    if (checkpoint_.find(record_tensor_name(names.per_expert_prefix)) != nullptr) {
      throw Error(checkpoint_.directory().string(), ": layer ", names.layer,
                  " is in records already; convert the checkpoint that they were made from");
    }
    std::string looked_for;
    std::vector<std::string> prefixes = names.stacked_prefixes;
    prefixes.push_back(names.per_expert_prefix);
    for (const std::string& prefix : prefixes) {
      if (!names_.under(prefix + ".").empty()) return prefix;
      looked_for += (looked_for.empty() ? "" : ", ") + prefix + ".*";
    }
    throw Error(checkpoint_.directory().string(), ": config.json promises ", names.experts,
                " experts in layer ", names.layer, ", and no tensor is named like one; looked for ",
                looked_for);
  }

  // How the experts' tensors lie under their prefix, or the biases beside them, which stay.
  ExpertsForm find_form(const ExpertNames& names, const std::string& prefix) {
    ExpertsForm form = ExpertsForm::single;
    for (const std::string& any : expert_prefixes_) {
      for (const std::string_view name : names_.under(any + ".")) {
        if (is_expert_bias(names, any, name)) moved_.insert(std::string(name));
      }
    }
    for (const std::string_view name : names_.under(prefix + ".")) {
      if (is_plain_stack(names, prefix, name)) form = ExpertsForm::plain_stack;
    }
    const std::string first = prefix + "." + names.projections[0].name;
    if (checkpoint_.find(first + ".weight") != nullptr) form = ExpertsForm::stack;
    if (checkpoint_.find(first + std::string(kBlocks)) != nullptr) form = ExpertsForm::mxfp4_stack;
    return form;
  }

  PlannedMatrix plan_projection(const ExpertNames& names, const ExpertNames::Projection& projection,
                                const std::string& prefix, ExpertsForm form) {
    PlannedMatrix matrix;
    matrix.layer = names.layer;
    matrix.stacked = true;
    matrix.rows = projection.rows;
    matrix.cols = projection.cols;
    for (uint32_t expert = 0; expert < names.experts; ++expert) {
      if (form == ExpertsForm::single || expert == 0) {
        matrix.sources.push_back(open_source(names, projection, prefix, form, expert));
      } else {
        matrix.sources.push_back(matrix.sources[0].slab(expert));
      }
      const SourceMatrix& source = matrix.sources.back();
      const SourceMatrix& first = matrix.sources.front();
      if (source.rows() != projection.rows || source.cols() != projection.cols) {
        throw Error("tensor ", source.name(), " is a matrix of [", source.rows(), ", ",
                    source.cols(), "]; config.json asks for [", projection.rows, ", ",
                    projection.cols, "]");
      }
      if (source.kind() != first.kind() || source.dtype() != first.dtype()) {
        throw Error("tensor ", source.name(), " is ", dtype_name(source.dtype()), " where ",
                    first.name(), " is ", dtype_name(first.dtype()));
      }
    }
    const std::string seed_path = names.per_expert_prefix + "." + projection.name;
    matrix.path =
        (form == ExpertsForm::stack ? prefix : names.stacked_prefixes[0]) + "." + projection.name;
    decide(matrix, projection.name == names.projections.back().name ? down_bits() : expert_bits(),
           seed_path);
    return matrix;
  }

  // One expert's, or of a stack the first's.
  SourceMatrix open_source(const ExpertNames& names, const ExpertNames::Projection& projection,
                           const std::string& prefix, ExpertsForm form, uint32_t expert) {
    if (form == ExpertsForm::plain_stack) {
      SourceMatrix source = SourceMatrix::open_plain_stack(checkpoint_, names, prefix, projection);
      consumed_.insert(source.name());
      return source;
    }
    if (form == ExpertsForm::mxfp4_stack) {
      const std::string path = prefix + "." + projection.name;
      SourceMatrix source = SourceMatrix::open_mxfp4(checkpoint_, path, 0);
      for (const std::string_view part : {kBlocks, kScales}) {
        consumed_.insert(path + std::string(part));
      }
      if (checkpoint_.at(source.name()).shape[0] == names.experts) return source;
      throw Error("tensor ", source.name(), " is ", shape_text(checkpoint_.at(source.name()).shape),
                  "; config.json promises ", names.experts, " experts");
    }
    const bool stacked = form == ExpertsForm::stack;
    const std::string path =
        stacked ? prefix + "." + projection.name
                : prefix + "." + std::to_string(expert) + "." + projection.per_expert_name;
    if (checkpoint_.find(path + ".weight") == nullptr) {
      throw Error(checkpoint_.directory().string(), ": experts of layer ", names.layer, ": tensor ",
                  path, ".weight is missing (experts can be read as one tensor ",
                  "each, as stacks of plain numbers, or as stacked TurboQuant)");
    }
    SourceMatrix source = SourceMatrix::open(checkpoint_, path, 0, config_.turboquant.rotated);
    consume(path);
    check_stack(path, names.experts, stacked);
    return source;
  }

  // What lies at path.* was understood.
  void consume(const std::string& path) {
    for (const char* suffix : kSuffixes) {
      if (checkpoint_.find(path + suffix) != nullptr) consumed_.insert(path + suffix);
    }
  }

  void check_stack(const std::string& path, uint32_t experts, bool stacked) const {
    const TensorInfo& weight = checkpoint_.at(path + ".weight");
    const bool turboquant = checkpoint_.find(path + ".codebook") != nullptr;
    if (stacked ? turboquant && weight.shape.size() == 3 && weight.shape[0] == experts
                : !turboquant && weight.shape.size() == 2) {
      return;
    }
    throw Error("tensor ", weight.name, " is ", dtype_name(weight.dtype), " ",
                shape_text(weight.shape), "; expected ",
                stacked ? "TurboQuant indices of " : "the matrix of one of ", experts, " experts");
  }

  // ---- what becomes of one matrix

  void decide(PlannedMatrix& matrix, uint32_t bits, const std::string& seed_path) const {
    const SourceMatrix& source = matrix.sources.front();
    const bool turboquant = source.kind() == SourceMatrix::Kind::turboquant;
    const bool as_wanted = turboquant && bits != kStoredBits && source.group() == settings_.group &&
                           source.codebook_length() == codebook_length(bits);
    matrix.quantized = bits != kStoredBits && !as_wanted;
    if (!matrix.quantized) {
      matrix.group = source.group();
      matrix.codebook_length = source.codebook_length();
      return;
    }
    matrix.group = settings_.group;
    matrix.codebook_length = codebook_length(bits);
    matrix.sign_seed = seed_of(input_path(seed_path));
    if (matrix.cols % matrix.group != 0) {
      throw Error("tensor ", source.name(), " has ", matrix.cols, " inputs, which groups of ",
                  matrix.group, " do not divide",
                  matrix.cols % 32 == 0 ? "; try --group-size 32" : "; it cannot be quantized");
    }
  }

  uint32_t trunk_bits(std::string_view path, const SourceMatrix& source) const {
    if (path == "lm_head" && settings_.keep_head) return kStoredBits;
    for (const char* part : {"self_attn", "attention", "linear_attn"}) {
      if (!has_part(path, part)) continue;
      const bool encoded = source.kind() == SourceMatrix::Kind::turboquant;
      return encoded ? settings_.attn_bits.value_or(settings_.bits) : settings_.attention_bits();
    }
    return settings_.bits;
  }

  // Projections of linear layers are; routers, gates, norms, embeddings and the rest are not.
  bool is_quantizable(std::string_view path, const TensorInfo& tensor) const {
    if (tensor.shape.size() != 2 || tensor.size_bytes == 0) return false;
    if (path == "lm_head") return !config_.tied_embeddings;
    if (has_part(path, "indexer")) return false;  // small, and a choice hangs on it
    const std::string_view last = last_part(path);
    return last.ends_with("_proj") || last == "in_proj_qkv" || last == "in_proj_z" ||
           last == "in_proj_qkvz";
  }

  void plan_trunk_tensor(const TensorInfo& tensor) {
    if (moved_.count(tensor.name) != 0) return add_copy(tensor);
    if (consumed_.count(tensor.name) != 0) return;
    for (const std::string& prefix : expert_prefixes_) {
      if (!tensor.name.starts_with(prefix + ".")) continue;
      throw Error("tensor ", tensor.name,
                  " lies among the experts and is not understood; converting without it would "
                  "give wrong results");
    }
    const size_t dot = tensor.name.rfind('.');
    const std::string_view path = std::string_view(tensor.name).substr(0, dot);
    const std::string_view suffix = std::string_view(tensor.name).substr(path.size());
    if (suffix != kWeight) {
      // Scales and the like come with their matrix.
      const TensorInfo* weight = checkpoint_.find(std::string(path) + ".weight");
      const bool part =
          std::find(std::begin(kSuffixes), std::end(kSuffixes), suffix) != std::end(kSuffixes);
      if (part && weight != nullptr && is_quantizable(path, *weight)) return;
      return add_copy(tensor);
    }
    if (!is_quantizable(path, tensor)) return add_copy(tensor);
    const std::string prefix(path);
    PlannedMatrix matrix;
    matrix.path = prefix;
    matrix.layer = layer_of(path);
    matrix.sources.push_back(
        SourceMatrix::open(checkpoint_, prefix, 0, config_.turboquant.rotated));
    matrix.rows = matrix.sources[0].rows();
    matrix.cols = matrix.sources[0].cols();
    decide(matrix, trunk_bits(path, matrix.sources[0]), prefix);
    if (matrix.quantized) return add_matrix(std::move(matrix));
    for (const char* ending : kSuffixes) {
      const TensorInfo* part = checkpoint_.find(prefix + ending);
      if (part != nullptr) add_copy(*part);
    }
  }

  // ---- items and shards

  void add_copy(const TensorInfo& tensor) {
    if (tensor.dtype == DType::f8_e4m3 || tensor.dtype == DType::f8_e5m2) {
      throw Error("tensor ", tensor.name, " would stay ", dtype_name(tensor.dtype),
                  ", which no program of Sluice runs; choose fewer than 16 bits for it");
    }
    Pending pending;
    pending.place = {tensor.file, tensor.offset};
    pending.item = {PlannedItem::Kind::copy, static_cast<uint32_t>(plan_.copies.size())};
    pending.tensors = {tensor};
    plan_.copies.push_back(&tensor);
    pending_.push_back(std::move(pending));
  }

  static TensorInfo new_tensor(std::string name, DType dtype, std::vector<uint64_t> shape) {
    TensorInfo tensor;
    tensor.name = std::move(name);
    tensor.dtype = dtype;
    tensor.shape = std::move(shape);
    tensor.size_bytes = dtype_bytes(dtype);
    for (const uint64_t size : tensor.shape) tensor.size_bytes *= size;
    return tensor;
  }

  static std::vector<TensorInfo> table_tensors(const PlannedMatrix& matrix) {
    return {new_tensor(matrix.path + ".codebook", DType::f16, {matrix.codebook_length}),
            new_tensor(matrix.path + ".signs", DType::f16, {matrix.cols})};
  }

  void add_matrix(PlannedMatrix matrix) {
    Pending pending;
    pending.place = place_of(matrix.sources[0]);
    pending.item = {PlannedItem::Kind::matrix, static_cast<uint32_t>(plan_.matrices.size())};
    std::vector<uint64_t> shape = {matrix.rows, words_per_row(matrix.cols, matrix.codebook_length)};
    if (matrix.stacked) shape.insert(shape.begin(), matrix.sources.size());
    pending.tensors.push_back(new_tensor(matrix.path + ".weight", DType::u32, shape));
    shape.back() = matrix.cols / matrix.group;
    pending.tensors.push_back(new_tensor(matrix.path + ".scales", DType::f16, shape));
    for (TensorInfo& tensor : table_tensors(matrix)) pending.tensors.push_back(std::move(tensor));
    plan_.matrices.push_back(std::move(matrix));
    pending_.push_back(std::move(pending));
  }

  void add_records(const ExpertNames& names, std::vector<PlannedMatrix> projections) {
    const auto index = static_cast<uint32_t>(plan_.records.size());
    PlannedRecords records;
    records.layer = names.layer;
    records.experts = names.experts;
    std::vector<RecordProjection> forms;
    for (uint32_t i = 0; i < projections.size(); ++i) {
      const PlannedMatrix& projection = projections[i];
      RecordProjection form;
      form.name = names.projections[i].name;
      form.rows = projection.rows;
      form.cols = projection.cols;
      form.dtype = projection.sources[0].dtype();
      if (projection.codebook_length != 0) {
        form.format = WeightFormat::turboquant;
        form.dtype = DType::u32;
        form.layout = projection.codebook_length == 3 ? MatrixLayout::rows : MatrixLayout::tiles;
        form.group = projection.group;
        form.codebook_length = projection.codebook_length;
        Pending tables;
        tables.place = place_of(projection.sources[0]);
        tables.item = {PlannedItem::Kind::tables, index, i};
        tables.tensors = table_tensors(projection);
        pending_.push_back(std::move(tables));
      }
      forms.push_back(std::move(form));
    }
    records.table = lay_out_record(std::move(forms));
    Pending pending;
    pending.place = place_of(projections[0].sources[0]);
    pending.item = {PlannedItem::Kind::records, index};
    pending.tensors.push_back(new_tensor(record_tensor_name(names.per_expert_prefix), DType::u8,
                                         {names.experts, records.table.record_bytes}));
    records.projections = std::move(projections);
    plan_.records.push_back(std::move(records));
    pending_records_.push_back(std::move(pending));
  }

  std::vector<PlannedShard> cut(std::vector<Pending> pending, const char* kind,
                                bool records) const {
    std::stable_sort(pending.begin(), pending.end(), [](const Pending& a, const Pending& b) {
      return std::tie(a.place, a.tensors[0].name) < std::tie(b.place, b.tensors[0].name);
    });
    std::vector<PlannedShard> shards;
    for (Pending& next : pending) {
      uint64_t bytes = 0;
      for (const TensorInfo& tensor : next.tensors) bytes += tensor.size_bytes;
      if (shards.empty() || shards.back().bytes + bytes > settings_.shard_bytes) {
        shards.emplace_back().records = records;
      }
      PlannedShard& shard = shards.back();
      next.item.first_tensor = static_cast<uint32_t>(shard.tensors.size());
      shard.items.push_back(next.item);
      shard.bytes += bytes;
      for (TensorInfo& tensor : next.tensors) shard.tensors.push_back(std::move(tensor));
    }
    for (size_t i = 0; i < shards.size(); ++i) shards[i].name = shard_name(kind, i, shards.size());
    return shards;
  }

  void make_shards() {
    plan_.shards = cut(std::move(pending_), "model", false);
    for (PlannedShard& shard : cut(std::move(pending_records_), "experts", true)) {
      plan_.shards.push_back(std::move(shard));
    }
    std::set<std::string_view> names;
    for (const PlannedShard& shard : plan_.shards) {
      plan_.output_bytes += shard.bytes;
      for (const TensorInfo& tensor : shard.tensors) {
        if (!names.insert(tensor.name).second) {
          throw Error("tensor ", tensor.name, " would be written twice; does ",
                      checkpoint_.directory().string(), " hold two models?");
        }
      }
    }
  }

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  const ConvertSettings& settings_;
  TensorNames names_;
  std::set<std::string> consumed_;  // by experts
  std::set<std::string> moved_;     // experts' tensors that stay as they are
  std::vector<std::string> expert_prefixes_;
  ConvertPlan plan_;
  std::vector<Pending> pending_;
  std::vector<Pending> pending_records_;
};

}  // namespace

ConvertPlan plan_conversion(const Checkpoint& checkpoint, const ModelConfig& config,
                            const ConvertSettings& settings) {
  return Planner(checkpoint, config, settings).plan();
}

}  // namespace sluice
