// Thinks about images, embeds them with their traces, and compares them.
//
//     cmake -S . -B build -DCMAKE_PREFIX_PATH=<where tte is installed> && cmake --build build
//     build/think_then_embed <reasoner folder> <embedder folder> image1.png image2.png ...

#include <tte/tte.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

int main(int argc, char** argv) {
  if (argc < 5) {
    std::fprintf(stderr, "usage: %s <reasoner folder> <embedder folder> <image> <image> ...\n", argv[0]);
    return 2;
  }
  try {
    const tte::Backend backend = tte::Backend::make();
    const tte::Reasoner reasoner = tte::Reasoner::load(argv[1], {}, backend);
    const tte::Embedder embedder = tte::Embedder::load(argv[2], {}, backend);
    const tte::ThinkThenEmbed pair(reasoner, embedder);

    std::vector<tte::Input> inputs;
    for (int i = 3; i < argc; ++i) {
      tte::Image image;
      image.source = std::filesystem::path(argv[i]);
      inputs.emplace_back(image);
      inputs.back().name = argv[i];  // Errors then speak of the file, not of item 0.
    }

    const tte::ThinkThenEmbedResult result = pair.run(inputs);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      std::printf("%s\n    %s\n", inputs[i].name.c_str(), result.traces[i]->text.c_str());
    }
    std::printf("cosine similarities\n");
    const std::vector<float> scores = tte::cosine(result.embeddings, result.embeddings);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      for (std::size_t j = 0; j < inputs.size(); ++j) std::printf("  %6.3f", scores[i * inputs.size() + j]);
      std::printf("\n");
    }
    std::printf("%.3f s on %s\n", result.stats.seconds, backend.device().c_str());
  } catch (const tte::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
