#include "stream/record_layout.h"

#include "io/error.h"
#include "stream/record_format.h"

namespace sluice {
namespace {

class RecordLayoutReader {
 public:
  RecordLayoutReader(const Checkpoint& checkpoint, const ExpertNames& names)
      : checkpoint_(checkpoint),
        names_(names),
        tensor_(checkpoint.at(record_tensor_name(names.per_expert_prefix))) {}

  ExpertLayout read() const {
    const RecordTable table = read_table();
    if (table.projections.size() != names_.projections.size()) {
      fail("has records of ", table.projections.size(), " projections, expected ",
           names_.projections.size());
    }
    ExpertLayout layout;
    layout.model_layer = names_.layer;
    layout.experts = names_.experts;
    for (size_t p = 0; p < table.projections.size(); ++p) {
      layout.formats.push_back(format(table.projections[p], names_.projections[p]));
      layout.projections.push_back({.data = slices(table.projections[p].data, table),
                                    .scales = slices(table.projections[p].scales, table),
                                    .biases = slices(table.projections[p].biases, table)});
    }
    return layout;
  }

 private:
  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    throw Error(checkpoint_.directory().string(), ": experts of layer ", names_.layer, ": tensor ",
                tensor_.name, " ", parts...);
  }

  RecordTable read_table() const {
    if (tensor_.dtype != DType::u8) fail("is ", dtype_name(tensor_.dtype), ", expected U8");
    if (tensor_.shape.size() != 2 || tensor_.shape[0] != names_.experts) {
      fail("has shape ", shape_text(tensor_.shape), ", expected [", names_.experts,
           ", bytes of a record]");
    }
    const auto& metadata = checkpoint_.metadata(tensor_.file);
    const auto text = metadata.find(record_table_key(tensor_.name));
    if (text == metadata.end()) {
      fail("has no table of its records in the metadata of ", checkpoint_.files()[tensor_.file],
           "; the file was written anew by another program, or is damaged");
    }
    if (tensor_.offset % kRecordAlignment != 0) {
      fail("starts at byte ", tensor_.offset, " of ", checkpoint_.files()[tensor_.file],
           ", expected a multiple of ", kRecordAlignment,
           "; the file was written anew by another program: repack the model");
    }
    return parse_record_table(text->second, tensor_.shape[1],
                              checkpoint_.files()[tensor_.file] + ": experts of layer " +
                                  std::to_string(names_.layer) + ": tensor " + tensor_.name);
  }

  ProjectionFormat format(const RecordProjection& stored,
                          const ExpertNames::Projection& promised) const {
    if (stored.name != promised.name) {
      fail("has records of \"", excerpt(stored.name), "\", expected ", promised.name);
    }
    if (stored.rows != promised.rows || stored.cols != promised.cols) {
      fail("has records of ", stored.name, " of shape [", stored.rows, ", ", stored.cols,
           "], expected [", promised.rows, ", ", promised.cols, "]");
    }
    if (stored.bias.size_bytes > 0) fail("has biases, which are not supported yet");
    ProjectionFormat format;
    format.format = stored.format;
    format.dtype = stored.dtype;
    format.rows = stored.rows;
    format.cols = stored.cols;
    format.layout = stored.layout;
    format.scaled = stored.scaled;
    if (stored.format != WeightFormat::turboquant) return format;
    format.codebook_length = stored.codebook_length;
    format.group = stored.group;
    format.row_words = static_cast<uint32_t>(words_per_row(stored.cols, stored.codebook_length));
    format.prefix = trunk_prefix(stored.name);
    expect_vector(format.prefix + ".codebook", stored.codebook_length);
    expect_vector(format.prefix + ".signs", stored.cols);
    return format;
  }

  // Where a TurboQuant projection's codebook and signs are, among the names it may have.
  std::string trunk_prefix(const std::string& projection) const {
    std::string found;
    for (const std::string& stacked : names_.stacked_prefixes) {
      const std::string prefix = stacked + "." + projection;
      if (checkpoint_.find(prefix + ".codebook") == nullptr) continue;
      if (!found.empty()) fail("goes with two codebooks: ", found, " and ", prefix);
      found = prefix;
    }
    if (found.empty()) {
      fail("has TurboQuant records, but ", projection, " has no codebook: tensor ",
           names_.stacked_prefixes.empty() ? "" : names_.stacked_prefixes[0] + ".", projection,
           ".codebook is missing");
    }
    return found;
  }

  void expect_vector(const std::string& name, uint64_t length) const {
    const TensorInfo* info = checkpoint_.find(name);
    if (info == nullptr) fail("has TurboQuant records, and tensor ", name, " is missing");
    if (info->dtype == DType::f16 && info->shape == std::vector<uint64_t>{length}) return;
    fail("needs tensor ", name, " as F16 [", length, "], but it is ", dtype_name(info->dtype), " ",
         shape_text(info->shape));
  }

  ExpertLayout::Slices slices(const RecordPart& part, const RecordTable& table) const {
    if (part.size_bytes == 0) return {};
    return {.size_bytes = part.size_bytes,
            .stride_bytes = table.record_bytes,
            .places = {{tensor_.file, tensor_.offset + part.offset, part.size_bytes}}};
  }

  const Checkpoint& checkpoint_;
  const ExpertNames& names_;
  const TensorInfo& tensor_;
};

}  // namespace

ExpertLayout read_record_layout(const Checkpoint& checkpoint, const ExpertNames& names) {
  return RecordLayoutReader(checkpoint, names).read();
}

}  // namespace sluice
