#include "tte/input.h"

#include <cstring>

#include "bindings.h"
#include "call.h"
#include "tte/error.h"
#include "tte/thumbnails.h"

namespace tte::python {

namespace {

Image image_from_bytes(const py::bytes& data, Alpha alpha, const Resize& resize) {
  const std::string_view view = data;
  auto bytes = std::make_shared<std::vector<std::uint8_t>>(view.begin(), view.end());
  return Image{EncodedImage{std::move(bytes)}, alpha, resize};
}

// Copies: the caller may change its array while the call runs on other threads.
Image image_from_array(const py::array& array, Alpha alpha, const Resize& resize) {
  const std::string shape = py::str(py::list(array.attr("shape"))).cast<std::string>();
  if (!py::isinstance<py::array_t<std::uint8_t>>(array)) {
    throw InputError("An image array must be uint8, but this one is " +
                     py::str(array.dtype()).cast<std::string>() + " of shape " + shape +
                     ": scale it to 0..255 and convert it with .astype(\"uint8\").");
  }
  const bool grey = array.ndim() == 2;
  const auto channels = grey ? 1 : array.ndim() == 3 ? array.shape(2) : 0;
  if (channels != 1 && channels != 3 && channels != 4) {
    throw InputError(
        "An image array must be [height, width], or [height, width, channels] with 1, 3 or 4 channels, but "
        "its shape is " +
        shape + ".");
  }
  if (array.shape(0) < 1 || array.shape(1) < 1 || array.shape(0) > kMaxImagePixels / array.shape(1)) {
    throw InputError("An image array of shape " + shape + " is empty or over the limit of " +
                     std::to_string(kMaxImagePixels) + " pixels.");
  }
  const auto dense = py::array_t<std::uint8_t, py::array::c_style | py::array::forcecast>(array);
  const auto size = static_cast<std::size_t>(dense.size());
  std::shared_ptr<std::uint8_t[]> data(new std::uint8_t[size]);
  std::memcpy(data.get(), dense.data(), size);
  return Image{Pixels{std::shared_ptr<const std::uint8_t>(data, data.get()), static_cast<int>(array.shape(0)),
                      static_cast<int>(array.shape(1)), static_cast<int>(channels)},
               alpha, resize};
}

}  // namespace

std::string to_text(const py::object& value, const std::string& name) {
  if (!py::isinstance<py::str>(value)) {
    throw InputError(name + " must be a str, not a " +
                     py::type::of(value).attr("__name__").cast<std::string>() + ".");
  }
  py::ssize_t size = 0;
  const char* data = PyUnicode_AsUTF8AndSize(value.ptr(), &size);
  if (data == nullptr) {
    PyErr_Clear();
    throw InputError(name +
                     " has letters that UTF-8 cannot write (lone surrogates): remove them, for example with "
                     ".encode(errors=\"replace\").decode().");
  }
  return {data, static_cast<std::size_t>(size)};
}

// NOLINTNEXTLINE(readability-function-size): a list of what there is.
void bind_inputs(py::module_& module) {
  py::enum_<Alpha>(module, "Alpha", "What to do with transparency.")
      .value("DROP", Alpha::kDrop, "Forget it, as transformers does with files.")
      .value("OVER_WHITE", Alpha::kOverWhite, "Composite over white, as transformers does with PIL images.")
      .value("OVER_BLACK", Alpha::kOverBlack, "Composite over black.");

  module.attr("MAX_IMAGE_PIXELS") = kMaxImagePixels;
  module.def(
      "image_suffixes", [] { return std::vector<std::string>(kImageSuffixes.begin(), kImageSuffixes.end()); },
      "What names of image files end with, in lower case.");
  py::class_<Resize>(module, "Resize", "What an image, or the frames of a video, are resized to.")
      .def(py::init([](std::optional<std::int64_t> min_pixels, std::optional<std::int64_t> max_pixels,
                       std::optional<std::int64_t> height, std::optional<std::int64_t> width) {
             return Resize{min_pixels, max_pixels, height, width};
           }),
           py::arg("min_pixels") = py::none(), py::arg("max_pixels") = py::none(),
           py::arg("height") = py::none(), py::arg("width") = py::none());

  py::class_<Image>(module, "Image", "One image: a file, an encoded file in memory, or decoded pixels.")
      .def_static(
          "from_path",
          [](const std::filesystem::path& path, Alpha alpha, const Resize& resize) {
            return Image{path, alpha, resize};
          },
          py::arg("path"), py::arg_v("alpha", Alpha::kDrop, "Alpha.DROP"),
          py::arg_v("resize", Resize{}, "Resize()"))
      .def_static("from_bytes", &image_from_bytes, py::arg("data"),
                  py::arg_v("alpha", Alpha::kDrop, "Alpha.DROP"), py::arg_v("resize", Resize{}, "Resize()"))
      .def_static("from_array", &image_from_array, py::arg("array"),
                  py::arg_v("alpha", Alpha::kDrop, "Alpha.DROP"), py::arg_v("resize", Resize{}, "Resize()"));

  py::class_<Video>(module, "Video", "One video: a file, a folder of frames, or a list of frames.")
      .def(py::init([](std::variant<std::filesystem::path, std::vector<Image>> source,
                       std::optional<double> fps, std::optional<int> num_frames,
                       std::optional<double> source_fps, const Resize& resize) {
             return Video{std::move(source), fps, num_frames, source_fps, resize};
           }),
           py::arg("source"), py::arg("fps") = py::none(), py::arg("num_frames") = py::none(),
           py::arg("source_fps") = py::none(), py::arg_v("resize", Resize{}, "Resize()"));

  module.def(
      "thumbnails",
      [](const Part& part, int side, int frames) {
        std::vector<Pixels> small;
        {
          const RunningCall running;
          small = thumbnails(part, side, frames);
        }
        std::vector<py::array_t<std::uint8_t>> arrays;
        arrays.reserve(small.size());
        for (const Pixels& pixels : small) {
          arrays.emplace_back(std::vector<py::ssize_t>{pixels.height, pixels.width, pixels.channels},
                              pixels.data.get());
        }
        return arrays;
      },
      py::arg("part"), py::arg("side"), py::arg("frames") = 4,
      "uint8 [height, width, 3] of an image, or of some frames of a video, each side at most `side`.");
  module.def(
      "check_text",
      [](const py::object& value, const std::string& name) {
        to_text(value, name);
        return py::reinterpret_borrow<py::str>(value);
      },
      py::arg("value"), py::arg("name"), "The value, if it is a str that UTF-8 can write.");

  py::class_<Message>(module, "Message", "One chat turn.")
      .def(py::init([](std::string role, std::vector<Part> parts, bool plain) {
             return Message{std::move(role), std::move(parts), plain};
           }),
           py::arg("role"), py::arg("parts"), py::arg("plain") = false)
      .def_readonly("role", &Message::role);

  py::class_<Input>(module, "Input", "One item: ordered parts with an instruction, or whole chat messages.")
      .def(py::init([](std::vector<Part> parts, std::optional<std::string> instruction,
                       std::vector<Message> messages, std::string name, std::string error) {
             Input input;
             input.parts = std::move(parts);
             input.instruction = std::move(instruction);
             input.messages = std::move(messages);
             input.name = std::move(name);
             input.error = std::move(error);
             return input;
           }),
           py::arg("parts") = std::vector<Part>{}, py::arg("instruction") = py::none(),
           py::arg("messages") = std::vector<Message>{}, py::arg("name") = "", py::arg("error") = "");
}

}  // namespace tte::python
