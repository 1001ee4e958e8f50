#include "tte/options.h"

#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

#include "bindings.h"
#include "tte/embedder.h"
#include "tte/reasoner.h"
#include "tte/think_then_embed.h"

namespace tte::python {

// NOLINTNEXTLINE(readability-function-size): a list of what there is.
void bind_options(py::module_& module) {
  py::enum_<Side>(module, "Side", "The two sides of a retrieval pair.")
      .value("QUERY", Side::kQuery)
      .value("TARGET", Side::kTarget);

  py::class_<Task>(module, "Task", "A task family of the recipe's presets, and the side of the pair.")
      .def(py::init([](std::string family, Side side) {
             return Task{std::move(family), side};
           }),
           py::arg("family") = "", py::arg_v("side", Side::kQuery, "Side.QUERY"))
      .def_readonly("family", &Task::family)
      .def_readonly("side", &Task::side);

  py::class_<MediaLimits>(module, "MediaLimits", "What the images and videos of one item may cost.")
      .def(py::init<>())
      .def(py::init([](std::int64_t max_pixels, std::int64_t max_file_bytes, std::int64_t max_item_bytes,
                       std::int64_t max_item_pixels) {
             const MediaLimits limits{max_pixels, max_file_bytes, max_item_bytes, max_item_pixels};
             limits.validate();
             return limits;
           }),
           py::arg("max_pixels"), py::arg("max_file_bytes"), py::arg("max_item_bytes"),
           py::arg("max_item_pixels"))
      .def_readonly("max_pixels", &MediaLimits::max_pixels)
      .def_readonly("max_file_bytes", &MediaLimits::max_file_bytes)
      .def_readonly("max_item_bytes", &MediaLimits::max_item_bytes)
      .def_readonly("max_item_pixels", &MediaLimits::max_item_pixels);

  py::enum_<OnError>(module, "OnError", "What a bad item does to the call it is in.")
      .value("THROW", OnError::kThrow, "The call raises the first error.")
      .value("SKIP", OnError::kSkip, "The item gets its error in the result, the others go on.");

  py::class_<ItemError>(module, "ItemError", "An item that could not be used.")
      .def_readonly("index", &ItemError::index, "Position of the item in the call.")
      .def_readonly("message", &ItemError::message)
      .def(py::pickle([](const ItemError& e) { return py::make_tuple(e.index, e.message); },
                      [](const py::tuple& state) {
                        if (state.size() != 2)
                          throw py::value_error("The state of an ItemError is a tuple of two.");
                        return ItemError{state[0].cast<std::size_t>(), state[1].cast<std::string>()};
                      }))
      .def("__repr__",
           [](const ItemError& e) { return py::str("ItemError({}, {!r})").format(e.index, e.message); });

  py::enum_<ThinkMode>(module, "ThinkMode", "Whether an item is reasoned about before it is embedded.")
      .value("ALWAYS", ThinkMode::kAlways)
      .value("NEVER", ThinkMode::kNever)
      .value("QUERIES", ThinkMode::kQueries, "Items whose task is on the query side.")
      .value("RECIPE", ThinkMode::kRecipe, "As the recipe says for the item's task and side.")
      .value("AUTO", ThinkMode::kAuto,
             "Embedded without a trace first; a callback or a margin then decides.");

  py::enum_<OnToken>(module, "OnToken", "What a token callback answers.")
      .value("CONTINUE", OnToken::kContinue)
      .value("STOP", OnToken::kStop);

  py::class_<CancelToken>(module, "CancelToken", "Stops a running call from another thread, within a step.")
      .def(py::init<>())
      .def("cancel", &CancelToken::cancel)
      .def_property_readonly("cancelled", &CancelToken::cancelled)
      .def("__repr__",
           [](const CancelToken& t) { return t.cancelled() ? "CancelToken(cancelled)" : "CancelToken()"; });

  py::class_<GenerateOptions> generate(module, "GenerateOptions", "Decoding settings of one sequence.");
  generate.def(py::init<>())
      .def("validate", &GenerateOptions::validate, "Raise InputError naming the first option out of range.")
      .def_static(
          "numbers",
          [] {
            using Number = std::variant<std::uint64_t, double>;
            std::map<std::string, std::tuple<Number, Number, std::optional<Number>, bool>> table;
            GenerateOptions::numbers([&]<typename T>(const GenerateOptions::Number<T>& number) {
              using Wide = std::conditional_t<std::is_floating_point_v<T>, double, std::uint64_t>;
              std::optional<Number> otherwise;
              if (number.otherwise) otherwise = static_cast<Wide>(*number.otherwise);
              table[number.name] = {static_cast<Wide>(number.least), static_cast<Wide>(number.most),
                                    otherwise, number.sampling};
            });
            return table;
          },
          "Each number by its name: least and most (floats where fractions are taken), what holds where "
          "nobody sets it, whether it does nothing at temperature 0.");
  GenerateOptions::numbers([&](const auto& number) { generate.def_readwrite(number.name, number.member); });
  GenerateOptions::others([&](const char* name, auto member) { generate.def_readwrite(name, member); });
}

}  // namespace tte::python
