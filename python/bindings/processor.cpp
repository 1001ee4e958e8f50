#include "tte/processor.h"

#include "bindings.h"
#include "call.h"

namespace tte::python {

namespace {

py::array_t<std::int64_t> grid(const std::vector<std::array<std::int64_t, 3>>& rows) {
  std::vector<std::int64_t> flat;
  for (const auto& row : rows) flat.insert(flat.end(), row.begin(), row.end());
  return to_array(std::move(flat), {static_cast<py::ssize_t>(rows.size()), 3});
}

// Names and shapes of transformers' processors, with a batch of one.
py::dict to_dict(ProcessedInput processed) {
  const auto length = static_cast<py::ssize_t>(processed.input_ids.size());
  const auto patch = static_cast<py::ssize_t>(processed.patch_dim);
  py::dict out;
  out["input_ids"] = to_array(std::move(processed.input_ids), {1, length});
  out["mm_token_type_ids"] = to_array(std::move(processed.mm_token_type_ids), {1, length});
  out["position_ids"] = to_array(std::move(processed.position_ids), {3, 1, length});
  if (!processed.image_grid_thw.empty()) {
    const auto rows = static_cast<py::ssize_t>(processed.pixel_values.size()) / patch;
    out["pixel_values"] = to_array(std::move(processed.pixel_values), {rows, patch});
    out["image_grid_thw"] = grid(processed.image_grid_thw);
  }
  if (!processed.video_grid_thw.empty()) {
    const auto rows = static_cast<py::ssize_t>(processed.pixel_values_videos.size()) / patch;
    out["pixel_values_videos"] = to_array(std::move(processed.pixel_values_videos), {rows, patch});
    out["video_grid_thw"] = grid(processed.video_grid_thw);
  }
  out["next_position"] = processed.next_position;
  out["pooled_row"] = processed.pooled_row;
  const auto [first, end] = processed.latent_rows;
  if (end > first) out["latent_rows"] = py::make_tuple(first, end);
  return out;
}

}  // namespace

void bind_processor(py::module_& module) {
  py::enum_<Stage>(module, "Stage", "Whose prompt is wanted.")
      .value("REASON", Stage::kReason)
      .value("EMBED", Stage::kEmbed);

  py::class_<Processor>(module, "Processor", "What the model sees of an input; no weights are read.")
      .def_static(
          "load",
          [](const std::filesystem::path& checkpoint, const std::string& recipe, bool parse_control_tokens,
             const std::optional<MediaLimits>& media_limits, std::optional<std::filesystem::path> adapter,
             TemplateOptions template_options) {
            LoadOptions options;
            options.template_options = std::move(template_options);
            if (adapter) options.adapter = std::move(*adapter);
            options.recipe = recipe;
            options.parse_control_tokens = parse_control_tokens;
            if (media_limits) options.media_limits = *media_limits;
            return Processor::load(checkpoint, options);
          },
          py::arg("checkpoint"), py::arg("recipe") = "", py::arg("parse_control_tokens") = false,
          py::arg("media_limits") = py::none(), py::arg("adapter") = py::none(),
          py::arg_v("template_options", TemplateOptions(), "{}"), py::call_guard<RunningCall>())
      .def(
          "process",
          [](const Processor& self, const Input& input, Stage stage, std::optional<std::string> instruction,
             std::optional<Task> task, std::optional<Trace> trace) {
            ProcessedInput out;
            {
              const RunningCall running;
              out = self.process(
                  input, {stage, std::move(instruction), task ? std::move(*task) : Task{}, std::move(trace)});
            }
            return to_dict(std::move(out));
          },
          py::arg("input"), py::arg_v("stage", Stage::kReason, "Stage.REASON"),
          py::arg("instruction") = py::none(), py::arg("task") = py::none(), py::arg("trace") = py::none())
      .def_property_readonly("recipe", &Processor::recipe)
      .def_property_readonly("recipe_reason", &Processor::recipe_reason)
      .def_property_readonly("tokenizer", &Processor::tokenizer);
}

}  // namespace tte::python
